/**
 * Pings of our addresses: to a server and back, as connections (flow/echo.ts), or turned round here, where the services of an address are
 * of other protocols. Either way an address is silent while nobody serves it.
 *
 *     client → VIP [request, id]   becomes   address → server [request, an id of the pool]
 */
import { echo, echoPorts, identified } from '../flow/echo.ts';
import type { Protocol } from '../flow/protocol.ts';
import type { FlowTable } from '../flow/table.ts';
import * as Flow from '../layout/flow.ts';
import * as D from '../layout/frames.ts';
import * as Hop from '../layout/hops.ts';
import { isHost } from '../packet/address.ts';
import { buildEchoReply, finishIpHeader } from '../packet/build.ts';
import { delta, update } from '../packet/checksum.ts';
import * as F from '../packet/fields.ts';
import type { Connections } from './connections.ts';
import type { Crossing } from './crossing.ts';
import type { Rows } from './rows.ts';
import type { Frontend, Services } from './services.ts';
import { Verdict } from './verdict.ts';
import type { Wrap } from './wrap.ts';

/** What it has of the slow path, and does as that does. */
export interface PingParts {
  readonly slab: F.Slab;
  readonly frames: Int32Array;
  readonly table: FlowTable;
  readonly services: Services;
  readonly connections: Connections;
  readonly verdicts: Float64Array;
  readonly crossing: Crossing | undefined;
  /** What a hop takes off the TTL. */
  readonly ttlStep: number;
  /** Opens a connection: its slot, NONE where the packet has ended, or the complement (~) of a verdict that says why there is none. */
  readonly open: (f: number, ip: number, frontend: Frontend, ports: number, now: number) => number;
  /** Follows a packet of a slot: the word index of the entry to go by, or NONE. */
  readonly examine: (f: number, ip: number, protocol: Protocol, slot: number, now: number) => number;
  readonly wrap: Wrap;
  readonly rows: Rows;
  /** Gives a frame its next hop, at that word of the hops. */
  readonly leave: (f: number, ip: number, hop: number, length: number) => void;
  /** Sends what was built over a frame back the way it came. */
  readonly answer: (f: number, length: number, verdict: number) => number;
  /** Sends a server's packet on that is none of lb4's; `server` as {@link Services.passingServer} has it. */
  readonly pass: (f: number, ip: number, ports: number, server: number, now: number) => number;
  /** Takes the place of an answer to a ping. */
  readonly mayEcho: (ip: number, now: number) => boolean;
  /** Bytes of an IP packet at most, back the way it came. */
  readonly mtuBack: (f: number, ip: number) => number;
  readonly end: (verdict: number) => number;
  readonly notOurs: (f: number, verdict: number, now: number) => number;
  readonly isForged: (f: number, slot: number) => boolean;
}

/** Takes a frame whose IP packet of `length` bytes, at word `ip`, is a ping or the answer to one, and ends it, counted. Returns NONE. */
export type Ping = (f: number, ip: number, length: number, now: number) => number;

/** IPv4 packets of so many bytes pass anywhere (RFC 791). */
const SHORT = 576;
const KIND = Flow.live(echo.number);

export function createPing(parts: PingParts): Ping {
  const { slab, frames, table, services, connections, verdicts, crossing, ttlStep, wrap, rows } = parts;
  const { open, examine, leave, answer, pass, mayEcho, mtuBack, end, notOurs, isForged } = parts;
  const { words, halves } = slab;
  const flow = table.words;

  return function ping(f: number, ip: number, length: number, now: number): number {
    const header = words[ip] & 0xf;
    const payload = length - header * 4 - F.ICMP_HEADER;
    if (payload < 0) return notOurs(f, Verdict.dropMalformed, now);
    frames[f + D.DETAIL] = payload;
    const isRequest = (words[ip + header] & 0xff) === F.ICMP_ECHO_REQUEST;
    const ports = echoPorts(words, ip + header);
    let slot = table.find(words[ip + F.IP_SOURCE], words[ip + F.IP_DESTINATION], ports, KIND);
    if (isForged(f, slot)) return notOurs(f, Verdict.dropOtherLink, now);
    if (slot !== Flow.NONE) rows.renew(slot << Flow.ENTRY_SHIFT);
    if (slot !== Flow.NONE && isRequest && connections.isStale(slot, now)) {
      connections.remove(slot, now);
      slot = Flow.NONE;
    }
    if (slot === Flow.NONE) slot = isRequest ? unknown(f, ip, ports, now) : stray(f, ip, ports, now);
    if (slot < 0) return Flow.NONE;
    const at = examine(f, ip, echo, slot, now);
    return at < 0 ? Flow.NONE : forward(f, ip, length, at, now);
  };

  /** A request that belongs to no connection: opens one, or is answered here. Returns as `open` does, and NONE where there is none. */
  function unknown(f: number, ip: number, ports: number, now: number): number {
    if (crossing?.isFront(frames[f + D.INTERFACE]) === false) return notOurs(f, Verdict.dropNotOurs, now);
    const destination = words[ip + F.IP_DESTINATION];
    const frontend = services.frontendAt(destination, 0, echo.number);
    if (frontend === undefined) return own(f, ip, now);
    if (frontend.guard?.denies(words[ip + F.IP_SOURCE])) return end(Verdict.denied);
    if (!echo.isIntact(slab, ip)) return end(Verdict.dropMalformed);
    if (frontend.draining) return end(Verdict.dropStray);
    const slot = open(f, ip, frontend, ports, now);
    // To refuse a ping is to say nothing.
    if (slot < Flow.NONE) return end(~slot === Verdict.limited ? Verdict.limited : Verdict.dropStray);
    return slot;
  }

  /** An answer that nobody here waits for: the host's own, or of a server that answers somebody else through this host. */
  function stray(f: number, ip: number, ports: number, now: number): number {
    const server =
      crossing === undefined ? services.passingServer(words[ip + F.IP_SOURCE], 0, words[ip + F.IP_DESTINATION], echo.number) : -1;
    return server < 0 ? notOurs(f, Verdict.dropNotOurs, now) : pass(f, ip, ports, server, now);
  }

  /** Of an address whose pings are lb4's to answer, or nobody's here. */
  function own(f: number, ip: number, now: number): number {
    const isServed = services.isServed(words[ip + F.IP_DESTINATION]);
    if (isServed === undefined) return notOurs(f, Verdict.dropNotOurs, now);
    if (!isServed || !isHost(words[ip + F.IP_SOURCE])) return end(Verdict.dropStray);
    if (!mayEcho(ip, now)) return end(Verdict.dropRateLimited);
    const length = buildEchoReply(slab, ip);
    const mtu = length > SHORT ? mtuBack(f, ip) : length;
    answer(f, length, Verdict.echoAnswered);
    if (length > mtu) {
      frames[f + D.FLAGS] = D.FLAG_CUT;
      frames[f + D.LIMIT] = mtu;
    }
    return Flow.NONE;
  }

  /** Rewrites it by the entry at a word of the table, as pass 3 of the pipeline does what has ports. */
  function forward(f: number, ip: number, length: number, at: number, now: number): number {
    flow[at + Flow.SEEN] = now;
    flow[at + Flow.BYTES] += frames[f + D.DETAIL];
    if ((flow[at + Flow.STATE] & Flow.WRAPPED) !== 0) wrap(f, ip, length, at);
    else rewrite(f, ip, length, at);
    const verdict = frames[f + D.VERDICT];
    if (verdict === Verdict.forwarded) verdicts[verdict]++;
    return Flow.NONE;
  }

  function rewrite(f: number, ip: number, length: number, at: number): void {
    const icmp = ip + (words[ip] & 0xf);
    const before = words[icmp + F.ICMP_ECHO];
    const after = identified(before, flow[at + Flow.NEW_PORTS]);
    const checksum = icmp * 2 + F.ICMP_CHECKSUM / 2;
    words[icmp + F.ICMP_ECHO] = after;
    halves[checksum] = update(halves[checksum], delta(before, after));
    words[ip + F.IP_SOURCE] = flow[at + Flow.NEW_SOURCE];
    words[ip + F.IP_DESTINATION] = flow[at + Flow.NEW_DESTINATION];
    words[ip + F.IP_TTL] -= ttlStep;
    finishIpHeader(slab, ip);
    leave(f, ip, flow[at + Flow.NEXT_HOP] << Hop.SHIFT, length);
  }
}
