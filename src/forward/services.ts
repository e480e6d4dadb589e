/**
 * What is balanced over what, as the worker uses it. The main thread sends a whole `ServiceSet` whenever anything
 * changes (a file, a health check); applying the same set twice changes nothing. Indexes are given by the main thread
 * and stay with a name, so that counters and flows survive a change.
 *
 * Applied between two batches, so it must be quick: 1,000 servers behind ten addresses take 1 to 2 ms, the message included (measured).
 */
import { Guard, type GuardParts, hashOfSource } from '../access/guard.ts';
import {
  type Candidate,
  type Choice,
  consistent,
  createScheduler,
  isFull,
  isSameChoice,
  type Scheduler,
  withoutPorts,
} from '../balance/index.ts';
import type { Protocol } from '../flow/protocol.ts';
import { byNumber } from '../flow/protocols.ts';
import { frontendLoad } from '../layout/counters.ts';
import { MOST_TAG } from '../layout/flow.ts';
import { KERNEL_HOP, SHIFT, TABLES } from '../layout/hops.ts';
import type { PortSlice } from '../packet/steering.ts';
import { Bond } from './affinity.ts';
import { type Endpoint, EndpointMap } from './endpoints.ts';
import type { Ledger } from './ledger.ts';
import type { Mode } from './mode.ts';
import { modes } from './modes.ts';
import { Pools } from './pools.ts';
import type { Prefix } from './prefix-map.ts';
import type { ServerEntry, ServiceSet } from './service-set.ts';
import { allSources, presentSources, sourcesOf } from './sources.ts';
import type { FrontendHops } from './ways.ts';

/** A frontend with everything that a new connection asks of it. */
export interface Frontend {
  readonly index: number;
  readonly maxconn: number;
  readonly draining: boolean;
  /** Undefined while no server may be chosen. */
  readonly scheduler: Scheduler | undefined;
  /** The scheduler's candidates, in its order, and where each is. */
  readonly candidates: readonly Candidate[];
  readonly servers: readonly ServerEntry[];
  /** By a server's index: its place among the candidates. */
  readonly positions: ReadonlyMap<number, number>;
  /** Our addresses that connections may leave from; one where the server sees the client. */
  readonly sources: readonly number[];
  /** Of each candidate, from each source, as {@link wayOf} says: the next hop, and the index of the port pool (none where the server sees the client). */
  readonly hops: readonly number[];
  readonly pools: readonly number[];
  readonly mode: Mode;
  readonly protocol: Protocol;
  /** Each datagram goes to a server of its own choice; what it leaves behind is the way of one answer. */
  readonly perPacket: boolean;
  /** The scheduler goes by a hash of the client, which is to find its server again. */
  readonly hashes: boolean;
  /** What servers see clients of a prefix as. */
  readonly prefix: Prefix | undefined;
  /** Where servers see their clients: the same for those that are servers of this backend themselves, whose peers would answer past lb4. */
  readonly hairpin: Hairpin | undefined;
  /** One direction passes lb4, and any balancer with these servers would choose alike: unknown segments may go by the hash. */
  readonly adopts: boolean;
  /** Clients stay with their servers (affinity.ts). */
  readonly bond: Bond | undefined;
  /** Undefined: whoever likes may connect. */
  readonly guard: Guard | undefined;
}

interface Hairpin {
  /** The servers' addresses. */
  readonly clients: EndpointMap;
  /** By full NAT. */
  readonly frontend: Frontend;
}

/** The place, in a frontend's `hops` and `pools`, of the first source's way to the candidate at `position`: those of the others follow. */
export function wayOf({ sources }: Pick<Frontend, 'sources'>, position: number): number {
  return position * sources.length;
}

type Entry = ServiceSet['frontends'][number];
type BackendEntry = ServiceSet['backends'][number];

/** What a backend's frontends have in common. */
interface Backend {
  readonly mode: Mode;
  readonly choice: Choice;
  readonly scheduler: Scheduler | undefined;
  /** By position among the candidates. */
  readonly servers: readonly ServerEntry[];
  readonly positions: ReadonlyMap<number, number>;
  readonly sources: readonly number[];
  readonly prefix: Prefix | undefined;
  /** The addresses of all its servers, where they see their clients. */
  readonly addresses: EndpointMap | undefined;
  /** By position among the candidates: the server's position in the backend. */
  readonly places: readonly number[];
  readonly bond: Bond | undefined;
}

/** The backend of a frontend whose own is not in the set: nobody to choose. */
const NOBODY: Backend = {
  mode: modes.passthrough,
  choice: { scheduler: 'roundrobin', candidates: [], table: undefined, turns: undefined },
  scheduler: undefined,
  servers: [],
  positions: new Map(),
  sources: [],
  prefix: undefined,
  addresses: undefined,
  places: [],
  bond: undefined,
};

/** The services of one core, as last applied. */
export class Services {
  readonly pools: Pools;
  /** One word: another number whenever a table that flows follow has changed (rows.ts), below Flow.MOST_TAG and above 0. */
  readonly tables: Int32Array;
  #generations = '';
  readonly #ledger: Ledger;
  /** By server index: who may be chosen, and as what. */
  #candidates: ReadonlyMap<number, Candidate> = new Map();
  #frontends: Frontend[] = [];
  #byEndpoint = new EndpointMap([]);
  #servers = new EndpointMap([]);
  /** Those that answer their clients; an index is a place in #vips and #doors: of each a frontend's address, and the next hop that leads to it. */
  #returning = new EndpointMap([]);
  #vips: readonly number[] = [];
  #doors: readonly number[] = [];
  #addresses = new EndpointMap([]);
  /** Other addresses of this host. */
  #locals = new EndpointMap([]);
  /** By index: servers that are down while others are up. */
  #lost: ReadonlySet<number> = new Set();
  /** Goes up whenever there are more of them. */
  #losses = 0;
  /** Of those, what new connections leave from. */
  #present: ReadonlySet<number> = new Set();
  /** Addresses whose pings are answered here: whether somebody serves them. */
  #served: ReadonlyMap<number, boolean> = new Map();
  #backends: ReadonlyMap<string, Backend> = new Map();
  readonly #guards: GuardParts | undefined;
  /** While a set is applied: the pools of a backend that names its sources, which all its frontends have. */
  readonly #pooled = new Map<Backend, readonly number[]>();

  /**
   * @param hops of this core: the kernel's fast path reads there which tables are in force. What another process has left is not, from the first set on
   * @param slice the source ports of this core, in every pool
   * @param guards what rules about clients are held by; undefined: none are
   */
  constructor(ledger: Ledger, hops: Int32Array, slice?: PortSlice, guards?: GuardParts) {
    this.pools = new Pools(slice);
    this.#guards = guards;
    this.#ledger = ledger;
    this.tables = hops.subarray(TABLES << SHIFT, (TABLES << SHIFT) + 1);
  }

  /** Replaces the whole set. A frontend of which `hops` knows nothing leaves the way to the kernel. */
  apply(set: ServiceSet, hops: FrontendHops = new Map()): void {
    this.#ledger.apply(set);
    this.#candidates = new Map(set.backends.flatMap(({ choice }) => choice.candidates.map((candidate) => [candidate.index, candidate])));
    this.#backends = new Map(set.backends.map((backend) => [backend.name, this.#backend(backend)]));
    this.#frontends = [];
    this.#pooled.clear();
    for (const entry of set.frontends) {
      const backend = this.#backends.get(entry.backend) ?? NOBODY;
      this.#frontends[entry.index] = this.#frontend(entry, backend, hops.get(entry.index) ?? []);
    }
    // The first of two on one endpoint is found.
    this.#byEndpoint = new EndpointMap([...set.frontends].sort((a, b) => Number(a.draining) - Number(b.draining)));
    // Those that see their clients are also reached by full NAT, by each other.
    this.#servers = new EndpointMap(
      set.backends.filter(({ mode }) => modes[mode].repliesTo !== 'nobody').flatMap((backend) => backend.servers),
    );
    this.#noteTables(set);
    this.#applyReturning(set, hops);
    this.#addresses = addressMap([...allSources(set)]);
    this.#locals = addressMap(set.locals ?? []);
    this.#present = presentSources(set);
    this.#lose(set);
    const isServed = ({ index, draining }: Entry) => !draining && this.#frontends[index]?.scheduler !== undefined;
    const served = new Set(set.frontends.filter(isServed).map(({ address }) => address));
    this.#served = new Map(set.frontends.filter(({ echo }) => echo).map(({ address }) => [address, served.has(address)]));
    this.retirePools();
  }

  #noteTables({ backends }: ServiceSet): void {
    const byRows = backends.filter(({ choice }) => choice.rows !== undefined);
    const generations = JSON.stringify(
      byRows.map(({ name, choice, servers, tunnel }) => [name, choice.rows, tunnel, servers.map(({ index }) => index)]),
    );
    if (generations === this.#generations) return;
    this.#generations = generations;
    this.tables[0] = (this.tables[0] % (MOST_TAG - 1)) + 1;
  }

  /** By its index; undefined: there is none any more. */
  frontendOf(index: number): Frontend | undefined {
    return this.#frontends[index];
  }

  /** What a client of a frontend, by its index, is known by among sources of so many bits. */
  sourceHash(frontend: number, client: number, bits: number): number {
    return hashOfSource(this.#guards?.seed ?? 0, frontend, client, bits);
  }

  /** Goes up whenever a server is lost that was not: {@link isLost}. */
  get losses(): number {
    return this.#losses;
  }

  /** Whether a server, by index, is down while others are up: flows of datagrams to it end, so that the next datagram finds one of those. */
  isLost(server: number): boolean {
    return this.#lost.has(server);
  }

  /** Whether a frontend, by index, chooses for each datagram. */
  isPerPacket(frontend: number): boolean {
    return this.#frontends[frontend]?.perPacket ?? false;
  }

  #lose({ backends }: ServiceSet): void {
    const before = this.#lost;
    this.#lost = new Set(backends.flatMap(({ servers }) => servers.filter(({ lost }) => lost)).map(({ index }) => index));
    if ([...this.#lost].some((index) => !before.has(index))) this.#losses++;
  }

  /** Has the pools that no new connection can have go when their last port has come back. */
  retirePools(): void {
    this.pools.retain(
      ({ address, port, protocol }, source) => this.#present.has(source) && this.#servers.find(address, port, protocol) >= 0,
    );
  }

  #applyReturning({ frontends, backends, locals = [] }: ServiceSet, hops: FrontendHops): void {
    const returning = backends.filter(({ mode }) => modes[mode].repliesTo === 'client');
    const servers = returning.flatMap(({ name, servers: own }) => {
      const frontend = frontends.find(({ backend }) => backend === name);
      const vip = frontend?.address ?? frontends[0]?.address ?? locals[0] ?? 0;
      const ways = frontend === undefined ? [] : (hops.get(frontend.index) ?? []);
      return own.map((server, place) => ({ ...server, vip, door: ways[place] ?? KERNEL_HOP }));
    });
    this.#vips = servers.map(({ vip }) => vip);
    this.#doors = servers.map(({ door }) => door);
    this.#returning = new EndpointMap(servers.map((server, index) => ({ ...server, index })));
  }

  /** Whether servers' replies to that address of ours are taken. */
  isSource(address: number): boolean {
    return this.#addresses.find(address, 0, 0) >= 0;
  }

  /** The frontend that listens there, or undefined. */
  frontendAt(address: number, port: number, protocol: number): Frontend | undefined {
    const index = this.#byEndpoint.find(address, port, protocol);
    return index < 0 ? undefined : this.#frontends[index];
  }

  /** Whether a packet from (`source`, `port`) to `destination` can be a reply of one of our servers. */
  isReply(source: number, port: number, destination: number, protocol: number): boolean {
    return this.#servers.find(source, port, protocol) >= 0 && this.isSource(destination);
  }

  /**
   * Whether a packet from (`source`, `port`) to `destination` is one of a server's that answers clients through this host, to whom is not
   * this host: then the kernel sends none of it on. Returns a number for {@link vipOf} and {@link doorOf}, negative where it is not.
   */
  passingServer(source: number, port: number, destination: number, protocol: number): number {
    const index = this.#returning.find(source, port, protocol);
    return index < 0 || this.isSource(destination) || this.#locals.find(destination, 0, 0) >= 0 ? -1 : index;
  }

  /** Whether a server answers clients through this host. */
  returns({ address, port, protocol }: Endpoint): boolean {
    return this.#returning.find(address, port, protocol) >= 0;
  }

  /** An address of ours that may tell such a server of something. */
  vipOf(server: number): number {
    return this.#vips[server];
  }

  /** The next hop that leads there. */
  doorOf(server: number): number {
    return this.#doors[server];
  }

  /** What opens connections of that client: the frontend, or what its own servers get instead. */
  facing(frontend: Frontend, client: number): Frontend {
    const { hairpin } = frontend;
    return hairpin !== undefined && hairpin.clients.find(client, 0, 0) >= 0 ? hairpin.frontend : frontend;
  }

  /** Of an address whose pings lb4 answers itself: whether a server of a frontend there may be chosen. Of others undefined. */
  isServed(address: number): boolean | undefined {
    return this.#served.get(address);
  }

  /** Whether a server may be chosen, by index. */
  isEligible(server: number): boolean {
    return this.#candidates.has(server);
  }

  /** Whether a frontend has as many connections as it may have. */
  isFrontendFull({ index, maxconn }: Frontend): boolean {
    return maxconn !== 0 && this.#ledger.loads[frontendLoad(index)] >= maxconn;
  }

  /** Whether one more connection may go from a frontend to a server, both by index: from an address it came from before. */
  takes(frontend: number, server: number): boolean {
    const from = this.#frontends[frontend];
    const to = this.#candidates.get(server);
    if (from === undefined || to === undefined) return false;
    return !from.draining && !this.isFrontendFull(from) && !isFull(to, this.#ledger.loads);
  }

  /** That of the frontend of a connection, by the upper half of its OWNER word. */
  bondOf(frontend: number): Bond | undefined {
    return this.#frontends[frontend]?.bond;
  }

  /** A scheduler keeps its state (whose turn it is) while its candidates stay the same. */
  #backend({ name, mode, choice, servers: all, sources = [], prefix, affinity }: BackendEntry): Backend {
    const last = this.#backends.get(name);
    const scheduler = last && isSameChoice(last.choice, choice) ? last.scheduler : createScheduler(choice, this.#ledger.loads);
    const byIndex = new Map(all.map(({ index }, place) => [index, place]));
    const places = choice.candidates.map(({ index }) => byIndex.get(index)!);
    const addresses = modes[mode].repliesTo === 'client' ? addressMap([...new Set(all.map(({ address }) => address))]) : undefined;
    const servers = places.map((place) => all[place]);
    const positions = new Map(servers.map(({ index }, position) => [index, position]));
    const bond = affinity && new Bond(affinity, all, servers);
    return { mode: modes[mode], choice, scheduler, places, servers, positions, sources, prefix, addresses, bond };
  }

  #frontend(entry: ServiceSet['frontends'][number], backend: Backend, ways: readonly number[]): Frontend {
    const { index, address, protocol: number, maxconn, draining, access } = entry;
    const { mode, choice, scheduler, servers, positions, places, bond } = backend;
    const sources = sourcesOf(address, backend);
    const pools = mode.source === 'pool' ? this.#poolsOf(backend, sources) : [];
    const hops = places.flatMap((place) => sources.map((_, i) => ways[wayOf({ sources }, place) + i] ?? KERNEL_HOP));
    const hashes = consistent.has(choice.scheduler);
    const adopts = mode.directions === 1 && hashes;
    const protocol = byNumber[number]!; // assertServiceSet: it is one
    const perPacket = entry.perPacket === true && protocol.isDatagram && protocol.hasPorts;
    const { candidates } = choice;
    const { addresses: clients, prefix } = backend;
    const fullNat = { ...backend, mode: modes.passthrough, addresses: undefined };
    const hairpin = clients === undefined ? undefined : { clients, frontend: this.#frontend(entry, fullNat, ways) };
    return {
      index,
      maxconn,
      draining,
      scheduler: protocol.hasPorts ? scheduler : withoutPorts(scheduler),
      candidates,
      servers,
      positions,
      sources,
      hops,
      pools,
      mode,
      protocol,
      perPacket,
      hashes,
      prefix,
      hairpin,
      adopts,
      // Each datagram is chosen for.
      bond: perPacket ? undefined : bond,
      guard: access && this.#guards && new Guard(access, index, this.#guards),
    };
  }

  /** By position among the candidates, and source. */
  #poolsOf(backend: Backend, sources: readonly number[]): readonly number[] {
    const pooled = this.#pooled.get(backend);
    if (pooled !== undefined) return pooled;
    const pools = backend.servers.flatMap((server) => sources.map((source) => this.pools.indexOf(source, server)));
    if (backend.sources.length > 0) this.#pooled.set(backend, pools);
    return pools;
  }
}

/** A set of addresses, each under its place. */
function addressMap(addresses: readonly number[]): EndpointMap {
  return new EndpointMap(addresses.map((address, index) => ({ address, port: 0, protocol: 0, index })));
}
