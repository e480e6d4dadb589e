/** The names and states behind a data path's numbers, for the statistics port. */

import type { Frontend } from '../config/model.ts';
import type { HostView, ServerView, View } from '../control/source.ts';
import type { HealthChecker } from '../health/checker.ts';
import type { DeadEnds } from './dead-ends.ts';
import type { Listening } from './listening.ts';
import { frontendKey, type Place, type Plan, type PlannedBackend } from './plan.ts';
import type { Roster } from './roster.ts';

/** How reloads went. */
export class ReloadHistory {
  #succeeded = 0;
  #failed = 0;
  #lastError: string | undefined;
  #at = Date.now();

  succeed(): void {
    this.#succeeded++;
    this.#lastError = undefined;
    this.#at = Date.now();
  }

  fail(reason: string): void {
    this.#failed++;
    this.#lastError = reason;
  }

  get view(): View['reload'] {
    const lastError = this.#lastError;
    return { succeeded: this.#succeeded, failed: this.#failed, lastSucceeded: lastError === undefined, lastError, at: this.#at / 1000 };
  }
}

export interface ViewParts {
  readonly plan: Plan;
  readonly health: HealthChecker;
  readonly frontends: Roster<Frontend>;
  readonly servers: Roster<Place>;
  readonly reload: ReloadHistory;
  readonly host: readonly HostView[];
  readonly listening: Pick<Listening, 'isSilent' | 'isFrontendSilent'>;
  readonly deadEnds: Pick<DeadEnds, 'of'>;
  readonly logLinesLost: number;
  readonly stopping: boolean;
}

export function viewOf(parts: ViewParts): View {
  const { plan, health, frontends, servers, reload, host, listening, deadEnds, logLinesLost, stopping } = parts;
  return {
    frontends: frontendsOf(plan, listening),
    retired: frontends.retired('', indexesOf(plan.frontends)),
    backends: plan.backends.map((backend) => ({
      name: backend.backend.name,
      retired: servers.retired(backend.backend.name, indexesOf(backend.servers)),
      servers: serversOf(backend, health, listening, deadEnds),
    })),
    reload: reload.view,
    host,
    logLinesLost,
    stopping,
  };
}

function indexesOf(planned: readonly { readonly index: number }[]): ReadonlySet<number> {
  return new Set(planned.map(({ index }) => index));
}

function frontendsOf({ frontends }: Plan, listening: ViewParts['listening']): View['frontends'] {
  const repeated = repeatedNames(frontends.map(({ frontend }) => frontend.name));
  return frontends.map(({ index, draining, frontend }) => {
    const { name, listen } = frontend;
    const silent = listening.isFrontendSilent(frontendKey(frontend));
    return { name: draining && repeated.has(name) ? `${name} (${listen.text})` : name, index, draining, silent };
  });
}

function serversOf(
  { backend: { name: backend }, servers }: PlannedBackend,
  health: HealthChecker,
  listening: ViewParts['listening'],
  deadEnds: ViewParts['deadEnds'],
): ServerView[] {
  const repeated = repeatedNames(servers.map(({ server }) => server.name));
  return servers.map(({ index, key, server: { name, addr, backup }, draining, weight, state }) => {
    const known = health.describe(key);
    return {
      name: draining && repeated.has(name) ? `${name} (${addr.text})` : name,
      address: addr.text,
      index,
      // As the data path goes by it: a change shows when it has taken effect.
      state: draining || weight === 0 ? 'drain' : state,
      weight,
      backup,
      damped: known?.damped ?? false,
      silent: listening.isSilent(key),
      deadEnds: deadEnds.of(backend, addr.ip),
      checkFailures: known?.failures ?? 0,
      checksUnmade: known?.unmade ?? 0,
      checkChanges: known?.falls ?? 0,
      lastCheck: known?.lastReason ?? '',
    };
  });
}

/** A name that moves to another address belongs to two or more until the first of them have drained. */
function repeatedNames(names: readonly string[]): ReadonlySet<string> {
  const seen = new Set<string>();
  return new Set(names.filter((name) => seen.size === seen.add(name).size));
}
