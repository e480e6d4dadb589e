/**
 * GLB's tables take what checks say at most once in `health_hold`: a check that flaps does not swap rows, and move connections, at each of its changes. The first change
 * after a rest is taken at once, and the first result of each server.
 */
import type { Backend, Config } from '../config/model.ts';
import type { Health } from '../health/checker.ts';
import { checkKey } from './members.ts';

/** What one table goes by. Times are on the monotonic clock. */
interface Table {
  /** By the keys of checks. */
  readonly taken: ReadonlyMap<string, Health>;
  /** When a server was last taken for well, or for ill, that was not before. */
  readonly changedAt: number;
  /** When those that are otherwise by now are taken; undefined: none is. */
  readonly dueAt: number | undefined;
}

const NEW: Table = { taken: new Map(), changedAt: Number.NEGATIVE_INFINITY, dueAt: undefined };

export class HealthHold {
  readonly #due: () => void;
  /** By the names of backends, those of the last configuration. */
  #tables: ReadonlyMap<string, Table> = new Map();
  #timer: NodeJS.Timeout | undefined;

  /** @param due something that was held may be taken: a plan is due */
  constructor(due: () => void) {
    this.#due = due;
  }

  /** Takes what may be taken by now. To be called before a plan is made. @param state by the key of a check */
  follow({ backends }: Config, state: (key: string) => Health, now = performance.now()): void {
    const held = backends.filter(({ healthHoldMs, healthCheck }) => healthHoldMs !== undefined && healthCheck.type !== 'none');
    this.#tables = new Map(held.map((backend) => [backend.name, take(this.#tables.get(backend.name) ?? NEW, backend, state, now)]));
    clearTimeout(this.#timer);
    const next = Math.min(...[...this.#tables.values()].map(({ dueAt = Infinity }) => dueAt));
    this.#timer = next === Infinity ? undefined : setTimeout(this.#due, next - now);
  }

  /** What the table takes a server for; undefined: it is not held. */
  health(backend: string, key: string): Health | undefined {
    return this.#tables.get(backend)?.taken.get(key);
  }

  /** Milliseconds until what the checks of a server say by now is taken; undefined: it is. */
  waits(backend: string, key: string, health: Health, now = performance.now()): number | undefined {
    const { taken, dueAt } = this.#tables.get(backend) ?? NEW;
    const last = taken.get(key);
    return last === undefined || dueAt === undefined || !differs(last, health) ? undefined : Math.max(0, dueAt - now);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

function take({ taken: before, changedAt }: Table, backend: Backend, state: (key: string) => Health, now: number): Table {
  const { healthHoldMs = 0, servers } = backend;
  const restedAt = changedAt + healthHoldMs;
  const taken = new Map<string, Health>();
  let hasChanged = false;
  let isHeld = false;
  for (const server of servers) {
    const key = checkKey(backend, server);
    const last = before.get(key) ?? 'unknown';
    const health = state(key);
    const waits = last !== 'unknown' && differs(last, health) && now < restedAt;
    taken.set(key, waits ? last : health);
    hasChanged ||= !waits && differs(last, health);
    isHeld ||= waits;
  }
  return { taken, changedAt: hasChanged ? now : changedAt, dueAt: isHeld ? (hasChanged ? now : changedAt) + healthHoldMs : undefined };
}

/** To a table a server is well or not; one that nobody knows is. */
function differs(last: Health, now: Health): boolean {
  return (last === 'down') !== (now === 'down');
}
