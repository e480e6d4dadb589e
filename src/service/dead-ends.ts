/**
 * The packet modes: ways from an address of this host to a server that lead nowhere, so that lb4 drops what is for the server, or takes
 * nothing in any more. Checks take one of several ways, and in L2 DSR another than clients' packets: they need not notice. Each is told
 * once when it has lasted, and once when it is over.
 */
import { isWrapped, type Mode, sharesLink } from '../config/modes.ts';
import { sourcesOf } from '../config/sources.ts';
import type { DeadEnd, Obstacle } from '../engine/routes.ts';
import type { Logger } from '../log.ts';
import { formatAddress } from '../packet/address.ts';
import type { DataPath } from './data-path.ts';
import type { Plan } from './plan.ts';

const EVERY_MS = 1000;
/** So many looks in a row: a route may be replaced in two steps, and the first check makes the kernel ask for a neighbour. */
const LOOKS = 3;
/** Of a way, in place of its source, where the kernel chooses one. */
const UNSAID = '0.0.0.0';
/** A line names so many ways. */
const NAMED = 10;

const ASK = 'ip route get SERVER from ADDRESS';
const MEANING: { readonly [why in Obstacle]?: string } = {
  source:
    'a frontend that is no address of this host (any more) no client reaches, and to such a source address no server answers: ip address ' +
    'add, or take it out of the file',
  blackhole: `a route or rule of this host throws the packets away (blackhole): ${ASK}, ip rule`,
  prohibit: `a route or rule of this host forbids them (prohibit): ${ASK}, ip rule`,
  unreachable: `a route or rule of this host says unreachable: ${ASK}, ip rule`,
  none: `this host has no route, or its link is down: ${ASK}`,
  gateway: 'dsr = "l2" needs the server on the same link, and the route leads to a gateway: dsr = "nat" passes routers',
  neighbour: `nobody answers ARP for it, or for the gateway to it: ip neigh, ${ASK}`,
};

interface Sighting {
  readonly why: Obstacle;
  /** In a row, this one included. */
  readonly looks: number;
  readonly told: boolean;
}

export class DeadEnds {
  readonly #mode: Mode;
  readonly #log: Pick<Logger, 'info' | 'warn'>;
  #records: ReadonlyMap<string, Sighting> = new Map();
  /** Of servers, by backend and address, those that were told. */
  #counts: ReadonlyMap<string, number> = new Map();
  #timer: NodeJS.Timeout | undefined;

  constructor(mode: Mode, log: Pick<Logger, 'info' | 'warn'>) {
    this.#mode = mode;
    this.#log = log;
  }

  /** From now on. In proxy mode the kernel finds the ways. */
  start(path: Pick<DataPath, 'deadEnds'>, plan: () => Plan | undefined): void {
    if (path.deadEnds === undefined) return;
    this.#timer = setInterval(() => this.look(path.deadEnds?.() ?? [], plan()), EVERY_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** How many addresses of this host have no way to a server of this backend and address. */
  of(backend: string, address: string): number {
    return this.#counts.get(`${backend} ${address}`) ?? 0;
  }

  /** A second or so after the last time. */
  look(found: readonly DeadEnd[], plan: Plan | undefined): void {
    if (plan === undefined || (found.length === 0 && this.#records.size === 0)) return;
    const last = this.#records;
    const users = usersOf(plan, this.#mode);
    const now = new Map(
      found.flatMap((end) => {
        const key = keyOf(formatAddress(end.source), formatAddress(end.destination), end.onLink);
        return users.has(key) ? [[key, next(last.get(key), end.why)] as const] : [];
      }),
    );
    this.#records = now;
    this.#counts = countsOf(now, users);
    const fresh = [...now].filter(([key, { why, told }]) => told && !isTold(last.get(key), why));
    for (const [why, ways] of byObstacle(fresh)) {
      const fields = { ...fieldsOf(ways), reason: MEANING[why] ?? `${why}: ${ASK}` };
      this.#log.warn(
        fields,
        why === 'source' ? 'an address has left this host' : 'no way from this host to a server: its packets are dropped',
      );
    }
    // Of a server that went down its checks have told.
    const over = [...last].filter(([key, { told }]) => told && !now.has(key) && users.has(key)).map(([key]) => key);
    if (over.length > 0) this.#log.info(fieldsOf(over), 'the way from this host to a server is there again');
  }
}

function next(last: Sighting | undefined, why: Obstacle): Sighting {
  const looks = last?.why === why ? last.looks + 1 : 1;
  return { why, looks, told: looks >= LOOKS || (last?.told ?? false) };
}

function isTold(last: Sighting | undefined, why: Obstacle): boolean {
  return last !== undefined && last.told && last.why === why;
}

function byObstacle(ends: readonly (readonly [string, Sighting])[]): Map<Obstacle, string[]> {
  const groups = new Map<Obstacle, string[]>();
  for (const [key, { why }] of ends) groups.set(why, [...(groups.get(why) ?? []), key]);
  return groups;
}

function fieldsOf(ways: readonly string[]): object {
  return { count: ways.length, ways: ways.slice(0, NAMED) };
}

/** "192.0.2.1 -> 10.0.0.1": one more word in L2 DSR, where servers may have another way. Wrapped packets come from where the kernel has them come from. */
function keyOf(source: string, destination: string, onLink: boolean): string {
  return `${source === UNSAID ? 'this host' : source} -> ${destination}${onLink ? ' (l2)' : ''}`;
}

/** The ways that new connections may take, each with its backends and the server's address; without servers that are down. */
function usersOf({ frontends, backends }: Plan, mode: Mode): ReadonlyMap<string, readonly string[]> {
  const users = new Map<string, string[]>();
  for (const { backend, servers } of backends) {
    const own = frontends.filter(({ draining, frontend }) => !draining && frontend.backend === backend);
    const isOwn = isWrapped(mode, backend);
    const sources = new Set(own.flatMap(({ frontend }) => (isOwn ? [backend.tunnel?.source ?? UNSAID] : sourcesOf(frontend))));
    const alive = new Set(servers.filter(({ draining, state }) => !draining && state !== 'down').map(({ server }) => server.addr.ip));
    for (const source of sources)
      for (const address of alive) {
        const key = keyOf(source, address, sharesLink(mode, backend));
        users.set(key, [...(users.get(key) ?? []), `${backend.name} ${address}`]);
      }
  }
  return users;
}

function countsOf(ends: ReadonlyMap<string, Sighting>, users: ReadonlyMap<string, readonly string[]>): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const [key, { told }] of ends) for (const user of told ? (users.get(key) ?? []) : []) counts.set(user, (counts.get(user) ?? 0) + 1);
  return counts;
}
