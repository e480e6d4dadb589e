/**
 * The memory that main thread and worker share, in parts: each may be a piece of one mapping, as here, or a memfd, a named
 * memory or a mapped BPF map of its own. Whoever uses a part does not know which.
 *
 *     | header | counters: verdicts, gauges, statistics, loads | next hops | flows | connections |
 *
 * Every part has one writer. The worker writes all of them except the header and the servers' next hops, which are the main
 * thread's. Readers need no lock: words are read whole, and counters only grow.
 */

import { RECORD } from './connection.ts';
import { GAUGES, LOADS_LENGTH, STATISTICS_LENGTH, VERDICTS } from './counters.ts';
import { ENTRY, PROBES } from './flow.ts';
import { CAPACITY, CONNECTIONS, HEADER_WORDS, LAYOUT, LAYOUT_VERSION, MAGIC, MAGIC_WORD } from './header.ts';
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
  readonly connections: Int32Array;
  readonly hops: Int32Array;
  readonly counters: Counters;
}

/** Words of the flow table: `capacity` homes, where the probes of the last one end, then the scratch entry. */
export function flowWords(capacity: number): number {
  return (capacity + PROBES) * ENTRY;
}

/** Homes of the flow table in memory of {@link flowWords}. */
export function homesIn(flows: Int32Array): number {
  return flows.length / ENTRY - PROBES;
}

/** How large the parts are. */
export interface Room {
  /** Homes of the flow table (flow/table.ts: tableCapacity). */
  readonly capacity: number;
  /** Connections at most. */
  readonly connections: number;
}

/** Bytes of one mapping with all parts. */
export function memorySize(room: Room): number {
  return offsets(room).end;
}

/** The parts of a mapping of {@link memorySize} bytes. */
export function memoryIn(mapping: ArrayBuffer, room: Room): Memory {
  const { capacity, connections } = room;
  const at = offsets(room);
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
    connections: new Int32Array(mapping, at.connections, connections * RECORD),
  };
}

/** Memory of one's own, zeroed: for the benchmark and for tests. */
export function ownMemory(room: Room): Memory {
  return memoryIn(new ArrayBuffer(memorySize(room)), room);
}

/** Says in the header what the memory holds, so that another process can tell. The magic is written last. */
export function writeHeader({ header }: Memory, { capacity, connections }: Room): void {
  header[LAYOUT] = LAYOUT_VERSION;
  header[CAPACITY] = capacity;
  header[CONNECTIONS] = connections;
  header[MAGIC_WORD] = MAGIC;
}

function offsets({ capacity, connections: records }: Room) {
  const header = 0;
  const verdicts = align(header + HEADER_WORDS * 4);
  const gauges = align(verdicts + VERDICTS * 8);
  const statistics = align(gauges + GAUGES * 8);
  const loads = align(statistics + STATISTICS_LENGTH * 8);
  const hops = align(loads + LOADS_LENGTH * 4);
  const flows = align(hops + HOPS * HOP * 4);
  const connections = flows + flowWords(capacity) * 4;
  const end = connections + records * RECORD * 4;
  return { header, verdicts, gauges, statistics, loads, hops, flows, connections, end };
}

function align(offset: number): number {
  return Math.ceil(offset / LINE) * LINE;
}
