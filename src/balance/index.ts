/**
 * Schedulers by name. A choice is prepared where there is time for it (the main thread), crosses threads as plain data, and
 * becomes a scheduler where connections arrive.
 */
import { carp } from './carp.ts';
import { first } from './first.ts';
import { type GlbKeys, glb, prepareGlb, type Rank, type Rows } from './glb.ts';
import { rankRows } from './glb-table.ts';
import { leastconn, leastOf } from './leastconn.ts';
import { maglev, prepareMaglev, source } from './maglev.ts';
import { random } from './random.ts';
import { roundrobin } from './roundrobin.ts';
import { type Candidate, isFull, type Loads, leastLoaded, type Scheduler } from './scheduler.ts';
import { turnsMemory } from './turns.ts';

export { type GlbKeys, inRankOrder, type Rank, withoutPorts } from './glb.ts';
export { glbRow, HASH_FIELDS } from './glb-hash.ts';
export { GLB_STATES, type GlbState, hopsOf, primaryOf, rankRows, secondaryOf } from './glb-table.ts';
export { reserve } from './reserve.ts';
export { type Candidate, isFull, type Loads, leastLoaded, type Scheduler } from './scheduler.ts';

/** What a scheduler is made of. */
interface Prepared {
  /** Those that may be chosen; empty: none is left. */
  readonly candidates: readonly Candidate[];
  /** Maglev's lookup table, or GLB's, where there are candidates and the scheduler is one that hashes. */
  readonly table: Uint16Array | undefined;
  /** Whose turn it is (turns.ts), where there are candidates and they take turns; all threads that have the choice share it. */
  readonly turns: ArrayBufferLike | undefined;
  /** How packets find their row, where the table is GLB's. */
  readonly rows?: Rows;
}

interface Kind {
  /** `table`, `rows`: made on the main thread, of Maglev, or GLB. `turns`: servers take turns. */
  readonly needs?: 'table' | 'rows' | 'turns';
  /** The choice follows from client and servers alone. */
  readonly consistent?: true;
  /** What decides, for people. */
  readonly by: string;
  /** Positions of those of which it would choose one now; left out: any. */
  readonly among?: (prepared: Prepared, loads: Loads, address: number, port: number, to: number, toPort: number) => readonly number[];
  make(prepared: Prepared, loads: Loads): Scheduler;
}

/** Every scheduler there is: a new one is a file and a line here (and its words in config/schema/backend.ts). */
const KINDS = {
  carp: {
    consistent: true,
    by: "the highest score of CARP for the client's address",
    among: ({ candidates }, _, address, port) => [carp(candidates).pick(address, port)],
    make: ({ candidates }) => carp(candidates),
  },
  first: {
    by: 'the first in the order of the file that is not full',
    among: ({ candidates }, loads) => [first(candidates, loads).pick(0, 0)],
    make: ({ candidates }, loads) => first(candidates, loads),
  },
  glb: {
    needs: 'rows',
    consistent: true,
    by: "GLB's table, by a hash of what hash_fields names",
    among: ({ table, rows }, _, address, port, to, toPort) => [glb(table!, rows!).pick(address, port, to, toPort)],
    make: ({ table, rows }) => glb(table!, rows!),
  },
  leastconn: {
    needs: 'turns',
    by: 'the fewest connections for the weight; equals take turns',
    among: ({ candidates }, loads) => leastOf(candidates, loads),
    make: ({ candidates, turns }, loads) => leastconn(candidates, loads, turns!),
  },
  maglev: {
    needs: 'table',
    consistent: true,
    by: "a hash of the client's address and port",
    among: ({ table }, _, address, port) => [maglev(table!).pick(address, port)],
    make: ({ table }) => maglev(table!),
  },
  random: {
    by: 'two are drawn by lot, by weight, and the one with fewer connections for its weight is taken',
    make: ({ candidates }, loads) => random(candidates, loads),
  },
  roundrobin: {
    needs: 'turns',
    by: 'they take turns, by weight',
    make: ({ candidates, turns }) => roundrobin(candidates, turns!),
  },
  source: {
    needs: 'table',
    consistent: true,
    by: "a hash of the client's address",
    among: ({ table }, _, address, port) => [source(table!).pick(address, port)],
    make: ({ table }) => source(table!),
  },
} as const satisfies Record<string, Kind>;

export type SchedulerName = keyof typeof KINDS;

/** Their names, as a configuration file writes them. */
export const SCHEDULERS = Object.keys(KINDS) as readonly SchedulerName[];

/** A choice among servers, ready to be made. Plain data. */
export interface Choice extends Prepared {
  readonly scheduler: SchedulerName;
}

/** Those whose choice follows from client and servers alone, so that another balancer, or this one after a restart, chooses alike. */
export const consistent: ReadonlySet<SchedulerName> = new Set(SCHEDULERS.filter((name) => kindOf(name).consistent));

function kindOf(name: SchedulerName): Kind {
  return KINDS[name];
}

/** What GLB's table is made of, beside candidates. */
export interface GlbParts {
  readonly keys: GlbKeys;
  /** Slow, unless it is known already what comes of it. */
  readonly rank?: Rank | undefined;
}

/** Prepares a choice; `last`, the one before it, gives its table, or its turns, when the candidates are the same. */
export function prepare(scheduler: SchedulerName, candidates: readonly Candidate[], last?: Choice, parts?: GlbParts): Choice {
  const choice = { scheduler, candidates, table: undefined, turns: undefined };
  if (candidates.length === 0) return choice;
  const { needs } = kindOf(scheduler);
  if (needs === 'rows') {
    if (parts === undefined) throw new RangeError('balance = "glb" without its keys');
    const { keys, rank = rankRows } = parts;
    const isSame = last?.rows !== undefined && ranked(last.candidates, last.rows) === ranked(candidates, keys);
    return isSame ? { ...choice, table: last.table, rows: last.rows } : { ...choice, ...prepareGlb(candidates, keys, rank) };
  }
  if (needs === 'turns') {
    const goesOn = last !== undefined && isSameChoice(last, choice);
    return { ...choice, turns: goesOn ? last.turns : turnsMemory(candidates.length) };
  }
  if (needs === undefined) return choice;
  const isSame = last?.table !== undefined && hashed(last.candidates) === hashed(candidates);
  return { ...choice, table: isSame ? last.table : prepareMaglev(candidates) };
}

/** What goes into a table. */
function hashed(candidates: readonly Candidate[]): string {
  return JSON.stringify(candidates.map(({ name, weight }) => [name, weight]));
}

/** What goes into GLB's. */
function ranked(candidates: readonly Candidate[], { hashKey, seed, hashFields, altHashFields }: GlbKeys): string {
  return JSON.stringify([hashKey, seed, hashFields, altHashFields, candidates.map(({ name, standing }) => [name, standing])]);
}

/** Whether two choices are among the same candidates: then a scheduler of the one serves for the other, and keeps its state. */
export function isSameChoice(a: Choice, b: Choice): boolean {
  return (
    a.scheduler === b.scheduler &&
    JSON.stringify(a.rows) === JSON.stringify(b.rows) &&
    a.candidates.length === b.candidates.length &&
    a.candidates.every((one, i) => isSame(one, b.candidates[i]))
  );
}

function isSame(a: Candidate, b: Candidate): boolean {
  return a.index === b.index && a.weight === b.weight && a.maxconn === b.maxconn && a.name === b.name;
}

/** Makes the scheduler of a choice; undefined when there is nobody to choose. */
export function createScheduler({ scheduler, ...prepared }: Choice, loads: Loads): Scheduler | undefined {
  return prepared.candidates.length === 0 ? undefined : kindOf(scheduler).make(prepared, loads);
}

/** Whom a choice would fall on. */
export interface Foresight {
  /** Positions of the candidates with room of which it is one; empty: all are full, or there are none. */
  readonly among: readonly number[];
  /** What decides, for people. */
  readonly by: string;
  /** The one that the scheduler names, where that is full: then the least loaded of the others is taken. */
  readonly full: number | undefined;
}

/** What {@link Scheduler.pick} would come to, without taking anybody's turn. */
export function foresee({ scheduler, ...prepared }: Choice, loads: Loads, address: number, port: number, to = 0, toPort = 0): Foresight {
  const { candidates } = prepared;
  const { by, among } = kindOf(scheduler);
  if (candidates.length === 0) return { among: [], by, full: undefined };
  const named = among?.(prepared, loads, address, port, to, toPort) ?? candidates.map((_, i) => i);
  const open = named.filter((position) => !isFull(candidates[position], loads));
  if (open.length > 0) return { among: open, by, full: undefined };
  const instead = leastLoaded(candidates, loads, -1);
  return { among: instead < 0 ? [] : [instead], by, full: named.length === 1 ? named[0] : undefined };
}
