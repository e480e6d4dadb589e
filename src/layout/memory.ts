/**
 * The memory that main thread and workers share, in parts: pieces of one mapping, but for flows and next hops where the kernel's fast path goes
 * by them, too: those are BPF maps then, of all workers one after the other. Whoever uses a part does not know which.
 *
 *     | header | loads | ways | affinity | worker 0: verdicts, gauges, statistics, places, refusals, next hops, flows, connections | worker 1: … |
 *
 * Workers share the loads, which limits are held by, and change them atomically, and the clients' servers, a set at a time (affinity.ts). Every other part has one writer: the main thread
 * the header, but for its ATTEMPTS, the ways, and the servers' next hops, of which each worker has a copy; a worker all else that is its own.
 * Readers need no lock: words are read whole, and counters only grow.
 */

import { affinitySets, SET } from './affinity.ts';
import { RECORD } from './connection.ts';
import { GAUGES, LOADS_LENGTH, PLACE, REFUSALS_LENGTH, STATISTICS_LENGTH, VERDICTS } from './counters.ts';
import { LINE_WORDS, WORKER_LINES } from './early-drop.ts';
import { ENTRY, PROBES, READ_AHEAD } from './flow.ts';
import { HEADER_WORDS, KEY } from './header.ts';
import { ENTRIES, HOP, SERVER_HOPS, WAY } from './hops.ts';

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
  readonly refusals: Float64Array;
}

/** What one worker uses. */
export interface Memory {
  /** All workers'. */
  readonly header: Int32Array;
  /** All workers': what the places of the servers' next hops stand for. */
  readonly ways: Int32Array;
  readonly flows: Int32Array;
  readonly connections: Int32Array;
  /** All workers'. */
  readonly affinity: Int32Array;
  readonly hops: Int32Array;
  readonly counters: Counters;
  /** WORKER_LINES of early-drop.ts, where the kernel's fast path goes by them as well; they are not kept. */
  readonly syns?: Int32Array | undefined;
}

/**
 * Words of the flow table: `capacity` homes, where the probes of the last one end, then the entry that is never live, the scratch entry, and
 * what else READ_AHEAD reads of the table's memory.
 */
export function flowWords(capacity: number): number {
  return flowEntries(capacity) * ENTRY;
}

/** Entries of a flow table with that many homes, those behind the last of them included. */
export function flowEntries(capacity: number): number {
  return capacity + BEHIND_HOMES;
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
  /** Flows and next hops are in the kernel's maps. */
  readonly isInKernel?: boolean;
  /** The kernel's program is for one that stands between interfaces. */
  readonly isInline?: boolean;
}

/** The kernel's maps, each whole. */
export interface KernelMaps {
  readonly flows: ArrayBuffer;
  readonly hops: ArrayBuffer;
  /** {@link synLines} lines. */
  readonly syns: ArrayBuffer;
}

/** Lines of all workers' SYN guards (early-drop.ts). */
export function synLines(workers: number): number {
  return 1 + workers * WORKER_LINES;
}

/** A worker's. */
export function synsOf({ syns }: Pick<KernelMaps, 'syns'>, worker: number): Int32Array {
  return new Int32Array(syns, synLines(worker) * LINE_WORDS * 4, WORKER_LINES * LINE_WORDS);
}

/** Bytes of one mapping with all parts. */
export function memorySize(room: Room): number {
  return offsets(room, room.workers).verdicts;
}

/**
 * The parts of a mapping of {@link memorySize} bytes that are of a worker, 0 and up.
 * @param maps where the others are; they are there if the room says so
 */
export function memoryIn(mapping: ArrayBuffer, room: Room, worker: number, maps?: KernelMaps): Memory {
  const { capacity, connections } = room;
  const at = offsets(room, worker);
  const hopBytes = ENTRIES * HOP * 4;
  const flowBytes = flowWords(capacity) * 4;
  return {
    header: new Int32Array(mapping, 0, HEADER_WORDS),
    ways: new Int32Array(mapping, WAYS_AT, WAYS_LENGTH),
    affinity: new Int32Array(mapping, AFFINITY_AT, affinityWords(room)),
    counters: {
      verdicts: new Float64Array(mapping, at.verdicts, VERDICTS),
      gauges: new Float64Array(mapping, at.gauges, GAUGES),
      statistics: new Float64Array(mapping, at.statistics, STATISTICS_LENGTH),
      loads: new Int32Array(mapping, LOADS_AT, LOADS_LENGTH),
      places: new Int32Array(mapping, at.places, LOADS_LENGTH * PLACE),
      refusals: new Float64Array(mapping, at.refusals, REFUSALS_LENGTH),
    },
    hops: maps ? new Int32Array(maps.hops, worker * hopBytes, ENTRIES * HOP) : new Int32Array(mapping, at.hops, ENTRIES * HOP),
    flows: maps
      ? new Int32Array(maps.flows, worker * flowBytes, flowWords(capacity))
      : new Int32Array(mapping, at.flows, flowWords(capacity)),
    connections: new Int32Array(mapping, at.connections, connections * RECORD),
    ...(maps && { syns: synsOf(maps, worker) }),
  };
}

/** Memory of one's own for one worker, zeroed: for the benchmark and for tests. */
export function ownMemory(size: Pick<Room, 'capacity' | 'connections'>): Memory {
  const room = { ...size, workers: 1, isInKernel: false };
  return memoryIn(new ArrayBuffer(memorySize(room)), room, 0);
}

/** The hash key of a header. */
export function keyIn(header: Int32Array): HashKey {
  return [header[KEY], header[KEY + 1], header[KEY + 2], header[KEY + 3]];
}

const LOADS_AT = align(HEADER_WORDS * 4);
const WAYS_AT = align(LOADS_AT + LOADS_LENGTH * 4);
const WAYS_LENGTH = SERVER_HOPS * WAY;
const AFFINITY_AT = align(WAYS_AT + WAYS_LENGTH * 4);

/** All of them are there from the start (native/shared_memory.cc): nobody is to die of a page that the host has no more. */
function affinityWords({ connections, workers }: Room): number {
  return affinitySets(connections * workers) * SET;
}

/** Where a worker's parts are. */
function offsets(room: Room, worker: number) {
  const { capacity, connections: records, isInKernel } = room;
  const begin = align(AFFINITY_AT + affinityWords(room) * 4);
  const gauges = align(VERDICTS * 8);
  const statistics = align(gauges + GAUGES * 8);
  const places = align(statistics + STATISTICS_LENGTH * 8);
  const refusals = align(places + LOADS_LENGTH * PLACE * 4);
  const hops = align(refusals + REFUSALS_LENGTH * 8);
  const flows = align(hops + (isInKernel ? 0 : ENTRIES * HOP * 4));
  const connections = align(flows + (isInKernel ? 0 : flowWords(capacity) * 4));
  const end = align(connections + records * RECORD * 4);
  const at = begin + worker * end;
  return {
    verdicts: at,
    gauges: at + gauges,
    statistics: at + statistics,
    places: at + places,
    refusals: at + refusals,
    hops: at + hops,
    flows: at + flows,
    connections: at + connections,
  };
}

function align(offset: number): number {
  return Math.ceil(offset / LINE) * LINE;
}
