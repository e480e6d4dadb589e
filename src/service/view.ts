/** The names and states behind a data path's numbers, for the statistics port. */

import type { Frontend } from '../config/model.ts';
import type { View } from '../control/source.ts';
import type { HealthChecker } from '../health/checker.ts';
import type { Place, Plan, PlannedBackend, PlannedServer } from './plan.ts';
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
    const { lastError } = { lastError: this.#lastError };
    return { succeeded: this.#succeeded, failed: this.#failed, lastSucceeded: lastError === undefined, lastError, at: this.#at / 1000 };
  }
}

export interface ViewParts {
  readonly plan: Plan;
  readonly health: HealthChecker;
  readonly frontends: Roster<Frontend>;
  readonly servers: Roster<Place>;
  readonly reload: ReloadHistory;
  readonly stopping: boolean;
}

export function viewOf({ plan, health, frontends, servers, reload, stopping }: ViewParts): View {
  const here = plan.frontends.filter(({ draining }) => !draining);
  const leaving = plan.frontends.filter(({ draining }) => draining);
  return {
    frontends: here.map(({ index, frontend }) => ({ name: frontend.name, index })),
    leaving: leaving.map(({ index }) => index),
    retired: frontends.retired(''),
    backends: plan.backends.map((backend) => ({
      name: backend.backend.name,
      retired: servers.retired(backend.backend.name),
      servers: serversOf(backend, health),
    })),
    reload: reload.view,
    stopping,
  };
}

function serversOf({ backend, servers }: PlannedBackend, health: HealthChecker): View['backends'][number]['servers'] {
  const names = new Set(servers.filter(({ draining }) => !draining).map(({ server }) => server.name));
  return servers.map((planned) => ({
    // A name that moved to another address is two servers until the first has drained.
    name: planned.draining && names.has(planned.server.name) ? `${planned.server.name} (${planned.server.addr.text})` : planned.server.name,
    address: planned.server.addr.text,
    index: planned.index,
    backup: planned.server.backup,
    weight: planned.weight,
    ...healthOf(planned, health),
    backend: backend.name,
  }));
}

function healthOf({ key, draining }: PlannedServer, health: HealthChecker) {
  const { state, damped, failures, changes, lastReason } = health.describe(key);
  return {
    state: draining ? ('drain' as const) : state,
    damped,
    checkFailures: failures,
    checkChanges: changes,
    lastCheck: lastReason,
  };
}
