/** What is balanced over what at this moment, for any mode: configuration, health, slow starts and drains in one. */

import { eligible } from '../balance/eligible.ts';
import { type Candidate, type Choice, prepare, type Rank } from '../balance/index.ts';
import type { Backend, Config, Frontend, Server } from '../config/model.ts';
import { MODES, type Mode } from '../config/modes.ts';
import type { Health } from '../health/checker.ts';
import { type BackendServer, checkKey, type Members, serverKey } from './members.ts';
import type { Entry } from './roster.ts';
import type { Setting } from './runtime.ts';

export interface Plan {
  readonly config: Config;
  /** Those of the file first, then those that drain. */
  readonly frontends: readonly PlannedFrontend[];
  readonly backends: readonly PlannedBackend[];
  /** Addresses that were among a backend's source addresses: connections that left from them go on. */
  readonly formerSources: readonly string[];
  /** The servers' keys by index. */
  readonly serverKeys: ReadonlyMap<number, string>;
  /** And those of their checks. */
  readonly checkKeys: ReadonlyMap<number, string>;
}

export interface PlannedFrontend {
  readonly index: number;
  readonly frontend: Frontend;
  readonly draining: boolean;
}

export interface PlannedBackend {
  readonly backend: Backend;
  readonly choice: Choice;
  /** All, those that drain too. */
  readonly servers: readonly PlannedServer[];
}

export interface PlannedServer {
  readonly index: number;
  readonly key: string;
  /** Under which its checks are known (members.ts). */
  readonly checkKey: string;
  readonly server: Server;
  readonly draining: boolean;
  /** What the plan takes its health for. */
  readonly state: Health;
  /** What it counts for now: its weight, less while it starts slowly. */
  readonly weight: number;
  /** What of this was set at run time; undefined: nothing. */
  readonly setting?: Setting | undefined;
}

export interface ServerStatus {
  // All by the keys of checks. A server that was not checked yet counts as up.
  readonly state: (key: string) => Health;
  /** Kept out for flapping: whatever its checks say just now, better than nobody. */
  readonly isSpare: (key: string) => boolean;
  /** The share of its weight that a server has by now, above 0. */
  readonly share: (key: string) => number;
  /** What GLB's table of a backend takes a server for (health-hold.ts); undefined: what its checks say. */
  readonly held?: (backend: string, key: string) => Health | undefined;
  /** What was set at run time; undefined: nothing, of any server. */
  readonly setting?: (backend: Backend, server: Server) => Setting | undefined;
}

/** Before the first check: a server counts as up, since a restart must not refuse connections. */
export const UNCHECKED: ServerStatus = { state: () => 'unknown', isSpare: () => false, share: () => 1 };

/**
 * @param last the plan before this one, whose lookup tables are kept where nothing changed
 * @param rank undefined: tables of GLB's are ranked here
 */
export function makePlan(config: Config, mode: Mode, members: Members, status: ServerStatus, last: Plan | undefined, rank?: Rank): Plan {
  const servers = members.servers.entries();
  const frontends = members.frontends.entries();
  const plannedFrontends = frontends.map(({ index, item, leaving }) => ({ index, frontend: item, draining: leaving }));
  return {
    config,
    frontends: plannedFrontends.sort((a, b) => Number(a.draining) - Number(b.draining)),
    backends: backendsOf(config, frontends, servers).map((backend) => {
      const own = inOrder(backend, servers).map((entry) => plannedServer(entry, status));
      const lastChoice = last?.backends.find((one) => one.backend.name === backend.name)?.choice;
      const parts = backend.glb && { keys: backend.glb, rank };
      const among = backend.glb === undefined ? candidates(own, status) : ranked(own, (key) => status.held?.(backend.name, key));
      return { backend, servers: own, choice: prepare(backend.balance ?? MODES[mode].balance, among, lastChoice, parts) };
    }),
    formerSources: members.sources.former,
    serverKeys: new Map(servers.map(({ index, key }) => [index, key])),
    checkKeys: new Map(servers.map(({ index, item: { backend, server } }) => [index, checkKey(backend, server)])),
  };
}

/** Those of the file, and those that left it while a frontend or server of theirs still drains. */
function backendsOf(config: Config, frontends: readonly Entry<Frontend>[], servers: readonly Entry<BackendServer>[]): Backend[] {
  const byName = new Map([...frontends, ...servers].map(({ item }) => [item.backend.name, item.backend]));
  for (const backend of config.backends) byName.set(backend.name, backend);
  return [...byName.values()];
}

/** The backend's own, in the file's order, which `first` goes by; then those that left. */
function inOrder(backend: Backend, servers: readonly Entry<BackendServer>[]): Entry<BackendServer>[] {
  const position = new Map(backend.servers.map((server, i) => [serverKey(backend, server), i]));
  const last = backend.servers.length;
  const own = servers.filter(({ group }) => group === backend.name);
  return own.sort((a, b) => (position.get(a.key) ?? last) - (position.get(b.key) ?? last));
}

function plannedServer(entry: Entry<BackendServer>, { share, state, setting }: ServerStatus): PlannedServer {
  const { index, key, item, leaving } = entry;
  const { server, backend } = item;
  const check = checkKey(backend, server);
  const set = setting?.(backend, server);
  // What was known of it when it was checked is no more.
  const known = backend.healthCheck.type === 'none' ? 'unknown' : state(check);
  const health = set?.state === 'down' ? 'down' : known;
  const isLeft = set?.state === 'drain' || server.state === 'draining' || server.state === 'inactive';
  const weight = isLeft ? 0 : (set?.weight ?? server.weight) * share(check);
  return { index, key, checkKey: check, server, draining: leaving, weight, state: health, ...(set !== undefined && { setting: set }) };
}

function candidates(servers: readonly PlannedServer[], { isSpare }: ServerStatus): Candidate[] {
  const choose = (isFit: (server: PlannedServer) => boolean) => {
    const here = servers.filter(({ draining }) => !draining);
    return eligible(here.map((one) => ({ ...one, backup: one.server.backup, up: isFit(one) })));
  };
  const up = choose(({ state }) => state !== 'down');
  return (up.length > 0 ? up : choose((one) => isSpare(one.checkKey) && one.setting?.state !== 'down')).map(({ index, weight, server }) => {
    return { name: server.addr.text, index, weight, maxconn: server.maxconn };
  });
}

/** Why a weight cannot be set; undefined: it can. Of a table of GLB's servers have their rows alike, but for one that drains. */
export function weightObstacle({ name, label = name, glb }: Backend, server: Server, weight: number): string | undefined {
  if (glb === undefined || weight === 0 || weight === server.weight) return undefined;
  return `backend "${label}" has balance = "glb", whose table knows no weights; possible: 0, as state drain, and ${server.weight}`;
}

/** Of a table of GLB's: all but the inactive ones, well or not, since rows only swap. What operators take out is as if it drained. */
function ranked(servers: readonly PlannedServer[], held: (checkKey: string) => Health | undefined): Candidate[] {
  return servers.flatMap(({ index, checkKey, server, draining, weight, state, setting }): Candidate[] => {
    if (draining || server.state === 'inactive') return [];
    const health = setting?.state === 'down' ? state : (held(checkKey) ?? state);
    const standing = { state: weight === 0 ? ('draining' as const) : (server.state ?? 'active'), healthy: health !== 'down' };
    return [{ name: server.addr.text, index, weight: 1, maxconn: 0, standing }];
  });
}
