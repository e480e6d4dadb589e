/** Why a server is as it is, and what would change it: `lb4 why`. */
import type { GlbState } from '../balance/index.ts';
import type { Explanation } from '../control/orders.ts';
import type { HealthChecker } from '../health/checker.ts';
import type { DataPath } from './data-path.ts';
import type { HealthHold } from './health-hold.ts';
import type { Monitors } from './monitors.ts';
import { settingText } from './runtime.ts';
import { type NamedServer, serverName } from './server-names.ts';
import { stateOf } from './view.ts';

export interface ExplainParts {
  readonly health: Pick<HealthChecker, 'history' | 'damped'>;
  readonly hold: Pick<HealthHold, 'waits'>;
  readonly path: Pick<DataPath, 'server'>;
  readonly monitors: Pick<Monitors, 'listening' | 'deadEnds'>;
}

/** What is known of it. */
interface Known extends NamedServer {
  readonly name: string;
  readonly history: ReturnType<HealthChecker['history']>;
  /** Milliseconds until GLB's table takes what its checks say; undefined: it has. */
  readonly heldForMs: number | undefined;
  readonly load: number;
  readonly isSilent: boolean;
  readonly deadEnds: number;
}

/** What is said of each that may not be chosen, beside why. */
export const NOT_CHOSEN = 'it gets no new connections';

/** A reason, and what would take it away, where anything would. */
type Point = readonly [reason: string, remedy?: string];

export function explain(one: NamedServer, { health, hold, path, monitors }: ExplainParts): Explanation {
  const { backend, server } = one;
  const { key, checkKey, index, setting, state } = server;
  const known: Known = {
    ...one,
    name: serverName(backend, server),
    history: backend.healthCheck.type === 'none' ? undefined : health.history(checkKey),
    heldForMs: setting?.state === 'down' ? undefined : hold.waits(backend.name, checkKey, state),
    load: path.server(index).load,
    isSilent: monitors.listening.isSilent(key) === true,
    deadEnds: monitors.deadEnds.of(backend.name, server.server.addr.ip) ?? 0,
  };
  const points = [...settingPoints(known), ...healthPoints(known), ...holdPoints(known), ...pathPoints(known), ...choicePoints(known)];
  return {
    server: known.name,
    protocol: backend.protocol.name,
    address: server.server.addr.text,
    state: stateOf(server),
    weight: server.weight,
    file_weight: server.server.weight,
    set: setting ?? null,
    load: known.load,
    leaving: server.draining,
    since: known.history === undefined ? null : known.history.since / 1000,
    damped: health.damped(checkKey),
    checks: (known.history?.checks ?? []).map(({ at, outcome, reason }) => ({ at: at / 1000, outcome, reason })),
    reasons: points.map(([reason]) => reason),
    remedies: [...new Set(points.flatMap(([, remedy]) => remedy ?? []))],
  };
}

/** What comes of what the file says, where the table is GLB's. */
const STATES: Readonly<Record<Exclude<GlbState, 'active'>, string>> = {
  filling: "as active, but it takes no draining server's place",
  draining: 'the second of its rows wherever the other one is active: new connections go there',
  inactive: 'it is in no row, and not checked',
};

/** What the file and operators say. */
function settingPoints({ name, backend, server: { server, draining, setting, weight } }: Known): Point[] {
  const points: Point[] = [];
  if (draining)
    points.push([
      `it has left the file: no new connections, its own may go on for drain_timeout, ${backend.drainTimeoutMs / 1000} s`,
      'its name and address in the file again',
    ]);
  if (setting !== undefined)
    points.push([
      `set by control: ${settingText(setting)}${setting.weight === undefined ? '' : ` (the file has ${server.weight})`}`,
      [
        ...(setting.state === undefined ? [] : [`lb4 set server ${name} state ready`]),
        ...(setting.weight === undefined ? [] : [`lb4 set server ${name} weight ${server.weight}`]),
      ].join('; '),
    ]);
  if (server.state !== undefined && server.state !== 'active')
    points.push([`state = ${JSON.stringify(server.state)} in the file: ${STATES[server.state]}`, 'state = "active" in the file']);
  if (server.weight === 0 && setting?.weight === undefined)
    points.push(['weight 0 in the file: no new connections', `another weight in the file, or lb4 set server ${name} weight 1`]);
  const full = setting?.weight ?? server.weight;
  if (weight > 0 && weight < full) points.push([`it starts slowly: its weight is ${weight} of ${full} by now`, 'time: slow_start']);
  return points;
}

/** What its checks say. */
function healthPoints({ backend, history, server: { server, state, setting, draining, weight } }: Known): Point[] {
  if (server.state === 'inactive') return [];
  if (backend.healthCheck.type === 'none') return [['it is not checked (health_check = "none"): it counts as up']];
  if (history === undefined) return [['it is not checked: no frontend leads to it, or it has left the file']];
  const [last] = history.checks;
  const { rise, fall, intervalMs, heldForMs, flaps } = history;
  const every = `every ${intervalMs / 1000} s`;
  const said = last === undefined ? 'no check has ended yet' : `the last check: ${last.reason}`;
  if (heldForMs > 0)
    return [[`held down: it flapped ${flaps} times; ${said}`, `about ${Math.ceil(heldForMs / 1000)} s without another failure`]];
  if (state === 'unknown') return [[`no check has said anything of it: it counts as up; ${said}`]];
  if (setting?.state === 'down') return [[`its checks: ${said}`]];
  const isChosen = state === 'up' && !draining && weight > 0;
  if (state === 'up' && !isChosen) return [[`its checks pass: ${said}`]];
  if (state === 'up') return [[`its checks pass: ${said}`, `${fall} checks in a row that fail (${every})`]];
  return [[`its checks fail: ${said}`, `${rise} checks in a row that pass (${every})`]];
}

/** What the table does not know yet. */
function holdPoints({ heldForMs, backend, server: { state } }: Known): Point[] {
  if (heldForMs === undefined) return [];
  const as = state === 'down' ? 'up' : 'down';
  const hold = (backend.healthHoldMs ?? 0) / 1000;
  return [
    [
      `its table still has it as ${as}: health changes it once in ${hold} s (health_hold)`,
      `about ${Math.ceil(heldForMs / 1000)} s, if its checks stay so`,
    ],
  ];
}

/** What passes, or does not. */
function pathPoints({ isSilent, deadEnds }: Known): Point[] {
  const points: Point[] = [];
  if (isSilent)
    points.push([
      'silent: it passes its checks, yet answers no connection',
      'its route, firewall or rp_filter: see the log, and lb4 doctor',
    ]);
  if (deadEnds > 0) points.push([`no way leads to it from ${deadEnds} of the frontends' addresses`, "this host's routes: see the log"]);
  return points;
}

/** Whether it may be chosen. */
function choicePoints({ choice, load, server: { index, server, weight, state, draining } }: Known): Point[] {
  const { maxconn, backup } = server;
  if (choice.candidates.some((candidate) => candidate.index === index))
    return maxconn > 0 && load >= maxconn
      ? [[`full: ${load} connections of maxconn ${maxconn}`, 'the end of some, or a larger maxconn']]
      : [];
  const isWaiting = backup && !draining && state !== 'down' && weight > 0;
  return isWaiting ? [['a backup: chosen only while no other server of its backend is up']] : [[NOT_CHOSEN]];
}
