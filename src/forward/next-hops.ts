/** Writing next hops, and learning those of clients: the table is laid out in layout/hops.ts. */
import { DROP, ROUTE, SEND } from '../layout/frames.ts';
import {
  ETHERNET,
  HOPS,
  INTERFACE,
  KERNEL_HOP,
  MTU,
  OUT,
  SERVER_HOPS,
  SHIFT,
  TUNNEL,
  TUNNEL_DESTINATION,
  TUNNEL_SOURCE,
  VERSION,
} from '../layout/hops.ts';
import { swap16 } from '../packet/address.ts';
import { ETHERNET_HALF, type Slab } from '../packet/fields.ts';
import { ClientLinks } from './links.ts';
import type { Way } from './ways.ts';

const IPV4_ETHERTYPE = 0x0008 << 16;
const LEARN_PROBES = 16;

/** Words of a way back: the Ethernet header as it is stored, and the interface. */
const BACK = 5;
const [E0, E1, E2, E3, LINK] = [0, 1, 2, 3, 4];

/** Reads the way back to whoever sent the frame whose IP header is at word `ip`: its MAC, our MAC, the interface it came by. */
function readBack(back: Int32Array, { halves }: Slab, ip: number, ifindex: number): void {
  const half = ip * 2 + ETHERNET_HALF;
  back[E0] = halves[half + 3];
  back[E1] = halves[half + 4] | (halves[half + 5] << 16);
  back[E2] = halves[half] | (halves[half + 1] << 16);
  back[E3] = halves[half + 2] | IPV4_ETHERTYPE;
  back[LINK] = ifindex;
}

/** From here to {@link endWriting} the kernel's fast path, which may be reading, does not go by an entry: it would find half of it new. */
function beginWriting(hops: Int32Array, at: number): void {
  Atomics.store(hops, at + VERSION, hops[at + VERSION] | 1);
}

function endWriting(hops: Int32Array, at: number): void {
  Atomics.store(hops, at + VERSION, hops[at + VERSION] + 1);
}

/**
 * Writes an entry; where it says so already, nothing: a version that goes up has the kernel's fast path hand up what it has in hand.
 * @param e0 the Ethernet header as it is stored: half a word, and three words
 */
function write(
  hops: Int32Array,
  hop: number,
  out: number,
  mtu: number,
  ifindex: number,
  e0: number,
  e1: number,
  e2: number,
  e3: number,
): void {
  const at = hop << SHIFT;
  // Odd: who began to write it was killed.
  const isWhole = (hops[at + VERSION] & 1) === 0;
  if (isWhole && hops[at + OUT] === out && hops[at + MTU] === mtu && leadsTo(hops, at, ifindex, e0, e1, e2, e3)) return;
  beginWriting(hops, at);
  hops[at + MTU] = mtu;
  hops[at + ETHERNET] = e0;
  hops[at + ETHERNET + 1] = e1;
  hops[at + ETHERNET + 2] = e2;
  hops[at + ETHERNET + 3] = e3;
  hops[at + INTERFACE] = ifindex;
  hops[at + OUT] = out;
  endWriting(hops, at);
}

/** Whether the entry at word `at` has that interface and Ethernet header. */
function leadsTo(hops: Int32Array, at: number, ifindex: number, e0: number, e1: number, e2: number, e3: number): boolean {
  return (
    hops[at + INTERFACE] === ifindex &&
    hops[at + ETHERNET + 1] === e1 &&
    hops[at + ETHERNET] === e0 &&
    hops[at + ETHERNET + 2] === e2 &&
    hops[at + ETHERNET + 3] === e3
  );
}

/**
 * Says what packets of a way are put into, or that they leave as they are: before its next hop is written.
 * @param source the outer packet's, native order
 */
export function writeTunnel(hops: Int32Array, hop: number, { tunnel, port, destination }: Omit<Way, 'hop'>, source: number): void {
  const at = hop << SHIFT;
  const word = tunnel === 0 ? 0 : tunnel | (swap16(port) << 16);
  const isSame =
    hops[at + TUNNEL] === word && (word === 0 || (hops[at + TUNNEL_SOURCE] === source && hops[at + TUNNEL_DESTINATION] === destination));
  if (isSame) return;
  beginWriting(hops, at);
  hops[at + TUNNEL_SOURCE] = source;
  hops[at + TUNNEL_DESTINATION] = destination;
  hops[at + TUNNEL] = word;
  endWriting(hops, at);
}

/** Writes a next hop where it is another one by now. Addresses are six bytes. */
export function writeHop(hops: Int32Array, hop: number, ifindex: number, mtu: number, source: Uint8Array, destination: Uint8Array): void {
  const [d, s] = [destination, source];
  const e1 = d[2] | (d[3] << 8) | (d[4] << 16) | (d[5] << 24);
  const e2 = s[0] | (s[1] << 8) | (s[2] << 16) | (s[3] << 24);
  write(hops, hop, SEND, mtu, ifindex, d[0] | (d[1] << 8), e1, e2, s[4] | (s[5] << 8) | IPV4_ETHERTYPE);
}

/** Leaves a next hop to the kernel's routing: the neighbour is not resolved yet, or has no Ethernet address. */
export function writeKernelHop(hops: Int32Array, hop: number, mtu: number, ifindex = 0): void {
  const at = hop << SHIFT;
  if (hops[at + INTERFACE] !== ifindex) {
    beginWriting(hops, at);
    hops[at + INTERFACE] = ifindex;
    hops[at + OUT] = ROUTE;
    endWriting(hops, at);
  }
  hops[at + MTU] = mtu;
  hops[at + OUT] = ROUTE;
}

/**
 * A next hop that leads nowhere, which its MTU of 0 tells: no route, a blackhole; or an unresolved neighbour in L2 DSR, which cannot ask
 * the kernel, to which the VIP is local.
 */
export function writeNoHop(hops: Int32Array, hop: number): void {
  const at = hop << SHIFT;
  hops[at + MTU] = 0;
  hops[at + OUT] = DROP;
}

/**
 * The hops learnt from clients' frames. One is kept while a flow names it, and given to another client afterwards: every live
 * flow says so as the sweep comes by (connections.ts), so a hop that was in no round of it since the one before the last has none.
 */
export class LastHops {
  readonly #hops: Int32Array;
  #mtus: ReadonlyMap<number, number> = new Map();
  #smallestMtu = 65_535;
  /** The round of the sweep in which each was last learnt or named by a flow. */
  readonly #used = new Uint32Array(HOPS);
  #round = 2;
  readonly #clientLinks: ClientLinks;
  /** Where a frame came from, while it is looked at. */
  readonly #back = new Int32Array(BACK);

  constructor(hops: Int32Array) {
    this.#hops = hops;
    this.#clientLinks = new ClientLinks(hops);
    writeKernelHop(hops, KERNEL_HOP, 65535);
  }

  /**
   * Tells the MTU of each interface that is up, by index. Hops already learnt follow: those by any other one are left to the kernel's routing,
   * which may know another way, until it is back.
   */
  setInterfaces(mtus: ReadonlyMap<number, number>): void {
    // By which links clients come is learnt anew with each of those that there are.
    if (this.#mtus.size > 0 && !isSameLinks(mtus, this.#mtus)) this.#clientLinks.forget();
    this.#mtus = mtus;
    this.#smallestMtu = Math.min(65_535, ...mtus.values());
    const hops = this.#hops;
    for (let hop = SERVER_HOPS; hop < HOPS; hop++) {
      const at = hop << SHIFT;
      const ifindex = hops[at + INTERFACE];
      if (ifindex === 0) continue;
      this.#write(hop, ifindex, hops[at + ETHERNET], hops[at + ETHERNET + 1], hops[at + ETHERNET + 2], hops[at + ETHERNET + 3]);
    }
  }

  /** Of all interfaces that are up: what fits all links, in bytes. */
  get smallestMtu(): number {
    return this.#smallestMtu;
  }

  /** The hop back to whoever sent the frame whose IP header is at word `ip`: its MAC, our MAC, the interface it came by. */
  learn(slab: Slab, ip: number, ifindex: number): number {
    const back = this.#back;
    readBack(back, slab, ip, ifindex);
    let slot = (Math.imul(back[E1] ^ Math.imul(back[E0] + ifindex, 0x9e3779b1), 0x85ebca6b) >>> 8) % (HOPS - SERVER_HOPS);
    let free = KERNEL_HOP;
    for (let probe = 0; probe < LEARN_PROBES; probe++) {
      const hop = SERVER_HOPS + slot;
      if (this.#isBack(hop, back)) return this.keep(hop);
      if (free === KERNEL_HOP && this.#used[hop] + 2 <= this.#round) free = hop;
      slot = (slot + 1) % (HOPS - SERVER_HOPS);
    }
    // Full for the moment: this client's replies go by the kernel's routing.
    if (free === KERNEL_HOP) return KERNEL_HOP;
    this.#write(free, ifindex, back[E0], back[E1], back[E2], back[E3]);
    return this.keep(free);
  }

  /** Whether a hop was learnt from a client's frame: others are the main thread's. */
  isLearnt(hop: number): boolean {
    return hop >= SERVER_HOPS;
  }

  /** Whether that hop leads to whoever sent the frame whose IP header is at word `ip`. */
  leadsBack(hop: number, slab: Slab, ip: number, ifindex: number): boolean {
    readBack(this.#back, slab, ip, ifindex);
    return this.#isBack(hop, this.#back);
  }

  #isBack(hop: number, back: Int32Array): boolean {
    return leadsTo(this.#hops, hop << SHIFT, back[LINK], back[E0], back[E1], back[E2], back[E3]);
  }

  /** A live flow goes by this hop. Returns it. */
  keep(hop: number): number {
    this.#used[hop] = this.#round;
    return hop;
  }

  /** Behind this hop is a client that has been heard as well as its server (links.ts). */
  noteClient(hop: number): void {
    this.#clientLinks.note(this.#hops[(hop << SHIFT) + INTERFACE]);
  }

  /** Every live flow has been seen since this was last called; or there is none. */
  swept(now: number): void {
    this.#round++;
    this.#clientLinks.age(now);
  }

  #write(hop: number, ifindex: number, e0: number, e1: number, e2: number, e3: number): void {
    const mtu = this.#mtus.get(ifindex);
    // Without Ethernet, or on the loopback, all addresses are zero: the kernel finds the way, only the MTU is the interface's.
    const isSent = mtu !== undefined && (e0 | e1 | e2) !== 0;
    write(this.#hops, hop, isSent ? SEND : ROUTE, mtu ?? 65535, ifindex, e0, e1, e2, e3);
  }
}

function isSameLinks(a: ReadonlyMap<number, number>, b: ReadonlyMap<number, number>): boolean {
  return a.size === b.size && [...a.keys()].every((ifindex) => b.has(ifindex));
}
