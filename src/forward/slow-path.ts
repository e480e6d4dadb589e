/**
 * What the three passes do not decide themselves: frames without a flow (frontends, answers, ICMP, drops), and segments of a known
 * connection that ask for more than a rewrite.
 *
 *     no flow ──► miss: opened, adopted, or ended here ─┐
 *     a flow ───────────────────────────────────────────┴─► examine: TTL, route, MTU; then what it shows is followed ─► its rewrite
 */

import { echoPorts, isEcho } from '../flow/echo.ts';
import type { Segment } from '../flow/evidence.ts';
import { PendingFins } from '../flow/pending-fins.ts';
import type { Protocol } from '../flow/protocol.ts';
import { type FlowTable, hashTuple } from '../flow/table.ts';
import * as Flow from '../layout/flow.ts';
import * as D from '../layout/frames.ts';
import * as Hop from '../layout/hops.ts';
import { CLIENT_PORTS } from '../layout/ports.ts';
import { destinationPort, isHost, sourcePort, swap16, swapPorts } from '../packet/address.ts';
import { buildIcmpError } from '../packet/build.ts';
import { sum } from '../packet/checksum.ts';
import * as F from '../packet/fields.ts';
import type { Connections } from './connections.ts';
import type { Crossing } from './crossing.ts';
import { createPing } from './echo.ts';
import { createFragmentPath } from './fragments.ts';
import { protocolAt, quotedPacket, translateQuoted } from './icmp.ts';
import { isClientsAlone } from './links.ts';
import type { LastHops } from './next-hops.ts';
import type { Opener } from './opener.ts';
import { forwardAsRouter, type Passing } from './passing.ts';
import type { RateLimit, SharedLimit } from './rate-limit.ts';
import type { Rows } from './rows.ts';
import type { Frontend, Services } from './services.ts';
import type { SynGuard } from './syn-guard.ts';
import { Verdict } from './verdict.ts';
import type { Wrap } from './wrap.ts';

export interface SlowPathParts {
  readonly slab: F.Slab;
  readonly frames: Int32Array;
  readonly table: FlowTable;
  readonly hops: Int32Array;
  readonly lastHops: LastHops;
  readonly services: Services;
  readonly opener: Opener;
  readonly connections: Connections;
  readonly verdicts: Float64Array;
  /** What lb4 sends itself: in all, and to each. */
  readonly answers: RateLimit;
  readonly answersEach: SharedLimit;
  /** ICMP errors that go on to a flow's sender. */
  readonly errorsEach: SharedLimit;
  /** Answers to pings: in all, and to each. */
  readonly echoes: RateLimit;
  readonly echoesEach: SharedLimit;
  readonly guard: SynGuard;
  /** Where lb4 stands between interfaces: what is no service's goes there. */
  readonly crossing: Crossing | undefined;
  readonly passing: Passing;
  readonly wrap: Wrap;
  readonly rows: Rows;
}

/**
 * Takes the frame at word `f` of the descriptors and the word index of its flow, negative for none. Returns the word index of the entry
 * to rewrite it by, its VERDICT written (and counted unless `forwarded`), or NONE when it has ended here, counted.
 */
export type SlowPath = (f: number, at: number, now: number) => number;

const { forwarded, opened, adopted, stateless, icmpTranslated, resetUnknown, timeExceeded, tooBig, dropOtherLink, denied, limited } =
  Verdict;

/** Type and code, as they stand in front of an ICMP message. */
const PORT_UNREACHABLE = F.ICMP_UNREACHABLE | (F.ICMP_PORT_UNREACHABLE << 8);

/** The first byte of 127.0.0.0/8. */
const LOOPBACK = 127;

/** What the passes hand over: misses, packets with more to them than a rewrite, and what is too large or too old. */
export function createSlowPath(parts: SlowPathParts): SlowPath {
  const { slab, frames, table, hops, lastHops, services, opener, connections, verdicts, passing, crossing, wrap, rows } = parts;
  const { answers, answersEach, errorsEach, echoes, echoesEach, guard } = parts;
  const { words, halves } = slab;
  const flow = table.words;
  const nowhere = table.nowhere << Flow.ENTRY_SHIFT;
  const [ttlStep, ttlLeast] = crossing === undefined ? [1, 1] : [0, -1];
  const segment: Segment = { flags: 0, sequence: 0, acknowledgment: 0, payload: 0, isReply: false, now: 0, pendingFins: new PendingFins() };
  const hooks = { open, examine, leave, answer, pass, mtuBack, end, notOurs, isForged };
  const isFromFront = (f: number): boolean => crossing?.isFront(frames[f + D.INTERFACE]) !== false;
  const fragmentPath = createFragmentPath({
    slab,
    frames,
    table,
    hops,
    services,
    connections,
    opener,
    ttlStep,
    ttlLeast,
    leave,
    install,
    isForged,
    mayOpen: (f, ip, ports, protocol) =>
      isFromFront(f) && mayAsk(f, ip, protocol) && !isReply(words[ip + F.IP_SOURCE], words[ip + F.IP_DESTINATION], ports, protocol),
  });
  const ping = createPing({ slab, frames, table, services, connections, verdicts, crossing, ttlStep, wrap, rows, mayEcho, ...hooks });

  /** The one that it has. */
  let frame = 0;

  return function slowPath(f: number, at: number, now: number): number {
    frame = f;
    frames[f + D.OUT] = D.DROP;
    frames[f + D.VERDICT] = forwarded;
    if (crossing !== undefined && (frames[f + D.FLAGS] & D.FLAG_FOREIGN) !== 0) return notOurs(f, forwarded, now);
    const ip = frames[f + D.OFFSET] >>> 2;
    const protocol = protocolAt(words, ip);
    let slot = at < 0 || protocol === undefined ? Flow.NONE : at >>> Flow.ENTRY_SHIFT;
    if (isForged(f, slot)) return notOurs(f, dropOtherLink, now);
    if (slot >= 0 && protocol?.opens(words, transportOf(f))) {
      const frontend = connections.isOver(slot) ? frontendOf(ip) : undefined;
      if (frontend?.guard?.denies(words[ip + F.IP_SOURCE])) return keepOut(f, ip, frontend, denied, now);
      if (connections.isStale(slot, now) || rows.isPassed(at)) {
        connections.remove(slot, now);
        slot = Flow.NONE;
      } else if (frontend?.guard?.limits(words[ip + F.IP_SOURCE], now)) return keepOut(f, ip, frontend, limited, now);
    }
    if (slot < 0) slot = miss(f, ip, protocol, now);
    return slot < 0 || protocol === undefined ? Flow.NONE : examine(f, ip, protocol, slot, now);
  };

  /** Counts a frame that ends here. */
  function end(verdict: number): number {
    frames[frame + D.VERDICT] = verdict;
    verdicts[verdict]++;
    return Flow.NONE;
  }

  /** Ends a frame that is no service's: between interfaces it goes to the other side, whatever is in it. */
  function notOurs(f: number, verdict: number, now: number): number {
    if (crossing === undefined) return end(verdict);
    crossing.cross(f, now);
    return Flow.NONE;
  }

  /** The frontend that a client's packet is for: a SYN in the place of a connection that is over asks its rules, as a new one does. */
  function frontendOf(ip: number): Frontend | undefined {
    const destination = words[ip + F.IP_DESTINATION];
    return services.frontendAt(destination, destinationPort(words[transportAt(ip)]), (words[ip + F.IP_TTL] >>> 8) & 0xff);
  }

  /** Whether a frame cannot be of the server whose answers go by a slot, by the link that it came by. */
  function isForged(f: number, slot: number): boolean {
    const isGuarded = slot !== Flow.NONE && (flow[(slot << Flow.ENTRY_SHIFT) + Flow.STATE] & Flow.GUARDED) !== 0;
    return isGuarded && isClientsAlone(hops, frames[f + D.INTERFACE]);
  }

  /** Word index of the transport header, which begins with the ports. */
  function transportOf(f: number): number {
    return transportAt(frames[f + D.OFFSET] >>> 2);
  }

  function transportAt(ip: number): number {
    return ip + (words[ip] & 0xf);
  }

  function payloadOf(f: number): number {
    return frames[f + D.DETAIL] & 0xffff;
  }

  /** Bytes of a BIG TCP packet that its IP header cannot tell. */
  function excessOf(f: number): number {
    return frames[f + D.FLAGS] & D.FLAG_BIG ? frames[f + D.LENGTH] - 0xffff : 0;
  }

  /** Whether the frame can go by the entry in `slot`, and what it shows. A frame that was just admitted comes here, too, and counts only now. */
  function examine(f: number, ip: number, protocol: Protocol, slot: number, now: number): number {
    const at = slot << Flow.ENTRY_SHIFT;
    // Who wraps a packet is no hop of its way.
    const isOld = (words[ip + F.IP_TTL] & 0xff) <= ttlLeast && (flow[at + Flow.STATE] & Flow.WRAPPED) === 0;
    if (isOld) return answerError(f, ip, F.ICMP_TIME_EXCEEDED, 0, 0, timeExceeded, now, ourEnd(ip, at));
    const mtu = mtuOf(at);
    if (mtu === 0) return end(Verdict.dropNoRoute);
    if (wireLength(f, ip) > mtu) {
      if ((words[ip + F.IP_FRAGMENT] & F.DONT_FRAGMENT) !== 0)
        return answerError(f, ip, F.ICMP_UNREACHABLE, F.ICMP_FRAGMENTATION_NEEDED, mtu, tooBig, now, ourEnd(ip, at));
      frames[f + D.FLAGS] |= D.FLAG_CUT;
      frames[f + D.LIMIT] = mtu;
    }
    const verdict = frames[f + D.VERDICT];
    if (verdict !== forwarded) verdicts[verdict]++;
    // The SYN of a new connection has said all it says already; without a flow nobody listens.
    const isFollowed = verdict === forwarded || verdict === adopted;
    const by = (isFollowed ? follow(f, ip, protocol, slot, now) : slot) << Flow.ENTRY_SHIFT;
    // Pass 3 counts as many bytes as the IP header tells.
    flow[by + Flow.BYTES] += excessOf(f);
    return by;
  }

  /** Of the next hop of the flow at word `at`, in bytes; 0: it leads nowhere, or wraps nothing (any more) of what is to be wrapped. */
  function mtuOf(at: number): number {
    const hop = flow[at + Flow.NEXT_HOP] << Hop.SHIFT;
    const isBare = (flow[at + Flow.STATE] & Flow.WRAPPED) !== 0 && hops[hop + Hop.TUNNEL] === 0;
    return isBare ? 0 : hops[hop + Hop.MTU];
  }

  /** The address of ours that a packet of the flow at word `at` goes to; where it goes to the client itself, the one that it will come from. */
  function ourEnd(ip: number, at: number): number {
    const destination = words[ip + F.IP_DESTINATION];
    return services.isSource(destination) ? destination : flow[at + Flow.NEW_SOURCE];
  }

  /** Has the connection learn from a segment, and returns the slot to go by. */
  function follow(f: number, ip: number, protocol: Protocol, slot: number, now: number): number {
    const isPlain = (frames[f + D.DETAIL] & D.CONTROL) === 0;
    if (isPlain && ((flow[(slot << Flow.ENTRY_SHIFT) + Flow.STATE] & Flow.FAST) !== 0 || connections.giveBack(slot))) return slot;
    // What its receiver drops moves nothing. What was adopted a moment ago was verified for that.
    const isVerified = frames[f + D.VERDICT] === adopted;
    if (!isVerified && (!isPlain || connections.isMovable(slot)) && !isIntact(f, ip, protocol)) return table.copy(slot);
    protocol.read(words, transportOf(f), segment);
    segment.payload = payloadOf(f) + excessOf(f);
    segment.now = now;
    return connections.follow(slot, segment);
  }

  /** Everything that no live entry matches. Returns the slot of an entry made for it, or NONE when it has ended. */
  function miss(f: number, ip: number, protocol: Protocol | undefined, now: number): number {
    if (frames[f + D.FLAGS] & D.FLAG_TRUNCATED) return end(Verdict.dropTruncated);
    const first = words[ip];
    const length = swap16(first >>> 16);
    if ((first & 0xf0) !== 0x40 || (first & 0xf) < 5 || length < (first & 0xf) * 4 || length > frames[f + D.LENGTH])
      return notOurs(f, Verdict.dropMalformed, now);
    // RFC 1812 section 5.2.2: a broken header is dropped. On the fast path its checksum stays as wrong as it came instead.
    if (sum(slab.bytes, ip * 4, (first & 0xf) * 4) !== 0xffff) return notOurs(f, Verdict.dropMalformed, now);
    if (words[ip + F.IP_FRAGMENT] & F.FRAGMENT_MASK) return fragment(f, ip, protocol, now);
    if (((words[ip + F.IP_TTL] >>> 8) & 0xff) === F.ICMP) return icmp(f, ip, length, now);
    if (protocol === undefined) return notOurs(f, Verdict.dropNotOurs, now);
    return frames[f + D.HOME] === nowhere ? notOurs(f, Verdict.dropMalformed, now) : unknownPacket(f, ip, protocol, now);
  }

  /** Of one to a service nobody knows which, unless its packet's first one has shown it: those of others cross. */
  function fragment(f: number, ip: number, protocol: Protocol | undefined, now: number): number {
    const verdict = fragmentPath(f, ip, protocol, now);
    if (verdict >= 0) return end(verdict);
    return services.isSource(words[ip + F.IP_DESTINATION]) ? end(Verdict.dropFragment) : notOurs(f, Verdict.dropFragment, now);
  }

  function icmp(f: number, ip: number, length: number, now: number): number {
    if (isEcho(words, transportOf(f))) return ping(f, ip, length, now);
    const quoted = quotedPacket(slab, ip);
    const slot = quoted === Flow.NONE ? Flow.NONE : quotedOwner(quoted);
    if (slot === Flow.NONE || (words[ip + F.IP_TTL] & 0xff) <= ttlLeast) return notOurs(f, Verdict.dropIcmp, now);
    if (slot !== table.scratch && isForged(f, slot)) return notOurs(f, dropOtherLink, now);
    const hop = flow[(slot << Flow.ENTRY_SHIFT) + Flow.NEXT_HOP] << Hop.SHIFT;
    if (mtuOf(slot << Flow.ENTRY_SHIFT) === 0) return end(Verdict.dropNoRoute);
    const icmpWord = words[ip + (words[ip] & 0xf)] & 0xffff;
    if (isAside(slot, quoted)) return end(Verdict.dropIcmpForged);
    if (icmpWord === PORT_UNREACHABLE && slot !== table.scratch)
      connections.noteUnreachable(slot, words[ip + F.IP_SOURCE], frames[f + D.INTERFACE], hops);
    // The first ones say all there is to say: whoever hears them sends otherwise, or no more.
    if (!errorsEach.take(keyOf(slot), now)) return end(Verdict.dropRateLimited);
    if ((flow[(slot << Flow.ENTRY_SHIFT) + Flow.STATE] & Flow.WRAPPED) !== 0) {
      // What no tunnel takes whole is none that a router has made (RFC 1812 section 4.3.2.3).
      if (length > hops[hop + Hop.MTU]) return end(Verdict.dropIcmp);
      wrap(f, ip, length, slot << Flow.ENTRY_SHIFT);
      return end(icmpTranslated);
    }
    translateQuoted(slab, ip, table, slot, ttlStep);
    leave(f, ip, hop, length);
    return end(icmpTranslated);
  }

  /** Whether an error quotes what its flow's other direction cannot have under way: whoever forged it sees no packet of the connection. */
  function isAside(slot: number, quoted: number): boolean {
    if (slot === table.scratch) return false;
    const at = slot << Flow.ENTRY_SHIFT;
    const other = connections.oppositeOf(slot);
    const transport = quoted + (words[quoted] & 0xf);
    return (
      protocolAt(words, quoted)?.isUnderWay(words, transport, flow, at, other === Flow.NONE ? -1 : other << Flow.ENTRY_SHIFT) === false
    );
  }

  /** A word for the flow in a slot, the same for each of its packets; by the table's secret, so that nobody can choose a flow that has the same one as another's. */
  function keyOf(slot: number): number {
    const at = slot << Flow.ENTRY_SHIFT;
    return hashTuple(table.key, flow[at + Flow.SOURCE], flow[at + Flow.DESTINATION], flow[at + Flow.PORTS]);
  }

  /** Gives a frame the next hop at word `hop`. */
  function leave(f: number, ip: number, hop: number, length: number): void {
    if (crossing === undefined) {
      halves[ip * 2 + F.ETHERNET_HALF] = hops[hop + Hop.ETHERNET];
      for (let i = 1; i < 4; i++) words[ip - 4 + i] = hops[hop + Hop.ETHERNET + i];
    }
    frames[f + D.LENGTH] = length;
    frames[f + D.INTERFACE] = hops[hop + Hop.INTERFACE];
    frames[f + D.OUT] = hops[hop + Hop.OUT];
  }

  /**
   * The slot of the flow whose rewrite points at the sender of a quoted segment, the flow of the opposite direction. Where only the
   * hash knows a connection (DSR: opened by another balancer, or in an earlier life), the scratch slot, written for it.
   */
  function quotedOwner(quoted: number): number {
    const source = words[quoted + F.IP_DESTINATION];
    const destination = words[quoted + F.IP_SOURCE];
    const transport = quoted + (words[quoted] & 0xf);
    const protocol = (words[quoted + F.IP_TTL] >>> 8) & 0xff;
    const ports = swapPorts(protocol === F.ICMP ? echoPorts(words, transport) : words[transport]);
    const slot = table.find(source, destination, ports, Flow.live(protocol));
    if (slot !== Flow.NONE) {
      rows.renew(slot << Flow.ENTRY_SHIFT);
      return slot;
    }
    const frontend = services.frontendAt(destination, destinationPort(ports), protocol);
    return frontend?.adopts ? opener.pass(frontend, source, destination, ports) : Flow.NONE;
  }

  /** One that no entry matches: it opens a connection, or is refused. */
  function unknownPacket(f: number, ip: number, protocol: Protocol, now: number): number {
    const transport = transportOf(f);
    const ports = words[transport];
    const source = words[ip + F.IP_SOURCE];
    const destination = words[ip + F.IP_DESTINATION];
    // Only clients' side opens: what else comes from the servers' is no service's.
    if (!isFromFront(f)) {
      const isPassing = services.passingServer(source, sourcePort(ports), destination, protocol.number) >= 0;
      if (isPassing) passing.remember(source, destination, ports, now);
      return notOurs(f, Verdict.dropNotOurs, now);
    }
    // A late answer: nobody waits for it, and its server has done nothing wrong; also where a frontend listens on a port of the pools.
    if (protocol.isDatagram && isReply(source, destination, ports, protocol)) return end(Verdict.dropStray);
    const frontend = services.frontendAt(destination, destinationPort(ports), protocol.number);
    const server = frontend === undefined ? services.passingServer(source, sourcePort(ports), destination, protocol.number) : -1;
    if (server >= 0 && crossing === undefined) return pass(f, ip, ports, server, now);
    if (frontend === undefined && !isReply(source, destination, ports, protocol)) return notOurs(f, Verdict.dropNotOurs, now);
    // Before anything is looked at, or answered.
    if (frontend?.guard?.denies(source)) return keepOut(f, ip, frontend, denied, now);
    const opens = protocol.opens(words, transport);
    // Before all that costs more: of a flood this is each one's way.
    const isAsking = opens && !protocol.isDatagram && frontend !== undefined;
    if (isAsking && !guard.takes(frontend.index, source, destination, ports, words[transport + F.TCP_SEQUENCE]))
      return end(Verdict.dropFirstSyn);
    // Nothing is remembered of a packet that no server would take: verified where a flow would begin, and only there.
    if ((opens || frontend?.adopts) && !isIntact(f, ip, protocol)) return end(Verdict.dropMalformed);
    if (frontend?.adopts && !opens) return adopt(f, ip, frontend, now);
    if (protocol.refuses(words, transport)) return end(Verdict.dropStray);
    if (frontend === undefined || frontend.draining || !opens) return refuse(f, ip, protocol, resetUnknown, now);
    const slot = open(f, ip, frontend, ports, now);
    if (isAsking) noteOutcome(frontend, slot, now);
    if (~slot === limited) return keepOut(f, ip, frontend, limited, now);
    return slot < Flow.NONE ? refuse(f, ip, protocol, ~slot, now) : slot;
  }

  /** What became of a SYN that was taken in, as {@link open} returns it. */
  function noteOutcome({ index }: Frontend, slot: number, now: number): void {
    if (slot >= 0) guard.opened(index);
    else if (~slot === Verdict.resetFull) guard.refused(index, now);
  }

  /** Ends a packet of a client that a frontend's rules keep out: without a word, unless the file says otherwise. */
  function keepOut(f: number, ip: number, { guard, protocol }: Frontend, verdict: number, now: number): number {
    return guard?.resets && !protocol.refuses(words, transportAt(ip)) ? refuse(f, ip, protocol, verdict, now) : end(verdict);
  }

  /**
   * Whether a sender may have a flow: one host (RFC 9293 section 3.9.2.3), and none of ours but over a link of its own (lo: no MAC addresses). Otherwise a
   * forged datagram from one service to another has them answer each other, for as long as both do. TCP ends that by itself, and what leaves by a VIP of
   * this file may be another host's now: there only what comes from the very address that it is for is refused.
   */
  function mayAsk(f: number, ip: number, { isDatagram }: Protocol): boolean {
    const source = words[ip + F.IP_SOURCE];
    if (!isHost(source)) return false;
    const isOurs = isDatagram ? services.isSource(source) : source === words[ip + F.IP_DESTINATION];
    if (!isOurs && (source & 0xff) !== LOOPBACK) return true;
    const mac = ip * 2 + F.ETHERNET_HALF + 3;
    return (frames[f + D.FLAGS] & D.FLAG_NO_ETHERNET) === 0 && (halves[mac] | halves[mac + 1] | halves[mac + 2]) === 0;
  }

  /** Opens a connection for a packet. Returns its slot; NONE where the packet has ended; or the complement (~) of the verdict that says why there is none. */
  function open(f: number, ip: number, frontend: Frontend, ports: number, now: number): number {
    if (!mayAsk(f, ip, frontend.protocol)) return end(Verdict.dropStray);
    const isOld = (words[ip + F.IP_TTL] & 0xff) <= ttlLeast && frontend.mode.tunnel === undefined;
    if (isOld) return answerError(f, ip, F.ICMP_TIME_EXCEEDED, 0, 0, timeExceeded, now);
    const slot = install(f, ip, frontend, ports, now);
    if (slot < 0 || !frontend.perPacket) return slot < 0 ? slot : admit(f, slot, opened);
    opener.carry(payloadOf(f));
    frames[f + D.VERDICT] = opened;
    return slot;
  }

  /** As {@link Opener.open} does, for a packet to that frontend. */
  function install(f: number, ip: number, frontend: Frontend, ports: number, now: number): number {
    crossing?.learn(f, now);
    const source = words[ip + F.IP_SOURCE];
    if (frontend.guard?.limits(source, now)) return ~limited;
    const facing = crossing === undefined ? services.facing(frontend, source) : frontend;
    const first = frontend.protocol.firstOf(words, transportOf(f));
    return opener.open(facing, source, words[ip + F.IP_DESTINATION], ports, first, hopBack(f, ip), now);
  }

  /** The next hop back the way a frame came. */
  function hopBack(f: number, ip: number): number {
    if (frames[f + D.FLAGS] & D.FLAG_NO_ETHERNET) halves.fill(0, ip * 2 + F.ETHERNET_HALF, ip * 2);
    return crossing?.hopBy(frames[f + D.INTERFACE]) ?? lastHops.learn(slab, ip, frames[f + D.INTERFACE]);
  }

  function mtuBack(f: number, ip: number): number {
    return hops[(hopBack(f, ip) << Hop.SHIFT) + Hop.MTU];
  }

  /** One of a server's to somebody whom it does not serve by way of lb4: a router's part is done here. `server` as `passingServer` has it. */
  function pass(f: number, ip: number, ports: number, server: number, now: number): number {
    // What has the server's address alone, and comes from elsewhere, the kernel would not have let through for it.
    const door = hops[(services.doorOf(server) << Hop.SHIFT) + Hop.INTERFACE];
    if (door !== 0 && door !== frames[f + D.INTERFACE]) return notOurs(f, dropOtherLink, now);
    const vip = services.vipOf(server);
    if ((words[ip + F.IP_TTL] & 0xff) <= 1) return answerError(f, ip, F.ICMP_TIME_EXCEEDED, 0, 0, timeExceeded, now, vip);
    // The kernel finds the way; no link of this host refuses what fits all of them.
    const mtu = lastHops.smallestMtu;
    if (wireLength(f, ip) > mtu) {
      if ((words[ip + F.IP_FRAGMENT] & F.DONT_FRAGMENT) !== 0)
        return answerError(f, ip, F.ICMP_UNREACHABLE, F.ICMP_FRAGMENTATION_NEEDED, mtu, tooBig, now, vip);
      frames[f + D.FLAGS] |= D.FLAG_CUT;
      frames[f + D.LIMIT] = mtu;
    }
    passing.remember(words[ip + F.IP_SOURCE], words[ip + F.IP_DESTINATION], ports, now);
    forwardAsRouter(slab, ip);
    frames[f + D.LENGTH] = swap16(words[ip] >>> 16);
    frames[f + D.OUT] = D.ROUTE;
    return end(Verdict.passed);
  }

  /** On a partial checksum there is nothing to verify yet: the packet has seen no wire. */
  function isIntact(f: number, ip: number, protocol: Protocol): boolean {
    return (frames[f + D.FLAGS] & D.FLAG_PARTIAL) !== 0 || protocol.isIntact(slab, ip);
  }

  /** The entry in `slot`, just made for the frame, which counts as `verdict` when it has been examined. */
  function admit(f: number, slot: number, verdict: number): number {
    frames[f + D.VERDICT] = slot === table.scratch ? stateless : verdict;
    return slot;
  }

  /** DSR, a segment in mid-stream: opened by another balancer, or by this one in an earlier life. The hash knows where. */
  function adopt(f: number, ip: number, frontend: Frontend, now: number): number {
    const transport = transportOf(f);
    const { protocol } = frontend;
    if (!mayAsk(f, ip, protocol)) return end(Verdict.dropStray);
    const source = words[ip + F.IP_SOURCE];
    const destination = words[ip + F.IP_DESTINATION];
    const ports = words[transport];
    // Nothing comes after a reset that would have to be remembered.
    const slot = protocol.refuses(words, transport)
      ? opener.pass(frontend, source, destination, ports)
      : opener.adopt(frontend, source, destination, ports, protocol.firstOf(words, transport), now);
    if (slot >= 0) return admit(f, slot, adopted);
    // No server is up. It is dropped without a word: another balancer may still know where it belongs.
    return end(Verdict.dropStray);
  }

  function isReply(source: number, destination: number, ports: number, protocol: Protocol): boolean {
    const port = destinationPort(ports);
    return (
      port >= CLIENT_PORTS.first && port <= CLIENT_PORTS.last && services.isReply(source, sourcePort(ports), destination, protocol.number)
    );
  }

  function refuse(f: number, ip: number, protocol: Protocol, verdict: number, now: number): number {
    if (!isHost(words[ip + F.IP_SOURCE])) return end(Verdict.dropStray);
    return mayAnswer(ip, now) ? answer(f, protocol.refuse(slab, ip), verdict) : end(Verdict.dropRateLimited);
  }

  /** Takes an answer's place: of its sender's own first, so that none uses up all of them. */
  function mayAnswer(ip: number, now: number): boolean {
    return answersEach.take(words[ip + F.IP_SOURCE], now) && answers.take(now);
  }

  /** The same for the answer to a ping, which nothing else is to use up. */
  function mayEcho(ip: number, now: number): boolean {
    return echoesEach.take(words[ip + F.IP_SOURCE], now) && echoes.take(now);
  }

  /** @param from our address that tells of it */
  function answerError(
    f: number,
    ip: number,
    type: number,
    code: number,
    mtu: number,
    verdict: number,
    now: number,
    from: number = words[ip + F.IP_DESTINATION],
  ): number {
    if (!isHost(words[ip + F.IP_SOURCE])) return end(Verdict.dropStray);
    if (!mayAnswer(ip, now)) return end(Verdict.dropRateLimited);
    return answer(f, buildIcmpError(slab, ip, type, code, mtu, from), verdict);
  }

  /** Sends what was built over the frame back the way it came. */
  function answer(f: number, length: number, verdict: number): number {
    frames[f + D.LENGTH] = length;
    frames[f + D.OUT] = frames[f + D.FLAGS] & D.FLAG_NO_ETHERNET ? D.ROUTE : D.SEND;
    frames[f + D.FLAGS] = 0;
    return end(verdict);
  }

  /** IP length of what the frame will be on the wire: of a super-packet, that of one segment. */
  function wireLength(f: number, ip: number): number {
    const length = swap16(words[ip] >>> 16);
    const flags = frames[f + D.FLAGS];
    return (flags & D.FLAG_GSO) === 0 ? length : length - payloadOf(f) + (flags >>> 16);
  }
}
