/**
 * Fragments of datagrams (RFC 791 section 3.2), where frames come as they were sent: with io = "pcap", between interfaces, and where the
 * kernel does not put them together. The first one has the ports, and goes by a flow; where it went is kept for a second, so that the others
 * follow it. What comes before its first one is dropped.
 *
 * One place a packet, by a secret hash, so that nobody can aim at another's: what is remembered of it is lost to one that comes after it.
 */
import type { Segment } from '../flow/evidence.ts';
import { PendingFins } from '../flow/pending-fins.ts';
import type { Protocol } from '../flow/protocol.ts';
import { type FlowTable, hashTuple } from '../flow/table.ts';
import * as Flow from '../layout/flow.ts';
import * as D from '../layout/frames.ts';
import * as Hop from '../layout/hops.ts';
import type { HashKey } from '../layout/memory.ts';
import { destinationPort, swap16 } from '../packet/address.ts';
import { finishIpHeader } from '../packet/build.ts';
import * as F from '../packet/fields.ts';
import type { Connections } from './connections.ts';
import { restoreQuoted } from './icmp.ts';
import { isClientsAlone } from './links.ts';
import type { Opener } from './opener.ts';
import type { Frontend, Services } from './services.ts';
import { Verdict } from './verdict.ts';

export interface FragmentsParts {
  readonly slab: F.Slab;
  readonly frames: Int32Array;
  readonly table: FlowTable;
  readonly hops: Int32Array;
  readonly services: Services;
  readonly connections: Connections;
  readonly opener: Opener;
  /** What a packet takes of the TTL, and the least that is left of one that goes no further. */
  readonly ttlStep: number;
  readonly ttlLeast: number;
  /** Gives a frame the next hop at word `hop`. */
  readonly leave: (f: number, ip: number, hop: number, length: number) => void;
  /** Opens a connection for a packet: its slot, or less than 0. */
  readonly install: (f: number, ip: number, frontend: Frontend, ports: number, now: number) => number;
  /** Whether a frame cannot be of the server whose answers go by a slot. */
  readonly isForged: (f: number, slot: number) => boolean;
  /** Whether a datagram may open one: by where it comes from, and who says to have sent it. */
  readonly mayOpen: (f: number, ip: number, ports: number, protocol: Protocol) => boolean;
}

/** Takes a fragment that has its way, and returns the verdict; -1: nobody knows whose it is. */
export type FragmentPath = (f: number, ip: number, protocol: Protocol | undefined, now: number) => number;

const UNKNOWN = -1;

/** Packets of which the rest may be under way. A power of two. */
const PLACES = 1024;
const SHIFT = 22;
/** Milliseconds that the rest has to come. */
const REST_MS = 1000;

/** Words of a place: the packet, when its first one came, and where that went. */
const PLACE = 9;
const [SOURCE, DESTINATION, PACKET, SEEN, NEW_SOURCE, NEW_DESTINATION, NEXT_HOP, SLOT, IS_GUARDED] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
/** In PACKET, which has identification and protocol: there is one. */
const TAKEN = 1 << 24;

/** Where a packet's first fragment went. */
interface Way {
  /** Native order. */
  source: number;
  destination: number;
  /** Index into the next-hop table. */
  hop: number;
  /** Its flow's slot by then; NONE where it had none. */
  slot: number;
  /** Whether it was what a server sends its client: layout/flow.ts. */
  isGuarded: boolean;
}

class Ways {
  readonly #key: HashKey;
  readonly #places = new Int32Array(PLACES * PLACE);
  readonly #way: Way = { source: 0, destination: 0, hop: 0, slot: Flow.NONE, isGuarded: false };

  constructor(key: HashKey) {
    this.#key = key;
  }

  /** The first fragment at word `ip` is about to go by the flow at word `at` of `flows`, in `slot` (NONE: one that is not kept). */
  remember(words: Int32Array, ip: number, flows: Int32Array, at: number, slot: number, isGuarded: boolean, now: number): void {
    const place = this.#placeOf(words, ip);
    const places = this.#places;
    places[place + SOURCE] = words[ip + F.IP_SOURCE];
    places[place + DESTINATION] = words[ip + F.IP_DESTINATION];
    places[place + PACKET] = packetOf(words, ip);
    places[place + SEEN] = now;
    places[place + NEW_SOURCE] = flows[at + Flow.NEW_SOURCE];
    places[place + NEW_DESTINATION] = flows[at + Flow.NEW_DESTINATION];
    places[place + NEXT_HOP] = flows[at + Flow.NEXT_HOP];
    places[place + SLOT] = slot;
    places[place + IS_GUARDED] = Number(isGuarded);
  }

  /** Where the first one went of the packet that the fragment at word `ip` is of; it holds until the next call. */
  find(words: Int32Array, ip: number, now: number): Way | undefined {
    const place = this.#placeOf(words, ip);
    const places = this.#places;
    if (
      places[place + PACKET] !== packetOf(words, ip) ||
      places[place + SOURCE] !== words[ip + F.IP_SOURCE] ||
      places[place + DESTINATION] !== words[ip + F.IP_DESTINATION] ||
      (now - places[place + SEEN]) >>> 0 > REST_MS
    )
      return undefined;
    const way = this.#way;
    way.source = places[place + NEW_SOURCE];
    way.destination = places[place + NEW_DESTINATION];
    way.hop = places[place + NEXT_HOP];
    way.slot = places[place + SLOT];
    way.isGuarded = places[place + IS_GUARDED] !== 0;
    return way;
  }

  #placeOf(words: Int32Array, ip: number): number {
    const hash = hashTuple(this.#key, words[ip + F.IP_SOURCE], words[ip + F.IP_DESTINATION], packetOf(words, ip));
    return (hash >>> SHIFT) * PLACE;
  }
}

/** Identification and protocol. */
function packetOf(words: Int32Array, ip: number): number {
  return (words[ip + F.IP_FRAGMENT] & 0xffff) | ((words[ip + F.IP_TTL] & 0xff00) << 8) | TAKEN;
}

/** For one core's slow path. */
export function createFragmentPath(parts: FragmentsParts): FragmentPath {
  const { slab, frames, table, hops, services, connections, opener, ttlStep, ttlLeast, leave, install, isForged, mayOpen } = parts;
  const { words } = slab;
  const flow = table.words;
  const ways = new Ways(table.key);
  const segment: Segment = { flags: 0, sequence: 0, acknowledgment: 0, payload: 0, isReply: false, now: 0, pendingFins: new PendingFins() };

  /** Of the flow that a first one was found by: it may go by a copy, which does not tell. */
  let isGuarded = false;

  return function fragment(f, ip, protocol, now) {
    if ((words[ip + F.IP_TTL] & 0xff) <= ttlLeast || (frames[f + D.FLAGS] & D.FLAG_PARTIAL) !== 0) return UNKNOWN;
    if ((words[ip + F.IP_FRAGMENT] & F.FRAGMENT_OFFSET) !== 0) {
      const way = ways.find(words, ip, now);
      return way === undefined ? UNKNOWN : follow(f, ip, way);
    }
    if (!protocol?.isDatagram || !protocol.hasPorts) return UNKNOWN;
    isGuarded = false;
    const slot = leader(f, ip, protocol, now);
    return slot === Flow.NONE ? UNKNOWN : lead(f, ip, slot, now);
  };

  /** Bytes of the IP packet behind its header. */
  function restOf(ip: number): number {
    return swap16(words[ip] >>> 16) - (words[ip] & 0xf) * 4;
  }

  /**
   * The slot that a first fragment goes by: of its flow, or of one that it opens, without the rest that its checksum would vouch for; NONE
   * where no server takes it.
   */
  function leader(f: number, ip: number, protocol: Protocol, now: number): number {
    const payload = restOf(ip) - protocol.checksum - 2;
    if (payload < 0) return Flow.NONE;
    const ports = words[ip + (words[ip] & 0xf)];
    const [source, destination] = [words[ip + F.IP_SOURCE], words[ip + F.IP_DESTINATION]];
    const slot = table.find(source, destination, ports, Flow.live(protocol.number));
    if (isForged(f, slot)) return Flow.NONE;
    if (slot !== Flow.NONE && !connections.isStale(slot, now)) return known(slot, payload, now);
    if (slot !== Flow.NONE) connections.remove(slot, now);
    const frontend = services.frontendAt(destination, destinationPort(ports), protocol.number);
    if (frontend === undefined || frontend.draining || !mayOpen(f, ip, ports, protocol)) return Flow.NONE;
    if (frontend.guard?.denies(source)) return Flow.NONE;
    const opened = install(f, ip, frontend, ports, now);
    if (opened < 0) return Flow.NONE;
    if (frontend.perPacket) opener.carry(payload);
    flow[(opened << Flow.ENTRY_SHIFT) + Flow.BYTES] += payload;
    return opened;
  }

  /** The slot that a packet of the flow in `slot` goes by. */
  function known(slot: number, payload: number, now: number): number {
    segment.payload = payload;
    segment.now = now;
    const state = flow[(slot << Flow.ENTRY_SHIFT) + Flow.STATE];
    isGuarded = (state & Flow.GUARDED) !== 0;
    const isFast = (state & Flow.FAST) !== 0;
    const by = isFast ? slot : connections.follow(slot, segment);
    const at = by << Flow.ENTRY_SHIFT;
    flow[at + Flow.SEEN] = now;
    flow[at + Flow.BYTES] += payload;
    return by;
  }

  /** Sends a first fragment by the entry in `slot`, and has the others follow it. */
  function lead(f: number, ip: number, slot: number, now: number): number {
    const at = slot << Flow.ENTRY_SHIFT;
    // They come only where no packet is wrapped: by a driver that has no room for it, or between interfaces.
    if ((flow[at + Flow.STATE] & Flow.WRAPPED) !== 0) return UNKNOWN;
    ways.remember(words, ip, flow, at, slot === table.scratch ? Flow.NONE : slot, isGuarded, now);
    restoreQuoted(
      slab,
      ip,
      swap16(words[ip] >>> 16),
      flow[at + Flow.NEW_SOURCE],
      flow[at + Flow.NEW_DESTINATION],
      flow[at + Flow.NEW_PORTS],
    );
    return send(f, ip, flow[at + Flow.NEXT_HOP]);
  }

  /** Sends a later one where the first one went. */
  function follow(f: number, ip: number, way: Way): number {
    const { source, destination, hop, slot } = way;
    if (way.isGuarded && isClientsAlone(hops, frames[f + D.INTERFACE])) return UNKNOWN;
    const at = slot << Flow.ENTRY_SHIFT;
    const isKept = slot !== Flow.NONE && table.isLive(slot);
    if (isKept && flow[at + Flow.NEW_SOURCE] === source && flow[at + Flow.NEW_DESTINATION] === destination)
      flow[at + Flow.BYTES] += restOf(ip);
    words[ip + F.IP_SOURCE] = source;
    words[ip + F.IP_DESTINATION] = destination;
    return send(f, ip, hop);
  }

  /** One whose addresses are right already. */
  function send(f: number, ip: number, hop: number): number {
    const length = swap16(words[ip] >>> 16);
    const mtu = hops[(hop << Hop.SHIFT) + Hop.MTU];
    if (mtu === 0) return Verdict.dropNoRoute;
    if (length > mtu) {
      if ((words[ip + F.IP_FRAGMENT] & F.DONT_FRAGMENT) !== 0) return Verdict.dropFragment;
      frames[f + D.FLAGS] |= D.FLAG_CUT;
      frames[f + D.LIMIT] = mtu;
    }
    words[ip + F.IP_TTL] = words[ip + F.IP_TTL] - ttlStep;
    finishIpHeader(slab, ip);
    leave(f, ip, hop << Hop.SHIFT, length);
    return Verdict.fragmentFollowed;
  }
}
