/** The names and states behind a data path's numbers, for the statistics port. */

import type { ServerState, ServerView, View } from '../control/source.ts';
import type { HealthChecker } from '../health/checker.ts';
import { rulesOf, unlimitedColumnOf } from './access.ts';
import { indexesOf } from './books.ts';
import type { DataPath } from './data-path.ts';
import { frontendKey, type Members } from './members.ts';
import type { Monitors } from './monitors.ts';
import type { Plan, PlannedBackend, PlannedServer } from './plan.ts';
import type { ReloadHistory } from './reload.ts';

export interface ViewParts {
  readonly plan: Plan;
  readonly health: HealthChecker;
  readonly members: Members;
  readonly path: DataPath;
  readonly reload: ReloadHistory;
  readonly monitors: Pick<Monitors, 'host' | 'listening' | 'deadEnds'>;
  readonly logLinesLost: number;
  readonly connectionLog: View['connectionLog'];
  readonly discoveryFailing: number;
  readonly stopping: boolean;
}

export function viewOf(parts: ViewParts): View {
  const { plan, health, members, path, reload, monitors, logLinesLost, connectionLog, discoveryFailing, stopping } = parts;
  return {
    frontends: frontendsOf(plan, monitors),
    retired: members.frontends.retired('', (index) => path.frontend(index), indexesOf(plan.frontends)),
    backends: plan.backends.map((backend) => ({
      name: labelOf(backend.backend),
      protocol: backend.backend.protocol.name,
      balance: backend.choice.scheduler,
      retired: members.servers.retired(backend.backend.name, (index) => path.server(index), indexesOf(backend.servers)),
      servers: serversOf(backend, health, monitors),
    })),
    reload: reload.view,
    host: monitors.host,
    logLinesLost,
    connectionLog,
    discoveryFailing,
    stopping,
  };
}

/** As the file has it. */
export function labelOf({ name, label = name }: { readonly name: string; readonly label?: string }): string {
  return label;
}

function frontendsOf({ frontends }: Plan, { listening }: ViewParts['monitors']): View['frontends'] {
  const repeated = repeatedNames(frontends.map(({ frontend }) => frontend.name));
  return frontends.map(({ index, draining, frontend }) => {
    const { name, label = name, listen, backend } = frontend;
    const silent = listening.isFrontendSilent(frontendKey(frontend));
    const shown = draining && repeated.has(name) ? `${label} (${listen.text})` : label;
    return {
      name: shown,
      protocol: backend.protocol.name,
      address: listen.text,
      backend: labelOf(backend),
      index,
      draining,
      silent,
      rules: rulesOf(frontend),
      unlimitedColumn: unlimitedColumnOf(frontend),
    };
  });
}

function serversOf(
  { backend: { name: backend }, servers }: PlannedBackend,
  health: HealthChecker,
  { listening, deadEnds }: ViewParts['monitors'],
): ServerView[] {
  const now = Date.now();
  const repeated = repeatedNames(servers.map(({ server }) => server.name));
  return servers.map(({ index, key, checkKey, server: { name, addr, weight: fileWeight, backup }, draining, weight, state, setting }) => {
    const known = health.describe(checkKey);
    return {
      name: draining && repeated.has(name) ? `${name} (${addr.text})` : name,
      address: addr.text,
      index,
      // As the data path goes by it: a change shows when it has taken effect.
      state: stateOf({ draining, weight, state, setting }),
      weight,
      fileWeight,
      set: setting,
      backup,
      damped: known?.damped ?? false,
      silent: listening.isSilent(key),
      deadEnds: deadEnds.of(backend, addr.ip),
      checkFailures: known?.failures ?? 0,
      checksUnmade: known?.unmade ?? 0,
      checkChanges: known?.falls ?? 0,
      lastCheck: known?.lastReason ?? '',
      lastResult: known?.last?.outcome,
      // The host's clock may have been set meanwhile.
      lastCheckAge: known?.last && Math.max(0, now - known.last.at) / 1000,
    };
  });
}

/** One that was set down is so whatever it weighs. */
export function stateOf({
  draining,
  weight,
  state,
  setting,
}: Pick<PlannedServer, 'draining' | 'weight' | 'state' | 'setting'>): ServerState {
  if (draining || (weight === 0 && setting?.state !== 'down')) return 'drain';
  return state;
}

/** A name that moves to another address belongs to two or more until the first of them have drained. */
function repeatedNames(names: readonly string[]): ReadonlySet<string> {
  const seen = new Set<string>();
  return new Set(names.filter((name) => seen.size === seen.add(name).size));
}
