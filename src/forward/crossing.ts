/**
 * Between interfaces (`[inline]`): what is no service's goes to the other side as it came, to the byte.
 *
 *     clients ── frontend ports ── lb4 ── backend port ── servers
 *
 * From a frontend port to the backend's. From that one to the frontend port whose client it is for: by the addresses that the file gives
 * a port, then by what was learnt of those who sent by it, else to all of them. Two frontend ports see nothing of each other.
 * As at a bridge, what is for somebody behind the port that it came by ends here. A frame to many that was seen at another port a moment
 * ago has come round: the sides are joined somewhere else, and it ends here, too; so does one to a single station, whose sender was busy
 * behind another port just now, when it comes for the second time.
 */
import * as D from '../layout/frames.ts';
import { HOPS, INTERFACE, KERNEL_HOP, SERVER_HOPS, SHIFT } from '../layout/hops.ts';
import { swap32 } from '../packet/address.ts';
import * as F from '../packet/fields.ts';
import { writeHop, writeNoHop } from './next-hops.ts';
import { Stations } from './stations.ts';
import { Verdict } from './verdict.ts';

/** IPv4 addresses that begin with the first `bits` bits of `address`, in native order. */
export interface Prefix {
  readonly address: number;
  readonly bits: number;
}

export interface FrontendPort {
  /** By which it is known again, whatever it is by index. */
  readonly name: string;
  /** The interface's index; 0: it is not there, or down. */
  readonly ifindex: number;
  readonly mtu: number;
  /** Who is behind it, as far as the file says. */
  readonly clients: readonly Prefix[];
}

/** The interfaces that lb4 stands between. Frontend ports keep their place in the list. */
export interface Ports {
  /** 0: it is not there, or down. */
  readonly backend: number;
  readonly backendMtu: number;
  readonly frontends: readonly FrontendPort[];
}

export interface CrossingParts {
  readonly slab: F.Slab;
  readonly frames: Int32Array;
  readonly hops: Int32Array;
  readonly verdicts: Float64Array;
  /** Kept from strangers. */
  readonly seed: number;
}

const NOWHERE = new Uint8Array(6);
/** To a frontend port that nobody knows: all. */
const ALL = -1;
/** What the hop of a port that is none stands for. */
const NO_PORT = -2;
/** The backend's, in place of a frontend port's number. */
const BEHIND = 1 << 16;

const ARP = 0x0608;
const ARP_REQUEST = 0x0100;
const ARP_LENGTH = 28;
// Of an ARP packet (RFC 826), in half-words, and in a word that its target's address is.
const ARP_OPERATION = 3;
const ARP_SENDER = 7;
const ARP_TARGET = 6;

const IPV6 = 0xdd86;
/** Of the headers, in bytes. */
const [IPV6_HEADER, TCP_HEADER, UDP_HEADER] = [40, 20, 8];
/** Nothing shorter is a super-packet: headers of IPv4 and UDP. */
const LEAST_GSO = 28;
const VLAN_ID = 0xfff;

/** Frames that are remembered, for how many milliseconds, and how many words of each tell it from others. */
const SEEN = 1024;
const SEEN_MS = 1000;
const SEEN_WORDS = 16;
/** In place of the port that one came by: it has come by two. */
const SEVERAL = -1;

export class Crossing {
  readonly #slab: F.Slab;
  readonly #frames: Int32Array;
  readonly #hops: Int32Array;
  readonly #verdicts: Float64Array;
  readonly #seed: number;
  #ports: Ports = { backend: 0, backendMtu: 0, frontends: [] };
  /**
   * By the name of a frontend port, those of before included: connections may name them. The first is that of new ones; others are of an lb4 that died,
   * found when the port came up.
   */
  readonly #hopsOf = new Map<string, number[]>();
  /** By address as a host-order number: the longest prefix first. */
  #prefixes: { readonly network: number; readonly mask: number; readonly port: number }[] = [];
  readonly #stations: Stations;
  readonly #addresses: Stations;
  readonly #seenHash = new Int32Array(SEEN);
  readonly #seenPort = new Int32Array(SEEN);
  readonly #seenAt = new Int32Array(SEEN);

  constructor({ slab, frames, hops, verdicts, seed }: CrossingParts) {
    this.#slab = slab;
    this.#frames = frames;
    this.#hops = hops;
    this.#verdicts = verdicts;
    this.#seed = seed;
    this.#stations = new Stations(seed, BEHIND);
    this.#addresses = new Stations(seed);
  }

  /** From now on these are the ports; connections that name the hop of one go by the interface that it is now. */
  setPorts(ports: Ports): void {
    if (namesOf(ports) !== namesOf(this.#ports)) this.#forget();
    this.#ports = ports;
    for (const { name, ifindex, mtu } of ports.frontends) {
      const known = this.#hopsOf.get(name) ?? [this.#findHop(ifindex)];
      this.#hopsOf.set(name, known);
      known.push(...this.#othersTo(ifindex));
      for (const hop of known) {
        if (ifindex === 0) writeNoHop(this.#hops, hop);
        else writeHop(this.#hops, hop, ifindex, mtu, NOWHERE, NOWHERE);
      }
    }
    const names = new Set(ports.frontends.map(({ name }) => name));
    for (const [name, known] of this.#hopsOf) if (!names.has(name)) for (const hop of known) writeNoHop(this.#hops, hop);
    this.#prefixes = ports.frontends
      .flatMap(({ clients }, port) => clients.map(({ address, bits }) => ({ address, bits, port })))
      .sort((a, b) => b.bits - a.bits)
      .map(({ address, bits, port }) => {
        const mask = bits === 0 ? 0 : (-1 << (32 - bits)) | 0;
        return { network: swap32(address) & mask, mask, port };
      });
  }

  /** Whether what comes by that interface is from clients. */
  isFront(ifindex: number): boolean {
    return this.#portAt(ifindex) >= 0;
  }

  /** The next hop of what goes out by that frontend port; that of the kernel where it is none. */
  hopBy(ifindex: number): number {
    const port = this.#portAt(ifindex);
    return port < 0 ? KERNEL_HOP : (this.#hopsOf.get(this.#ports.frontends[port].name)?.[0] ?? KERNEL_HOP);
  }

  /** Sends a frame to the other side, or ends it, counted. */
  cross(f: number, now: number): void {
    const frames = this.#frames;
    const from = frames[f + D.INTERFACE];
    const verdict =
      (frames[f + D.FLAGS] & (D.FLAG_TRUNCATED | D.FLAG_NO_ETHERNET)) === 0 ? this.#direct(f, from, now) : Verdict.dropTruncated;
    frames[f + D.VERDICT] = verdict;
    this.#verdicts[verdict]++;
  }

  /** Remembers behind which port the sender of a service's frame is. */
  learn(f: number, now: number): void {
    const side = this.#sideOf(this.#frames[f + D.INTERFACE]);
    if (side !== NO_PORT) this.#learn(f, side, now);
  }

  /** Who had to make way in the tables of those who were seen. */
  get evicted(): number {
    return this.#stations.evicted + this.#addresses.evicted;
  }

  /** As {@link learn}. Returns false where the sender was busy behind another port just now. */
  #learn(f: number, side: number, now: number): boolean {
    const ip = this.#frames[f + D.OFFSET] >>> 2;
    const half = ip * 2 + F.ETHERNET_HALF;
    const { halves, words } = this.#slab;
    // A sender is never many (IEEE 802: the first bit of the address).
    const isOne = (halves[half + 3] & 1) === 0;
    const isThere =
      !isOne || this.#stations.learn(halves[half + 3] | (halves[half + 4] << 16), halves[half + 5] | this.#vlanOf(f), side, now);
    // Whom a frame from the servers is for is asked of IPv4 addresses only where there is a choice.
    if (side === BEHIND || this.#ports.frontends.length < 2) return isThere;
    const isIp = (this.#frames[f + D.FLAGS] & D.FLAG_FOREIGN) === 0;
    const address = isIp ? words[ip + F.IP_SOURCE] : this.#isArp(f, ip) ? this.#arpSender(ip) : 0;
    if (address !== 0) this.#addresses.learn(address, 0, side, now);
    return isThere;
  }

  /** Where the frame goes, written down. Returns its verdict. */
  #direct(f: number, from: number, now: number): number {
    const frames = this.#frames;
    const side = this.#sideOf(from);
    if (side === NO_PORT) return Verdict.dropNoPort;
    const isToMany = this.#isToMany(f);
    if (isToMany && this.#isKnown(f, from, now, false)) return Verdict.dropLoop;
    const isAstray = !this.#learn(f, side, now);
    if (!isToMany) {
      if (isAstray && this.#isKnown(f, from, now, true)) return Verdict.dropLoop;
      if (this.#stationOf(f, now) === side) return Verdict.dropSameSide;
    }
    const { backend, backendMtu, frontends } = this.#ports;
    let [to, mtu] = [backend, backendMtu];
    if (side === BEHIND) {
      const port = frontends.length === 1 ? 0 : this.#portFor(f, isToMany, now);
      if (port === ALL) {
        frames[f + D.OUT] = D.FLOOD;
        return Verdict.flooded;
      }
      to = frontends[port].ifindex;
      mtu = frontends[port].mtu;
    }
    if (to === 0) return Verdict.dropNoPort;
    if (this.#wireLength(f) > mtu) return Verdict.dropTooLong;
    frames[f + D.INTERFACE] = to;
    frames[f + D.OUT] = D.SEND;
    return Verdict.crossed;
  }

  /** The place of a frontend port, BEHIND for the backend's, NO_PORT where it is none. */
  #sideOf(ifindex: number): number {
    return ifindex === this.#ports.backend && ifindex !== 0 ? BEHIND : this.#portAt(ifindex);
  }

  /** The place of the frontend port with that index, NO_PORT where it is none. */
  #portAt(ifindex: number): number {
    const { frontends } = this.#ports;
    for (let port = 0; port < frontends.length; port++) if (frontends[port].ifindex === ifindex && ifindex !== 0) return port;
    return NO_PORT;
  }

  /** The frontend port that a frame from the backend's side is for. */
  #portFor(f: number, isToMany: boolean, now: number): number {
    const ip = this.#frames[f + D.OFFSET] >>> 2;
    const { halves, words } = this.#slab;
    if (isToMany) {
      if (!this.#isArp(f, ip) || halves[ip * 2 + ARP_OPERATION] !== ARP_REQUEST) return ALL;
      return this.#portToAsk(words[ip + ARP_TARGET], now);
    }
    const isIp = (this.#frames[f + D.FLAGS] & D.FLAG_FOREIGN) === 0;
    const named = isIp ? this.#namedPort(words[ip + F.IP_DESTINATION]) : ALL;
    if (named !== ALL) return named;
    const station = this.#stationOf(f, now);
    if (station >= 0 || !isIp) return station;
    return this.#addresses.find(words[ip + F.IP_DESTINATION], 0, now);
  }

  /** Where ARP asks for an IPv4 address: as the file says, else where it was seen; at all ports when nobody has answered there. */
  #portToAsk(address: number, now: number): number {
    const named = this.#namedPort(address);
    return named === ALL ? this.#addresses.ask(address, 0, now) : named;
  }

  #isToMany(f: number): boolean {
    return (this.#slab.halves[(this.#frames[f + D.OFFSET] >>> 1) + F.ETHERNET_HALF] & 1) !== 0;
  }

  /** Behind which port a frame's destination is; -1: unknown. */
  #stationOf(f: number, now: number): number {
    const half = (this.#frames[f + D.OFFSET] >>> 1) + F.ETHERNET_HALF;
    const { halves } = this.#slab;
    return this.#stations.find(halves[half] | (halves[half + 1] << 16), halves[half + 2] | this.#vlanOf(f), now);
  }

  /** Above the last half of a MAC address: each VLAN has stations of its own, a router may have one address in several. */
  #vlanOf(f: number): number {
    return (this.#frames[f + D.VLAN] & VLAN_ID) << 16;
  }

  /** Bytes behind the Ethernet header that a frame has on the wire: of a super-packet, a segment. */
  #wireLength(f: number): number {
    const flags = this.#frames[f + D.FLAGS];
    const length = this.#frames[f + D.LENGTH];
    if ((flags & D.FLAG_GSO) === 0 || length < LEAST_GSO) return length;
    const ip = this.#frames[f + D.OFFSET] >>> 2;
    const { halves, words } = this.#slab;
    const isIp = (flags & D.FLAG_FOREIGN) === 0;
    // Extension headers of IPv6 are left out: no segment is held to be larger than it is.
    const header = isIp ? (words[ip] & 0xf) * 4 : IPV6_HEADER;
    if (!isIp && halves[ip * 2 + F.ETHERNET_HALF + 6] !== IPV6) return flags >>> 16;
    const isTcp = (isIp ? (words[ip + F.IP_TTL] >>> 8) & 0xff : (words[ip + 1] >>> 16) & 0xff) === F.TCP;
    // Metadata that lies: what stands behind the frame is not its own.
    if (length < header + (isTcp ? TCP_HEADER : UDP_HEADER)) return length;
    const transport = isTcp ? Math.max(TCP_HEADER, ((words[ip + header / 4 + 3] >>> 4) & 0xf) * 4) : UDP_HEADER;
    return header + transport + (flags >>> 16);
  }

  #namedPort(address: number): number {
    const wanted = swap32(address);
    for (const { network, mask, port } of this.#prefixes) if ((wanted & mask) === network) return port;
    return ALL;
  }

  #isArp(f: number, ip: number): boolean {
    return this.#slab.halves[ip * 2 + F.ETHERNET_HALF + 6] === ARP && this.#frames[f + D.LENGTH] >= ARP_LENGTH;
  }

  #arpSender(ip: number): number {
    const { halves } = this.#slab;
    return halves[ip * 2 + ARP_SENDER] | (halves[ip * 2 + ARP_SENDER + 1] << 16);
  }

  /**
   * Whether a frame came by another port a moment ago, or by any; if not, it is remembered. Its Ethernet header, the tag, its length and
   * its beginning tell it. One that has come by two is known from every port: what was sent out before that comes back by the first one.
   */
  #isKnown(f: number, from: number, now: number, byAny: boolean): boolean {
    const frames = this.#frames;
    const ip = frames[f + D.OFFSET] >>> 2;
    const { halves, words } = this.#slab;
    const bytes = frames[f + D.LENGTH];
    let h = this.#seed ^ bytes ^ Math.imul(frames[f + D.VLAN], 0x85ebca6b) ^ halves[ip * 2 + F.ETHERNET_HALF];
    const end = ip + Math.min(SEEN_WORDS, bytes >>> 2);
    for (let at = ip - 3; at < end; at++) h = Math.imul(h ^ words[at], 0x9e3779b1) ^ (h >>> 15);
    const place = (h >>> 8) % SEEN;
    const isKnown = this.#seenHash[place] === h && (now - this.#seenAt[place]) >>> 0 < SEEN_MS && this.#seenPort[place] !== 0;
    if (isKnown && this.#seenPort[place] !== from) {
      // Not renewed by what comes later: whoever asks again all the time is heard once a second.
      if (this.#seenPort[place] !== SEVERAL) this.#seenAt[place] = now;
      this.#seenPort[place] = SEVERAL;
      return true;
    }
    if (isKnown && byAny) return true;
    this.#seenHash[place] = h;
    this.#seenPort[place] = from;
    this.#seenAt[place] = now;
    return false;
  }

  /** That of a table that was found, where connections name it by this interface; else one that has none, or any of a table full of them. */
  #findHop(ifindex: number): number {
    const taken = this.#takenHops();
    let free = 0;
    let any = 0;
    for (let hop = SERVER_HOPS; hop < HOPS; hop++) {
      if (taken.has(hop)) continue;
      const is = this.#hops[(hop << SHIFT) + INTERFACE];
      if (is === ifindex && ifindex !== 0) return hop;
      any ||= hop;
      if (is === 0 && free === 0) free = hop;
      if (is === 0 && hop > SERVER_HOPS + 2 * D.BATCH) break;
    }
    return free || any;
  }

  /** Those of nobody that lead to an interface: connections of an lb4 that died go by them. */
  #othersTo(ifindex: number): number[] {
    if (ifindex === 0) return [];
    const taken = this.#takenHops();
    const others: number[] = [];
    for (let hop = SERVER_HOPS; hop < HOPS; hop++)
      if (this.#hops[(hop << SHIFT) + INTERFACE] === ifindex && !taken.has(hop)) others.push(hop);
    return others;
  }

  #takenHops(): Set<number> {
    return new Set([...this.#hopsOf.values()].flat());
  }

  /** Other ports, other places. */
  #forget(): void {
    this.#stations.clear();
    this.#addresses.clear();
  }
}

function namesOf({ frontends }: Ports): string {
  return frontends.map(({ name }) => name).join();
}
