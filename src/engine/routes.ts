/** Keeps the servers' next hops true: asks rtnetlink for each server, and again whenever the kernel says it changed. */
import { addLink, setLinks } from '../forward/links.ts';
import { modes } from '../forward/modes.ts';
import { writeHop, writeKernelHop, writeNoHop, writeTunnel } from '../forward/next-hops.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import { type FrontendHops, type Way, Ways } from '../forward/ways.ts';
import { type Interface, native, type Route, type RouteSocket } from '../io/native.ts';
import { routeOnce } from '../io/route-once.ts';
import { INTERFACE, SERVER_LINKS, SHIFT } from '../layout/hops.ts';
import { OldWays, type Tables } from './old-ways.ts';
import { Solicitor } from './solicitor.ts';

const UNKNOWN_MTU = 65_535;
/** No IP packet has more bytes, whatever a link takes. */
const MOST_MTU = 65_535;
const NO_MAC = new Uint8Array(6);

/**
 * Every ARP notice on a link may concern a server, or none: all are asked about, but for a tenth of this thread's time at most,
 * after a burst of so many ms. So one change is followed at once, and hundreds a second do not hold up checks and statistics.
 */
const SHARE = 1 / 10;
const BURST_MS = 100;
/** Between two turns of the event loop. */
const SLICE_MS = 10;

/** The address that the kernel would send from to `destination`; both in native order. */
export function sourceTowards(destination: number): number {
  return routeOnce(destination).source;
}

/** Whether `address` (native order) is one of this host's. */
export function isOurs(address: number): boolean {
  return routeOnce(address).local;
}

/**
 * Why a way leads nowhere: what the kernel says of the route, or
 * - `source`: the frontend's address has left this host
 * - `gateway`: L2 DSR, and the server is not on the link itself
 * - `neighbour`: nobody has answered ARP: L2 DSR, for the server yet, or any more; where packets are wrapped, for it or its gateway, though asked
 */
export type Obstacle = Route['kind'] | 'gateway' | 'neighbour';

/** A way by which nothing comes to a server. Addresses in native order. */
export interface DeadEnd extends Pick<Way, 'source' | 'destination' | 'onLink'> {
  readonly why: Obstacle;
}

/** Of wrapped packets. */
export interface Fit {
  readonly bytes: number;
  /** Native order. */
  readonly source: number;
}

/** The ways to all servers, each with the next hop that the kernel would take. */
export class ServerRoutes {
  readonly #socket: RouteSocket;
  /** Each worker has a copy. */
  readonly #hops: readonly Int32Array[];
  readonly #changed: (interfaces: readonly Interface[]) => void;
  /** The interface that leads to all servers, by name; undefined: the kernel's routes do. */
  #only: string | undefined;
  readonly #ways: Ways;
  readonly #oldWays: OldWays;
  readonly #solicitor: Solicitor;
  /** Those that it has asked about. */
  #known: ReadonlySet<Way> = new Set();
  /** Those of wrapped packets among them. */
  #tunnels: readonly Way[] = [];
  readonly #obstacles = new Map<Way, Obstacle>();
  /** Bytes that wrapped packets to a server may have, where that is less than its route says (outer-paths.ts). */
  readonly #limits = new Map<number, number>();
  /** Some servers answer clients through this host: by which links matters (forward/links.ts). */
  #isGuarding = false;
  /** By which links each way may lead, where that matters: all that the kernel has, of several next hops. */
  readonly #links = new Map<Way, readonly number[]>();
  #interfaces = new Map<number, Interface>();
  /** Something changed since the walk over all ways began. */
  #isDirty = false;
  /** Over the ways as they are: it passes over those that are dropped meanwhile. */
  #walk: Iterator<Way> | undefined;
  #credit = BURST_MS;
  #creditAt = performance.now();
  #timer: NodeJS.Timeout | undefined;

  private constructor(
    socket: RouteSocket,
    memories: readonly Tables[],
    ways: Ways,
    changed: (interfaces: readonly Interface[]) => void,
    only: string | undefined,
  ) {
    this.#socket = socket;
    this.#hops = memories.map(({ hops }) => hops);
    this.#ways = ways;
    this.#oldWays = new OldWays(ways, memories, () => this.#forget());
    this.#solicitor = new Solicitor(socket);
    this.#changed = changed;
    this.#only = only;
  }

  /**
   * @param memories where next hops are written, and who names them, one a worker
   * @param ways those of another process, if any, keep their places
   * @param changed told all interfaces whenever something about links or routes changed
   * @param only between interfaces: the one on the servers' side
   */
  static open(memories: readonly Tables[], ways: Ways, changed: (interfaces: readonly Interface[]) => void, only?: string): ServerRoutes {
    const routes = new ServerRoutes(new (native().RouteSocket)(), memories, ways, changed, only);
    routes.#socket.watch(() => routes.refresh());
    routes.#readInterfaces();
    return routes;
  }

  /** From now on this interface leads to all servers. */
  leadBy(name: string): void {
    this.#only = name;
    for (const { hop } of this.#known) this.#passBy(hop, name);
    this.#tellLinks();
  }

  interfaces(): Interface[] {
    return [...this.#interfaces.values()];
  }

  /** MTU by the index of an interface that is up. */
  mtus(): ReadonlyMap<number, number> {
    return new Map([...this.#interfaces].filter(([, { up }]) => up).map(([index, { mtu }]) => [index, mtu]));
  }

  /**
   * Resolves the ways of `set` that are new; from now on they are kept true, too. Returns their next hops. Throws a RangeError, and
   * changes nothing, when there is no room for all of them.
   */
  apply(set: ServiceSet): FrontendHops {
    const hops = this.#ways.apply(set);
    const known = this.#known;
    const wasGuarding = this.#isGuarding;
    this.#isGuarding = set.backends.some(({ mode }) => modes[mode].repliesTo === 'client');
    this.#forget();
    for (const way of this.#known) if (!known.has(way) || this.#isGuarding !== wasGuarding) this.#tryWay(way);
    this.#tellLinks();
    this.#oldWays.watch();
    return hops;
  }

  /** Knows those that there are. */
  #forget(): void {
    this.#known = new Set(this.#ways.all());
    this.#tunnels = [...this.#known].filter(({ tunnel }) => tunnel > 0);
    this.#solicitor.keep(this.#known);
    for (const ways of [this.#obstacles, this.#links]) for (const way of ways.keys()) if (!this.#known.has(way)) ways.delete(way);
  }

  /** The ways that lead nowhere as the kernel last said; those that only old connections have, too. */
  deadEnds(): DeadEnd[] {
    return [...this.#obstacles].map(([{ source, destination, onLink }, why]) => ({ source, destination, onLink, why }));
  }

  /** The ways of wrapped packets. */
  get tunnels(): readonly Way[] {
    return this.#tunnels;
  }

  /**
   * What is known of a way of wrapped packets now: how many bytes fit, what is around packets included, and what they come from. Throws as RouteSocket.route
   * does.
   */
  fitOf(way: Way): Fit {
    const { destination, source, port, protocol } = way;
    const route = this.#socket.route(destination, source, port, protocol);
    return { bytes: this.#mtuOf(way, route, true), source: source || route.source };
  }

  /** From now on no more than so many bytes fit a way of wrapped packets to that server; undefined: what its route says. */
  limit(server: number, bytes: number | undefined): void {
    if (bytes === undefined) this.#limits.delete(server);
    else this.#limits.set(server, bytes);
    this.refresh();
  }

  /**
   * What the kernel has learnt of errors counts for nothing where we send what we have wrapped: anybody can forge them. Where the kernel sends it, it goes by
   * them, and so must we.
   */
  #mtuOf({ tunnel, destination }: Way, { mtu, ownMtu, ifindex }: Route, isSentByUs: boolean): number {
    const said = tunnel > 0 && isSentByUs ? ownMtu : mtu;
    const limit = tunnel > 0 ? this.#limits.get(destination) : undefined;
    return Math.min(said || (this.#interfaces.get(ifindex)?.mtu ?? UNKNOWN_MTU), limit ?? MOST_MTU, MOST_MTU);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#oldWays.close();
    this.#solicitor.close();
    this.#socket.close();
  }

  /** Asks for all ways anew, soon. */
  refresh(): void {
    this.#isDirty = true;
    // A timer that runs already looks at it.
    if (this.#timer === undefined) this.#work();
  }

  /** Walks on for a slice, as far as there is credit, and comes back for the rest. */
  #work(): void {
    const began = performance.now();
    this.#credit = Math.min(BURST_MS, this.#credit + (began - this.#creditAt) * SHARE);
    this.#creditAt = began;
    if (this.#credit > 0) {
      while (this.#step() && performance.now() - began < SLICE_MS);
      this.#credit -= performance.now() - began;
    }
    if (this.#walk === undefined && !this.#isDirty) return;
    const wait = this.#credit > 0 ? 0 : (SLICE_MS - this.#credit) / SHARE;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#work();
    }, wait);
  }

  /** One way, or the beginning of a walk; false when there is nothing left to do. */
  #step(): boolean {
    if (this.#walk === undefined) {
      if (!this.#isDirty) return false;
      this.#isDirty = false;
      try {
        this.#readInterfaces();
      } catch {
        // The kernel had no memory for the answer: what is known goes on until the next notice.
      }
      this.#changed(this.interfaces());
      this.#walk = this.#ways.all();
    }
    const { value, done } = this.#walk.next();
    if (done) {
      this.#walk = undefined;
      this.#tellLinks();
    } else {
      this.#tryWay(value);
      // At once: its servers' answers may come by another link already.
      for (const hops of this.#hops) for (const link of this.#linksOf(hops, value)) addLink(hops, SERVER_LINKS, link);
    }
    return true;
  }

  /** Which links lead to servers. */
  #tellLinks(): void {
    const [hops] = this.#hops;
    if (hops === undefined) return;
    const links = new Set([...this.#known].flatMap((way) => this.#linksOf(hops, way)));
    for (const each of this.#hops) setLinks(each, SERVER_LINKS, links);
  }

  /** All next hops of a way, of which the kernel's answer for one flow has one. */
  #askLinks(way: Way, source: number): void {
    try {
      this.#links.set(way, this.#socket.links(way.destination, source, way.port, way.protocol));
    } catch {
      // As without memory for the answer: what is known goes on until the next notice.
    }
  }

  /** The interfaces that a way leads by, by index: that of its next hop (0: none is known), and those that the kernel has for other flows. */
  #linksOf(hops: Int32Array, way: Way): readonly number[] {
    return [hops[(way.hop << SHIFT) + INTERFACE], ...(this.#links.get(way) ?? [])];
  }

  #readInterfaces(): void {
    this.#interfaces = new Map(this.#socket.interfaces().map((link) => [link.index, link]));
  }

  /** An interface may vanish between two questions: then this way waits for the next notice, the others do not. */
  #tryWay(way: Way): void {
    const { hop, onLink } = way;
    if (this.#only !== undefined) return this.#passBy(hop, this.#only);
    let why: Obstacle | undefined;
    try {
      why = this.#resolveWay(way);
    } catch {
      // What is not known to come from anywhere cannot be wrapped.
      const isDropped = onLink || way.tunnel > 0;
      for (const hops of this.#hops) {
        if (isDropped) writeNoHop(hops, hop);
        else writeKernelHop(hops, hop, UNKNOWN_MTU);
      }
      why = isDropped ? 'none' : undefined;
    }
    if (why === undefined) this.#obstacles.delete(way);
    else this.#obstacles.set(way, why);
  }

  /** Whoever stands between sends by an interface, whatever routes there are, and changes no MAC. That one is down is told elsewhere. */
  #passBy(hop: number, name: string): void {
    const link = [...this.#interfaces.values()].find((one) => one.name === name && one.up);
    for (const hops of this.#hops) {
      if (link === undefined) writeNoHop(hops, hop);
      else writeHop(hops, hop, link.index, link.mtu, NO_MAC, NO_MAC);
    }
  }

  /**
   * What leads nowhere (no route, a blackhole) is dropped and counted here: the kernel would refuse it packet by packet. A neighbour
   * not known yet is left to the kernel: the first packet makes it ask, the answer brings us back here. So does its silence, where packets are wrapped:
   * what the kernel then does not send comes from this host, and nobody else is told.
   * Returns what is in the way.
   */
  #resolveWay(way: Way): Obstacle | undefined {
    const { hop, source, destination, port, protocol, onLink } = way;
    const asked = this.#socket.route(destination, source, port, protocol);
    // A source that is no address of this host (any more) has no route at all: then the answer without one must do.
    const route = asked.kind === 'source' ? this.#socket.route(destination, 0, port, protocol) : asked;
    if (this.#isGuarding) this.#askLinks(way, asked.kind === 'source' ? 0 : source);
    const link = this.#interfaces.get(route.ifindex);
    const isSent = route.kind === 'unicast' && !(onLink && (route.encapsulated || route.neighbour !== destination));
    // What the route wraps is left to the kernel, too: a frame of ours would go out bare.
    const isOurs = isSent && !route.encapsulated && link?.mac.length === 6;
    const neighbour = isOurs ? this.#socket.neighbour(route.ifindex, route.neighbour) : undefined;
    const isResolved = link !== undefined && neighbour !== undefined;
    // One that is missing the kernel asks for where it has the packets.
    const isAsked = isResolved || (isOurs && (onLink || way.tunnel > 0));
    const isSilent = isAsked && !isResolved && !onLink && this.#isSilent(way, route);
    this.#solicitor.note(way, isAsked ? { ifindex: route.ifindex, address: route.neighbour, isKnown: isResolved } : undefined);
    const isDropped = !isResolved && (onLink || isSilent || !(isSent || route.local));
    const mtu = this.#mtuOf(way, route, isResolved) - way.tunnel;
    for (const hops of this.#hops) {
      // No packet is wrapped before it is known what it comes from: the last word written is what to do with it.
      writeTunnel(hops, hop, way, source || route.source);
      if (isResolved) writeHop(hops, hop, route.ifindex, mtu, link.mac, neighbour);
      else if (isDropped) writeNoHop(hops, hop);
      else writeKernelHop(hops, hop, mtu, route.ifindex);
    }
    if (asked.kind === 'source') return 'source';
    return isDropped ? obstacleOf(route, isSent) : undefined;
  }

  /** Whether nobody answers ARP there: once so, until somebody does, since the kernel is asked again and again and knows nothing meanwhile. */
  #isSilent(way: Way, { ifindex, neighbour }: Route): boolean {
    return this.#obstacles.get(way) === 'neighbour' || this.#socket.isSilent(ifindex, neighbour);
  }
}

/** Of a way whose packets are dropped: unicast is so in L2 DSR, and where they are wrapped, alone. */
function obstacleOf({ kind }: Route, isSent: boolean): Obstacle {
  if (kind !== 'unicast') return kind;
  return isSent ? 'neighbour' : 'gateway';
}
