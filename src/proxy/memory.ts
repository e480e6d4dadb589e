/**
 * The memory that main thread and workers share. Counters: a region a worker, who alone writes it, summed by the main thread.
 * Gauges: one for all, changed with Atomics only, so that limits and least connections hold over all workers exactly.
 */
import { randomInt } from 'node:crypto';
import type { GuardParts } from '../access/guard.ts';
import { REFUSALS_LENGTH } from '../access/guard.ts';
import { SourceTable, sourceMemory } from '../access/source-table.ts';
import { ROOM } from '../layout/limits.ts';

export const { frontends: FRONTENDS, backends: BACKENDS, servers: SERVERS } = ROOM;
/** Rows of `queued`: those of one plan and of the one before it (rows.ts). */
const QUEUES = 2 * BACKENDS;

// Columns of a row of counters.
export const TOTAL = 0;
/** Payload bytes, client → server. */
export const TX = 1;
/** Payload bytes, server → client. */
export const RX = 2;
export const CONNECT_FAILURES = 3;
export const RETRIES = 4;
/** Of a frontend: connections for which there was no server, no place or no time. */
export const REFUSED = 5;
/** A cache line. */
const ROW = 8;

export interface Gauges {
  /** Connections of each server, those still opening included. */
  readonly loads: Int32Array;
  /** Established connections of each server. */
  readonly serverCurrent: Int32Array;
  /** Connections that each frontend has accepted: what its `maxconn` limits. */
  readonly accepted: Int32Array;
  /** Established connections of each frontend: those that have reached a server. */
  readonly frontendCurrent: Int32Array;
  /** Workers that hold an accepted connection of the frontend for which there is no room yet. */
  readonly holding: Int32Array;
  /** Connections that wait for a server of each backend. */
  readonly queued: Int32Array;
  /** One element: connections that all frontends have accepted. */
  readonly all: Int32Array;
}

export interface SharedMemory {
  readonly gauges: SharedArrayBuffer;
  /** One for each worker. */
  readonly counters: readonly SharedArrayBuffer[];
  /** The same of what frontends' rules about clients have refused (layout/counters.ts). */
  readonly refusals: readonly SharedArrayBuffer[];
  /** What is known of sources (access/source-table.ts), and the seed of their hashes. */
  readonly sources: Int32Array<SharedArrayBuffer>;
  readonly seed: number;
}

/** Connections whose sources there is room for. */
const SOURCES = 262_144;

export function createMemory(workers: number): SharedMemory {
  const words = 2 * SERVERS + 3 * FRONTENDS + QUEUES + 1;
  const bytes = (FRONTENDS + SERVERS) * ROW * Float64Array.BYTES_PER_ELEMENT;
  return {
    gauges: new SharedArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT),
    counters: Array.from({ length: workers }, () => new SharedArrayBuffer(bytes)),
    refusals: Array.from({ length: workers }, () => new SharedArrayBuffer(REFUSALS_LENGTH * Float64Array.BYTES_PER_ELEMENT)),
    sources: sourceMemory(SOURCES),
    seed: randomInt(2 ** 32) | 0,
  };
}

export function gaugesOf(memory: SharedArrayBuffer): Gauges {
  let offset = 0;
  const next = (length: number) => {
    const array = new Int32Array(memory, offset, length);
    offset += array.byteLength;
    return array;
  };
  return {
    loads: next(SERVERS),
    serverCurrent: next(SERVERS),
    accepted: next(FRONTENDS),
    frontendCurrent: next(FRONTENDS),
    holding: next(FRONTENDS),
    queued: next(QUEUES),
    all: next(1),
  };
}

/** What one worker has of it. */
export interface OwnMemory {
  readonly gauges: Gauges;
  readonly counters: Float64Array;
  readonly guards: GuardParts;
}

export function memoryOf({ gauges, counters, refusals, sources, seed }: SharedMemory, worker: number): OwnMemory {
  return {
    gauges: gaugesOf(gauges),
    counters: new Float64Array(counters[worker]),
    guards: { sources: new SourceTable(sources), refusals: new Float64Array(refusals[worker]), seed },
  };
}

/** Where a frontend's counters start. */
export function frontendRow(index: number): number {
  return index * ROW;
}

/** Where a server's counters start. */
export function serverRow(index: number): number {
  return (FRONTENDS + index) * ROW;
}

export function clearRow(counters: Float64Array, row: number): void {
  counters.fill(0, row, row + ROW);
}
