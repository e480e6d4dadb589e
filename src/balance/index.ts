import { maglev } from './maglev.ts';
import { roundrobin } from './roundrobin.ts';
import type { SchedulerFactory } from './scheduler.ts';

export type { Candidate, Scheduler } from './scheduler.ts';

/** Every scheduler by the name that `balance = "…"` uses. */
export const schedulers = { maglev, roundrobin } satisfies Record<string, SchedulerFactory>;

/** Those whose choice follows from client and servers alone, so that another balancer, or this one after a restart, chooses alike. */
export const consistent: ReadonlySet<string> = new Set<keyof typeof schedulers>(['maglev']);

export type SchedulerName = keyof typeof schedulers;
