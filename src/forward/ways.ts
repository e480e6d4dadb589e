/**
 * The ways to the servers: one for each (source address, server's address, port and protocol), as routes may differ by the
 * source (two VIPs, each with a link and a table of its own) and by port and protocol, too (ip-rule(8)). Frontends that share a source share them.
 * Where there is no room for so many, servers that differ only in their port share one, and no rule by port is followed. A way has a place in the table of next hops, which flows name; the main thread gives places out and keeps them
 * true (engine/routes.ts), the worker is told which frontend reaches which server by which. Places outlive the process, as the flows do.
 */
import { ON_LINK, ROUTED, SERVER_HOPS, WAY, WAY_DESTINATION, WAY_KIND, WAY_PORT, WAY_SOURCE } from '../layout/hops.ts';
import { UDP } from '../packet/fields.ts';
import { IPIP, type Tunnel } from '../packet/tunnel.ts';
import type { Endpoint } from './endpoints.ts';
import type { Mode } from './mode.ts';
import { modes } from './modes.ts';
import type { ServiceSet } from './service-set.ts';
import { allSources, sourcesOf } from './sources.ts';

/** Addresses in native order. */
export interface Way {
  /** Its place in the table of next hops, 1 to SERVER_HOPS - 1. */
  readonly hop: number;
  /** With full NAT what packets leave from (sources.ts); of wrapped ones what the outer ones do, 0: what the kernel would; else the frontend's address. */
  readonly source: number;
  readonly destination: number;
  /** The server's; 0: whichever. */
  readonly port: number;
  /** By its number; 0 where the port is. */
  readonly protocol: number;
  /** L2 DSR: the server must be on the link itself, and the kernel cannot help (the VIP is local to it). */
  readonly onLink: boolean;
  /** Packets go inside of others, whose headers have so many bytes at most (packet/tunnel.ts); 0: as they are. */
  readonly tunnel: number;
}

/** By a frontend's index: the next hops of each server of its backend, in the backend's order, and of each of them one a source (sources.ts). */
export type FrontendHops = ReadonlyMap<number, readonly number[]>;

export class Ways {
  readonly #byKey = new Map<string, Way>();
  /** Those that are asked for, by key, as last told. */
  #wanted: ReadonlyMap<string, unknown> = new Map();
  /** Those that nobody has asked for since {@link suspect}, by key. */
  readonly #suspects = new Set<string>();
  /** Places given back, the one that has rested longest first: a flow that outlives its way by a moment still finds it as it was. */
  readonly #free: number[] = [];
  #next = 1;
  /** What each place stands for (layout/hops.ts: WAY), for the next process. */
  readonly #places: Int32Array;
  /** The kernel's included. */
  readonly #count: number;

  /** @param places zeroed, or as another process left them: then its ways keep their places */
  constructor(places: Int32Array = new Int32Array(SERVER_HOPS * WAY)) {
    this.#places = places;
    this.#count = places.length / WAY;
    for (let hop = 1; hop < this.#count; hop++) {
      const way = wayAt(places, hop);
      if (way === undefined) continue;
      for (; this.#next < hop; this.#next++) this.#free.push(this.#next);
      this.#next = hop + 1;
      this.#byKey.set(keyOf(way), { ...way, hop });
    }
  }

  /** All that are kept true. */
  all(): IterableIterator<Way> {
    return this.#byKey.values();
  }

  /**
   * Makes the ways that `set` asks for, and drops those that no live flow can have any more: a way stays while its source is one of
   * ours and its destination a server's, since a frontend may have changed its backend, until {@link dropSuspects} knows better.
   * Throws a RangeError, and changes nothing, when there is no room for all of them.
   */
  apply(set: ServiceSet): FrontendHops {
    const all = wantedBy(set, true);
    const isSplit = all.size < this.#count;
    const wanted = isSplit ? all : wantedBy(set, false);
    if (wanted.size >= this.#count)
      throw new RangeError(
        `${wanted.size} pairs of an address of ours (a frontend's, or of source_addrs) and a server's: there is room for ${this.#count - 1}`,
      );
    this.#wanted = wanted;
    for (const key of wanted.keys()) this.#suspects.delete(key);
    this.#drop(set, wanted);
    for (const [key, way] of wanted) if (!this.#byKey.has(key)) this.#add(key, { ...way, hop: this.#place(wanted) });
    return this.#hopsOf(set, isSplit);
  }

  /** Begins to watch the ways that nobody asks for now. Returns whether there are any. */
  suspect(): boolean {
    this.#suspects.clear();
    for (const key of this.#byKey.keys()) if (!this.#wanted.has(key)) this.#suspects.add(key);
    return this.#suspects.size > 0;
  }

  /** Drops those that nobody has asked for since {@link suspect}, nor any flow names. Returns whether there were any. */
  dropSuspects(isNamed: (hop: number) => boolean): boolean {
    const before = this.#byKey.size;
    for (const key of this.#suspects) {
      const way = this.#byKey.get(key);
      if (way !== undefined && !isNamed(way.hop)) this.#giveBack(key, way);
    }
    return this.#byKey.size < before;
  }

  #giveBack(key: string, { hop }: Way): void {
    this.#byKey.delete(key);
    this.#places[hop * WAY + WAY_KIND] = 0;
    this.#free.push(hop);
  }

  #drop(set: ServiceSet, wanted: ReadonlyMap<string, unknown>): void {
    const sources = allSources(set);
    const servers = new Set(set.backends.flatMap((backend) => backend.servers.map(({ address }) => address)));
    for (const [key, way] of this.#byKey)
      if (!wanted.has(key) && !((way.tunnel > 0 || sources.has(way.source)) && servers.has(way.destination))) this.#giveBack(key, way);
  }

  #add(key: string, way: Way): void {
    this.#byKey.set(key, way);
    const at = way.hop * WAY;
    this.#places[at + WAY_KIND] = 0;
    this.#places[at + WAY_SOURCE] = way.source;
    this.#places[at + WAY_DESTINATION] = way.destination;
    this.#places[at + WAY_PORT] = way.port | (way.protocol << 16);
    this.#places[at + WAY_KIND] = way.tunnel || (way.onLink ? ON_LINK : ROUTED);
  }

  /** A place for one more: never used, or rested, or taken from a way that is only kept for old flows. */
  #place(wanted: ReadonlyMap<string, unknown>): number {
    if (this.#next < this.#count) return this.#next++;
    const rested = this.#free.shift();
    if (rested !== undefined) return rested;
    for (const [key, { hop }] of this.#byKey) {
      if (wanted.has(key)) continue;
      this.#byKey.delete(key);
      return hop;
    }
    throw new RangeError('no next hop is free'); // never: fewer are wanted than there are
  }

  #hopsOf({ frontends, backends }: ServiceSet, isSplit: boolean): FrontendHops {
    const byName = new Map(backends.map((backend) => [backend.name, backend]));
    // Frontends that share their sources and a backend share one list: it crosses to the worker once.
    const lists = new Map<string, readonly number[]>();
    return new Map(
      frontends.map(({ index, address, backend: name }) => {
        const backend = byName.get(name);
        const sources = sourcesOf(address, backend);
        const key = `${sources.join()} ${name}`;
        const hopOf = (source: number, server: Endpoint) => this.#byKey.get(keyOf(wayOf(source, server, backend, isSplit)))!.hop;
        const list = lists.get(key) ?? (backend?.servers ?? []).flatMap((server) => sources.map((source) => hopOf(source, server)));
        lists.set(key, list);
        return [index, list];
      }),
    );
  }
}

/** @param isSplit by the servers' ports */
function wantedBy({ frontends, backends }: ServiceSet, isSplit: boolean): Map<string, WantedWay> {
  const wanted = new Map<string, WantedWay>();
  for (const backend of backends) {
    const own = frontends.filter((frontend) => frontend.backend === backend.name);
    const sources = new Set(own.flatMap(({ address }) => sourcesOf(address, backend)));
    for (const source of sources)
      for (const server of backend.servers) {
        const way = wayOf(source, server, backend, isSplit);
        wanted.set(keyOf(way), way);
      }
  }
  return wanted;
}

type WantedWay = Omit<Way, 'hop'>;
type BackendTunnel = NonNullable<ServiceSet['backends'][number]['tunnel']>;

/** Of a frontend whose backend is not in the set. */
const NO_MODE = modes.passthrough;

/** What a place stands for; undefined: nothing. */
function wayAt(places: Int32Array, hop: number): WantedWay | undefined {
  const at = hop * WAY;
  const kind = places[at + WAY_KIND];
  if (kind === 0) return undefined;
  const port = places[at + WAY_PORT];
  const ends = { source: places[at + WAY_SOURCE], destination: places[at + WAY_DESTINATION] };
  return { ...ends, port: port & 0xffff, protocol: port >>> 16, onLink: kind === ON_LINK, tunnel: kind > ON_LINK ? kind : 0 };
}

function wayOf(
  source: number,
  { address, port, protocol }: Endpoint,
  backend: ServiceSet['backends'][number] | undefined,
  isSplit: boolean,
): WantedWay {
  const { onLink, tunnel }: Mode = backend === undefined ? NO_MODE : modes[backend.mode];
  if (tunnel !== undefined) return wrappedWay(tunnel, address, backend?.tunnel);
  const ports = isSplit ? { port, protocol } : { port: 0, protocol: 0 };
  return { source, destination: address, ...ports, onLink, tunnel: 0 };
}

/** The kernel is asked for the way of the outer packet. All services of a server share it. */
function wrappedWay(tunnel: Tunnel, destination: number, outer: BackendTunnel = { port: 0, source: 0 }): WantedWay {
  const { port, source } = outer;
  // Of a way by IP in IP it takes no question (rtm_getroute_parse_ip_proto() of Linux): rules by protocol are not followed then.
  const protocol = tunnel === IPIP ? 0 : UDP;
  return { source, destination, port, protocol, onLink: false, tunnel: tunnel + 4 * (outer.hops ?? 0) };
}

function keyOf({ source, destination, port, protocol, onLink, tunnel }: WantedWay): string {
  return `${source} ${destination} ${port} ${protocol} ${onLink} ${tunnel}`;
}
