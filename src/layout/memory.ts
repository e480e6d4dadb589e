/**
 * The memory that main thread and worker share, in parts: each may be a piece of one mapping, as here, or a memfd, a named
 * memory or a mapped BPF map of its own. Whoever uses a part does not know which.
 *
 *     | header | counters: verdicts, gauges, statistics, loads | next hops | flows … |
 *
 * Every part has one writer. The worker writes all of them except the header and the servers' next hops, which are the main
 * thread's. Readers need no lock: words are read whole, and counters only grow.
 */
import { GAUGES, LOADS_LENGTH, STATISTICS_LENGTH, VERDICTS } from './counters.ts';
import { ENTRY } from './flow.ts';
import { CAPACITY, HEADER_WORDS, LAYOUT, LAYOUT_VERSION, MAGIC, MAGIC_WORD } from './header.ts';
import { HOP, HOPS } from './hops.ts';

const LINE = 64;

/** Counters, by who counts: layout/counters.ts. */
export interface Counters {
  /** One a verdict. */
  readonly verdicts: Float64Array;
  readonly gauges: Float64Array;
  readonly statistics: Float64Array;
  readonly loads: Int32Array;
}

export interface Memory {
  readonly header: Int32Array;
  readonly flows: Int32Array;
  readonly hops: Int32Array;
  readonly counters: Counters;
}

/** Words of the flow table: `capacity` slots, then the scratch entry. */
export function flowWords(capacity: number): number {
  return (capacity + 1) * ENTRY;
}

/** Bytes of one mapping with all parts, for a flow table of `capacity` slots. */
export function memorySize(capacity: number): number {
  return offsets(capacity).end;
}

/** The parts of a mapping of {@link memorySize} bytes. */
export function memoryIn(mapping: ArrayBuffer, capacity: number): Memory {
  const at = offsets(capacity);
  return {
    header: new Int32Array(mapping, at.header, HEADER_WORDS),
    counters: {
      verdicts: new Float64Array(mapping, at.verdicts, VERDICTS),
      gauges: new Float64Array(mapping, at.gauges, GAUGES),
      statistics: new Float64Array(mapping, at.statistics, STATISTICS_LENGTH),
      loads: new Int32Array(mapping, at.loads, LOADS_LENGTH),
    },
    hops: new Int32Array(mapping, at.hops, HOPS * HOP),
    flows: new Int32Array(mapping, at.flows, flowWords(capacity)),
  };
}

/** Memory of one's own, zeroed: for the benchmark and for tests. */
export function ownMemory(capacity: number): Memory {
  return memoryIn(new ArrayBuffer(memorySize(capacity)), capacity);
}

/** Says in the header what the memory holds, so that another process can tell. The magic is written last. */
export function writeHeader({ header }: Memory, capacity: number): void {
  header[LAYOUT] = LAYOUT_VERSION;
  header[CAPACITY] = capacity;
  header[MAGIC_WORD] = MAGIC;
}

function offsets(capacity: number) {
  const header = 0;
  const verdicts = align(header + HEADER_WORDS * 4);
  const gauges = align(verdicts + VERDICTS * 8);
  const statistics = align(gauges + GAUGES * 8);
  const loads = align(statistics + STATISTICS_LENGTH * 8);
  const hops = align(loads + LOADS_LENGTH * 4);
  const flows = align(hops + HOPS * HOP * 4);
  return { header, verdicts, gauges, statistics, loads, hops, flows, end: flows + flowWords(capacity) * 4 };
}

function align(offset: number): number {
  return Math.ceil(offset / LINE) * LINE;
}
