/**
 * GLB's services as tables and keys of a file for lb4, each with the place that it comes from. A server of lb4's has a port, in DSR that of its frontend: a
 * table of GLB's whose addresses have several ports becomes a backend for each.
 */
import { ConfigError, type Mistake } from '../errors.ts';
import { LIMITS } from '../layout/limits.ts';
import { GUE_PORT } from '../layout/ports.ts';
import type { DirectorConfig, Left } from './director.ts';
import { type Bind, type ForwardingTable, type ForwardingTables, type TableBackend, unknownHealth } from './forwarding-table.ts';
import { formatPath, type Place } from './reader.ts';

export type KeyValue = string | number | boolean | readonly string[];

export interface KeyTable {
  readonly path: readonly string[];
  readonly from: Place;
  readonly keys: ReadonlyMap<string, { readonly value: KeyValue; readonly from: Place }>;
}

export interface AsKeys {
  readonly tables: readonly KeyTable[];
  readonly left: readonly Left[];
  readonly doubts: readonly Mistake[];
}

/** Where these keys go. */
export interface Surroundings {
  /** Packets go by tunnels, so servers can be asked by them. */
  readonly hasTunnels?: boolean | undefined;
  /** Some frontend beside theirs takes pings. */
  readonly hasPings?: boolean;
  /** Whether packets may come from an address, of IPv4; left out: any. */
  readonly isOwn?: ((ip: string) => boolean) | undefined;
}

/** What glb-healthcheck does where its file does not say, in milliseconds and checks. */
const CHECKS = { intervalMs: 2000, timeoutMs: 1000, trigger: 3 };
const GOOD_STATUS = '200';
const UNKNOWN = 'lb4, which is to check none of them, takes that for healthy, and directors for unhealthy: their rows differ';
/** So much of a name of GLB's, to leave room for ports. */
const NAME_CHARACTERS = 40;

/**
 * @param director undefined: there is none, or it is not known
 * @throws ConfigError where more would come of it than a file for lb4 may hold
 */
export function asKeys(forwarding: ForwardingTables, director: DirectorConfig | undefined, surroundings: Surroundings = {}): AsKeys {
  const maker = new Maker(forwarding, director, surroundings);
  for (const [i, table] of forwarding.tables.entries()) maker.add(table, i);
  maker.tellPings();
  return { tables: maker.tables, left: [...maker.left, ...(director?.left ?? [])], doubts: maker.doubts };
}

interface Made {
  frontends: number;
  backends: number;
  servers: number;
}

class Maker {
  readonly tables: KeyTable[] = [];
  readonly left: Left[] = [];
  readonly doubts: Mistake[] = [];
  readonly #forwarding: ForwardingTables;
  readonly #director: DirectorConfig | undefined;
  readonly #source: DirectorConfig['source'];
  readonly #hasTunnels: boolean;
  readonly #hasPings: boolean;
  readonly #names = new Set<string>();
  /** Made so far. */
  readonly #made: Made = { frontends: 0, backends: 0, servers: 0 };

  constructor(
    forwarding: ForwardingTables,
    director: DirectorConfig | undefined,
    { hasTunnels = true, hasPings = false, isOwn }: Surroundings,
  ) {
    this.#forwarding = forwarding;
    this.#director = director;
    this.#source = this.#ownSource(director?.source, isOwn);
    this.#hasTunnels = hasTunnels;
    this.#hasPings = hasPings;
  }

  /** Each director has one of its own, and the file may be any one's. */
  #ownSource(source: DirectorConfig['source'], isOwn: Surroundings['isOwn']): DirectorConfig['source'] {
    if (source === undefined || isOwn === undefined || isOwn(source.value)) return source;
    const why = `${source.value} is no address of this host: wrapped packets come from the one that it has on the way to each server`;
    this.left.push({ place: source.place, why });
    return undefined;
  }

  /** Directors send pings of each address to its servers. */
  tellPings(): void {
    const place = this.#director?.pings;
    const keys = this.tables.find(({ path }) => path[0] === 'frontends')?.keys;
    if (place === undefined || keys === undefined || !this.#hasTunnels || this.#hasPings) return;
    const [address, backend] = ['listen_addr', 'backend'].map((key) => String(keys.get(key)?.value));
    const frontend = `{ protocol = "icmp", listen_addr = "${address.split(':')[0]}", backend = "${backend}" }`;
    this.left.push({
      place,
      why: `directors have servers answer pings, unless forward_icmp_ping_responses is false; here this host does, but for addresses with a frontend of their own: ${frontend}`,
    });
  }

  add(table: ForwardingTable, i: number): void {
    const carried = table.binds.filter((bind) => this.#carries(bind));
    const ports = [...new Set(carried.map(({ firstPort }) => firstPort))];
    const name = this.#named(table.name?.replaceAll(/[^\p{L}\p{N}_.-]/gu, '_') || `table-${i + 1}`);
    if (ports.length === 0) this.left.push({ place: table.place, why: 'no address of it can be carried over' });
    for (const port of ports) {
      const backend = ports.length === 1 ? name : `${name}-${port}`;
      const binds = carried.filter(({ firstPort }) => firstPort === port);
      this.#assertRoom(table.place, { frontends: binds.length, backends: 1, servers: table.backends.length });
      for (const [n, bind] of binds.entries()) this.#frontend(bind, binds.length === 1 ? backend : `${backend}-${n + 1}`, backend);
      this.#backend(table, backend, port, port === ports[0]);
    }
  }

  /** Before it is made: of a few bytes of JSON there may come millions of servers. */
  #assertRoom({ file, node, path }: Place, more: Readonly<Made>): void {
    for (const what of ['frontends', 'backends', 'servers'] as const) {
      this.#made[what] += more[what];
      if (this.#made[what] <= LIMITS[what]) continue;
      const most = LIMITS[what].toLocaleString('en');
      const message = `with this table more than ${most} ${what} come of it (each port of a table is a backend with all of its servers); allowed: at most ${most}`;
      throw new ConfigError([{ severity: 'error', file, position: node.at, path: formatPath(path), message }]);
    }
  }

  #named(wanted: string): string {
    const name = wanted.slice(0, NAME_CHARACTERS);
    let unique = name;
    for (let n = 2; this.#names.has(unique); n++) unique = `${name}_${n}`;
    this.#names.add(unique);
    return unique;
  }

  #carries({ place, family, bits, firstPort, lastPort }: Bind): boolean {
    const why =
      family === 6
        ? 'lb4 forwards packets of IPv4 alone'
        : bits < 32
          ? 'a frontend has one address'
          : lastPort > firstPort
            ? 'a frontend has one port'
            : undefined;
    if (why !== undefined) this.left.push({ place, why });
    return why === undefined;
  }

  #frontend({ place, ip, firstPort, protocol }: Bind, name: string, backend: string): void {
    this.#table(['frontends', name], place, {
      listen_addr: `${ip}:${firstPort}`,
      ...(protocol === 'tcp' ? {} : { protocol }),
      backend,
    });
  }

  /** @param tells each part of a table is told of once, however many backends it becomes */
  #backend(table: ForwardingTable, name: string, port: number, tells: boolean): void {
    const { place, hashKey, seed, backends } = table;
    const { hashFields, altHashFields } = this.#director ?? {};
    const source = this.#source;
    const checks = this.#checks(backends, port, tells);
    const keys = {
      dsr: 'gue',
      balance: 'glb',
      hash_key: hashKey,
      seed,
      ...checks,
    };
    const made = new Map(Object.entries<KeyValue>(keys).map(([key, value]) => [key, { value, from: place }]));
    if (source !== undefined) made.set('source_addr', { value: source.value, from: source.place });
    if (hashFields !== undefined) made.set('hash_fields', { value: hashFields.value, from: hashFields.place });
    if (altHashFields !== undefined) made.set('alt_hash_fields', { value: altHashFields.value, from: altHashFields.place });
    this.tables.push({ path: ['backends', name], from: place, keys: made });
    const isUnchecked = checks['health_check'] === 'none';
    if (tells && isUnchecked) this.doubts.push(...unknownHealth(backends, UNKNOWN));
    for (const backend of backends) this.#server(backend, name, port, isUnchecked);
  }

  #server({ place, ip, state, healthy }: TableBackend, backend: string, port: number, isUnchecked: boolean): void {
    // Nobody looks at it, and somebody knows better: as one that drains it is swapped in the same rows.
    const isOut = healthy === false && isUnchecked && state !== 'inactive';
    const its = isOut ? 'draining' : state;
    this.#table(['backends', backend, 'servers', ip], place, { addr: `${ip}:${port}`, ...(its === 'active' ? {} : { state: its }) });
  }

  /** One way to look at all servers of a backend: the first one's, where they differ. */
  #checks(backends: readonly TableBackend[], port: number, tells: boolean): Record<string, KeyValue> {
    const inUse = backends.filter(({ state }) => state !== 'inactive');
    const first = inUse.find(({ checks }) => checks?.http !== undefined) ?? inUse.find(({ checks }) => checks?.gue !== undefined);
    if (tells) this.#tellChecks(inUse, first);
    if (first?.checks === undefined) return { health_check: 'none' };
    const { http, httpUri, gue } = first.checks;
    const { intervalMs = CHECKS.intervalMs, timeoutMs = CHECKS.timeoutMs, trigger = CHECKS.trigger } = this.#forwarding;
    return {
      ...(http === undefined
        ? { health_check: this.#hasTunnels ? 'gue' : 'tcp' }
        : {
            health_check: gue === undefined || !this.#hasTunnels ? 'http' : ['gue', 'http'],
            ...(http === port ? {} : { health_check_port: http }),
            ...(httpUri === undefined ? {} : { health_check_path: httpUri }),
            health_check_status: GOOD_STATUS,
          }),
      health_check_interval: intervalMs / 1000,
      health_check_timeout: timeoutMs / 1000,
      health_check_rise: trigger,
      health_check_fall: trigger,
    };
  }

  /** @param first undefined: none of them is checked */
  #tellChecks(inUse: readonly TableBackend[], first: TableBackend | undefined): void {
    if (first?.checks === undefined) return;
    const { http, httpUri, gue } = first.checks;
    if (gue !== undefined && !this.#hasTunnels)
      this.left.push({
        place: first.place,
        why: `healthchecks.gue: there are tunnels with --dsr alone${http === undefined ? '; TCP is asked' : ''}`,
      });
    else if (gue !== undefined && gue !== GUE_PORT)
      this.left.push({ place: first.place, why: `healthchecks.gue: lb4 asks at ${GUE_PORT}, the port that packets go to` });
    for (const { checks, place } of inUse)
      if (checks?.http !== http || checks?.httpUri !== httpUri || (checks?.gue === undefined) !== (gue === undefined))
        this.left.push({ place, why: `healthchecks: the servers of a backend are checked alike: as ${first.ip}` });
  }

  #table(path: readonly string[], from: Place, keys: Readonly<Record<string, KeyValue>>): void {
    this.tables.push({ path, from, keys: new Map(Object.entries(keys).map(([key, value]) => [key, { value, from }])) });
  }
}
