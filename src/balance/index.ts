import { maglev } from './maglev.ts';
import { roundrobin } from './roundrobin.ts';
import type { SchedulerFactory } from './scheduler.ts';

export type { Candidate, Scheduler } from './scheduler.ts';

/** Every scheduler by the name that `balance = "…"` uses. */
export const schedulers = { maglev, roundrobin } satisfies Record<string, SchedulerFactory>;

export type SchedulerName = keyof typeof schedulers;
