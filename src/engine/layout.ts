/**
 * The memory that main thread and worker share, in one piece, so that another process can map it whole:
 *
 *     | verdicts | gauges | statistics | loads | next hops | flow table … |
 *
 * Every region has one writer. The worker writes all of them except the servers' next hops, which are the main
 * thread's (forward/next-hops.ts). Readers need no lock: words are read whole, and counters only grow.
 */
import { PROBES, tableWords } from '../flow/table.ts';
import { HOP, HOPS } from '../forward/next-hops.ts';
import { LOADS_LENGTH, STATISTICS_LENGTH } from '../forward/statistics.ts';

const LINE = 64;
const VERDICTS = 64;
const GAUGES = 16;

// Rows of `gauges`.
export const RECEIVED = 0;
/** Frames lost because the receive ring was full. */
export const DROPPED = 1;
/** Frames the kernel refused to send. */
export const TRANSMIT_FAILED = 2;
/** Live entries of the flow table. */
export const FLOWS = 3;

export interface Regions {
  readonly verdicts: Float64Array;
  readonly gauges: Float64Array;
  readonly statistics: Float64Array;
  readonly loads: Int32Array;
  readonly hops: Int32Array;
  readonly flows: Int32Array;
}

/** Slots of a table that is at most half full with both directions of that many connections: a power of two. */
export function tableCapacity(connections: number): number {
  return Math.max(2 * PROBES, 2 ** Math.ceil(Math.log2(connections * 4)));
}

/** Bytes needed for a table of `capacity` slots and everything beside it. */
export function memorySize(capacity: number): number {
  return offsets(capacity).end;
}

/** The regions of a mapping of {@link memorySize} bytes. */
export function regionsOf(memory: ArrayBuffer, capacity: number): Regions {
  const at = offsets(capacity);
  return {
    verdicts: new Float64Array(memory, at.verdicts, VERDICTS),
    gauges: new Float64Array(memory, at.gauges, GAUGES),
    statistics: new Float64Array(memory, at.statistics, STATISTICS_LENGTH),
    loads: new Int32Array(memory, at.loads, LOADS_LENGTH),
    hops: new Int32Array(memory, at.hops, HOPS * HOP),
    flows: new Int32Array(memory, at.flows, tableWords(capacity)),
  };
}

function offsets(capacity: number) {
  const verdicts = 0;
  const gauges = align(verdicts + VERDICTS * 8);
  const statistics = align(gauges + GAUGES * 8);
  const loads = align(statistics + STATISTICS_LENGTH * 8);
  const hops = align(loads + LOADS_LENGTH * 4);
  const flows = align(hops + HOPS * HOP * 4);
  return { verdicts, gauges, statistics, loads, hops, flows, end: flows + tableWords(capacity) * 4 };
}

function align(offset: number): number {
  return Math.ceil(offset / LINE) * LINE;
}
