/** What crosses between the main thread and a worker. */
import type { Endings } from './endings.ts';
import type { ProxyFlow, ProxyQuery } from './flow-list.ts';
import type { SharedMemory } from './memory.ts';
import type { ProxyPlan } from './plan.ts';

/** A plan, and what the main thread has prepared for it. */
export interface Assignment {
  readonly plan: ProxyPlan;
  /** Listening descriptors of the main thread by frontend index; each worker duplicates those it accepts from. */
  readonly listeners: ReadonlyMap<number, number>;
  /** Rows of the `queued` gauge by backend name. */
  readonly queueRows: ReadonlyMap<string, number>;
}

export interface WorkerData {
  readonly memory: SharedMemory;
  /** Which region of counters is this worker's. */
  readonly worker: number;
  readonly assignment: Assignment;
}

export type ToWorker =
  | { readonly type: 'assign'; readonly assignment: Assignment }
  | { readonly type: 'stop'; readonly graceMs: number }
  | Question;

/** Each is answered. */
export type Question =
  /** Whether it lives. */
  | { readonly type: 'pulse' }
  /** `limit` of those that fit, at most. */
  | { readonly type: 'list'; readonly query: ProxyQuery; readonly limit: number }
  /** Resets them. */
  | { readonly type: 'end'; readonly query: ProxyQuery };

export interface Answer {
  readonly type: 'answer';
  readonly flows: readonly ProxyFlow[];
  /** How many were reset. */
  readonly ended: number;
}

export type FromWorker =
  /** The last assignment is in force, what it removed is gone. */
  | { readonly type: 'applied' }
  /** To a question, in their order. */
  | Answer
  | { readonly type: 'signal'; readonly server: number; readonly reason: string }
  /** Connections have ended, and the connection log is on. */
  | { readonly type: 'ended'; readonly endings: Endings }
  | { readonly type: 'warn'; readonly fields: object; readonly message: string };
