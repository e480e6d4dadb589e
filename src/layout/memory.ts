/**
 * The memory that main thread and workers share, in parts: each may be a piece of one mapping, as here, or a memfd, a named
 * memory or a mapped BPF map of its own. Whoever uses a part does not know which.
 *
 *     | header | loads | worker 0: verdicts, gauges, statistics, places, next hops, flows, connections | worker 1: … |
 *
 * Workers share the loads alone, which limits are held by, and change them atomically. Every other part has one writer: the main thread
 * the header, but for its ATTEMPTS, and the servers' next hops, of which each worker has a copy; a worker all else that is its own.
 * Readers need no lock: words are read whole, and counters only grow.
 */

import { RECORD } from './connection.ts';
import { GAUGES, LOADS_LENGTH, PLACE, STATISTICS_LENGTH, VERDICTS } from './counters.ts';
import { ENTRY, PROBES, READ_AHEAD } from './flow.ts';
import {
  ATTEMPTS,
  BOOT,
  CAPACITY,
  CONNECTIONS,
  DIRECTIONS,
  HEADER_WORDS,
  KEY,
  LAYOUT,
  LAYOUT_VERSION,
  MAGIC,
  MAGIC_WORD,
  NETWORK,
  WORKERS,
} from './header.ts';
import { HOP, HOPS } from './hops.ts';

const LINE = 64;

/** Counters, by who counts: layout/counters.ts. */
export interface Counters {
  /** One a verdict. */
  readonly verdicts: Float64Array;
  readonly gauges: Float64Array;
  readonly statistics: Float64Array;
  /** All workers'. */
  readonly loads: Int32Array;
  readonly places: Int32Array;
}

/** What one worker uses. */
export interface Memory {
  /** All workers'. */
  readonly header: Int32Array;
  readonly flows: Int32Array;
  readonly connections: Int32Array;
  readonly hops: Int32Array;
  readonly counters: Counters;
}

/**
 * Words of the flow table: `capacity` homes, where the probes of the last one end, then the entry that is never live, the scratch entry, and
 * what else READ_AHEAD reads of the table's memory.
 */
export function flowWords(capacity: number): number {
  return (capacity + BEHIND_HOMES) * ENTRY;
}
const BEHIND_HOMES = PROBES - 1 + READ_AHEAD;

/** Homes of the flow table in memory of {@link flowWords}. */
export function homesIn(flows: Int32Array): number {
  return flows.length / ENTRY - BEHIND_HOMES;
}

/** The three multipliers and the seed of the flow table's hash: random, odd multipliers. */
export type HashKey = readonly [seed: number, first: number, second: number, third: number];

/** How large the parts are. */
export interface Room {
  /** Homes of a worker's flow table (flow/table.ts: tableCapacity). */
  readonly capacity: number;
  /** A worker's connections at most. */
  readonly connections: number;
  readonly workers: number;
}

/** Bytes of one mapping with all parts. */
export function memorySize(room: Room): number {
  return offsets(room, room.workers).verdicts;
}

/** The parts of a mapping of {@link memorySize} bytes that are of a worker, 0 and up. */
export function memoryIn(mapping: ArrayBuffer, room: Room, worker: number): Memory {
  const { capacity, connections } = room;
  const at = offsets(room, worker);
  return {
    header: new Int32Array(mapping, 0, HEADER_WORDS),
    counters: {
      verdicts: new Float64Array(mapping, at.verdicts, VERDICTS),
      gauges: new Float64Array(mapping, at.gauges, GAUGES),
      statistics: new Float64Array(mapping, at.statistics, STATISTICS_LENGTH),
      loads: new Int32Array(mapping, LOADS_AT, LOADS_LENGTH),
      places: new Int32Array(mapping, at.places, LOADS_LENGTH * PLACE),
    },
    hops: new Int32Array(mapping, at.hops, HOPS * HOP),
    flows: new Int32Array(mapping, at.flows, flowWords(capacity)),
    connections: new Int32Array(mapping, at.connections, connections * RECORD),
  };
}

/** Memory of one's own for one worker, zeroed: for the benchmark and for tests. */
export function ownMemory(size: Omit<Room, 'workers'>): Memory {
  const room = { ...size, workers: 1 };
  return memoryIn(new ArrayBuffer(memorySize(room)), room, 0);
}

/** What tells whether memory can be gone on with. */
export interface Origin {
  readonly room: Room;
  readonly directions: number;
  /** Four words: the host's boot id. */
  readonly boot: Int32Array;
  /** Two words: the network namespace's cookie. */
  readonly network: Int32Array;
  /** That cookie, or its being the host's own, tells it from one that is gone and had the same inode number. */
  readonly isUnmistakable: boolean;
}

/** So many processes may have begun to take it up, and died of that. */
const MOST_ATTEMPTS = 3;

/** Says in the header what the memory holds, so that another process can tell. The magic is written last. */
export function writeHeader({ header }: Memory, { room, directions, boot, network }: Origin, key: HashKey): void {
  header[LAYOUT] = LAYOUT_VERSION;
  header[CAPACITY] = room.capacity;
  header[CONNECTIONS] = room.connections;
  header[DIRECTIONS] = directions;
  header[WORKERS] = room.workers;
  header.set(key, KEY);
  header.set(boot, BOOT);
  header.set(network, NETWORK);
  header[MAGIC_WORD] = MAGIC;
}

/** Why nobody can follow where {@link Origin.isUnmistakable} is false. */
export const UNTOLD = 'this kernel does not tell a network namespace from one that is gone (Linux 5.14 does)';

/** Why who was here before, by its header, cannot be followed; undefined: it can. */
export function obstacleIn(header: Int32Array, { room, directions, boot, network, isUnmistakable }: Origin): string | undefined {
  const is = (words: Int32Array, at: number) => words.every((word, i) => header[at + i] === word);
  if (header.length < HEADER_WORDS || header[MAGIC_WORD] !== MAGIC) return 'it is not complete';
  if (header[LAYOUT] !== LAYOUT_VERSION) return `its layout is version ${header[LAYOUT]}, this lb4 has version ${LAYOUT_VERSION}`;
  if (!is(boot, BOOT)) return 'it is from before this host was started';
  if (!is(network, NETWORK)) return 'it is of a network namespace that is gone';
  if (!isUnmistakable) return UNTOLD;
  if (header[DIRECTIONS] !== directions) return 'it is of the other packet mode';
  if (header[WORKERS] !== room.workers) return `it was written by lb4 with workers = ${header[WORKERS]}, it is ${room.workers} now`;
  if (header[CONNECTIONS] !== room.connections || header[CAPACITY] !== room.capacity)
    return `it has room for ${header[CONNECTIONS] * room.workers} connections, connection_tracker_capacity is ${room.connections * room.workers} now`;
  if (!isSound(header)) return `${header[ATTEMPTS]} starts failed with it`;
  return undefined;
}

/** Whether what is there may be taken up: false once that has failed too often. */
export function isSound(header: Int32Array): boolean {
  return header[ATTEMPTS] < MOST_ATTEMPTS;
}

/** The hash key of a header. */
export function keyIn(header: Int32Array): HashKey {
  return [header[KEY], header[KEY + 1], header[KEY + 2], header[KEY + 3]];
}

const LOADS_AT = align(HEADER_WORDS * 4);

/** Where a worker's parts are. */
function offsets({ capacity, connections: records }: Room, worker: number) {
  const begin = align(LOADS_AT + LOADS_LENGTH * 4);
  const gauges = align(VERDICTS * 8);
  const statistics = align(gauges + GAUGES * 8);
  const places = align(statistics + STATISTICS_LENGTH * 8);
  const hops = align(places + LOADS_LENGTH * PLACE * 4);
  const flows = align(hops + HOPS * HOP * 4);
  const connections = flows + flowWords(capacity) * 4;
  const end = align(connections + records * RECORD * 4);
  const at = begin + worker * end;
  return {
    verdicts: at,
    gauges: at + gauges,
    statistics: at + statistics,
    places: at + places,
    hops: at + hops,
    flows: at + flows,
    connections: at + connections,
  };
}

function align(offset: number): number {
  return Math.ceil(offset / LINE) * LINE;
}
