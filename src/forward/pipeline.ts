/**
 * The packet path: three passes over a batch.
 *
 *     1 hash    every frame's 5-tuple → its home slot in the flow table
 *     2 touch   read every slot, so that the cache misses of a batch overlap instead of queueing up
 *     3 apply   find the rewrite, follow the connection, rewrite in place, update checksums (RFC 1624)
 *                 miss, odd or wrong → slow(): frontends, ICMP, answers, drops
 *
 * `process` is one closure, made once an isolate, over arrays held in constants: V8 keeps their base addresses in
 * registers. Measured by bench/core (docs/benchmarks.md); a DataView would double the cost, methods would triple it.
 * Nothing in it allocates, throws or logs, and each frame ends in exactly one counted verdict.
 */

import { FIRST_PORT, LAST_PORT } from '../flow/port-pool.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../flow/tcp.ts';
import * as E from '../layout/flow.ts';
import * as D from '../layout/frames.ts';
import * as H from '../layout/hops.ts';
import { destinationPort, sourcePort, swap16, swapPorts } from '../packet/address.ts';
import { buildIcmpError, buildReset, isTcpIntact } from '../packet/build.ts';
import { sum } from '../packet/checksum.ts';
import * as F from '../packet/fields.ts';
import type { Connections } from './connections.ts';
import { quotedSegment, translateQuoted } from './icmp.ts';
import type { LastHops } from './next-hops.ts';
import type { Openings } from './openings.ts';
import type { RateLimit } from './rate-limit.ts';
import type { Frontend, Services } from './services.ts';
import { Verdict } from './verdict.ts';

export interface PipelineParts {
  readonly slab: F.Slab;
  /** Descriptors of a batch: packet/frames.ts. */
  readonly frames: Int32Array;
  readonly table: FlowTable;
  readonly hops: Int32Array;
  readonly lastHops: LastHops;
  readonly services: Services;
  readonly openings: Openings;
  readonly connections: Connections;
  /** One counter a verdict. */
  readonly verdicts: Float64Array;
  readonly answers: RateLimit;
}

/** Handles the first `count` frames of the descriptor array in place: every frame gets its OUT word. */
export type Pipeline = (count: number) => void;

const { forwarded, opened, adopted, stateless, icmpTranslated, resetUnknown, resetNoServer, resetNoPort, resetFull, timeExceeded, tooBig } =
  Verdict;
// The constants of the three passes, copied into this module: an imported binding is a load from memory at each use, a
// constant of one's own module is a literal in the machine code (bench/core, 1,000 connections: 39 ns a packet → 19 ns).
const { CLOCK, HEADER, STRIDE, OFFSET, LENGTH, FLAGS, FLAG_TRUNCATED, SCRATCH, FLAG_PARTIAL, INTERFACE, OUT } = D;
const {
  ENTRY_SHIFT,
  STATE,
  SOURCE,
  PORTS,
  DESTINATION,
  EMPTY,
  NONE,
  ENTRY,
  NEXT_HOP,
  CONNECTION,
  SEEN,
  BYTES,
  DELTAS,
  NEW_SOURCE,
  NEW_DESTINATION,
  NEW_PORTS,
} = E;
const { TCP_FLAGS, IP_FRAGMENT, FRAGMENT_MASK, IP_TTL, TCP, IP_SOURCE, IP_DESTINATION, SYN, FIN, RST, TCP_CHECKSUM, ETHERNET_HALF } = F;
const { LIVE_TCP, PROBES } = E;
const { ETHERNET: HOP_ETHERNET, INTERFACE: HOP_INTERFACE, MTU: HOP_MTU, OUT: HOP_OUT, SHIFT: HOP_SHIFT } = H;
const { ESTABLISHED, STATE_MASK } = C;
const NOT_TCP = -1;

export function createPipeline(parts: PipelineParts): Pipeline {
  const { slab, frames, table, hops, lastHops, services, openings, connections, verdicts, answers } = parts;
  const { words, halves } = slab;
  const flow = table.words;
  const mask = table.capacity - 1;
  const [seed, k1, k2, k3] = table.key;
  const wrap = mask << E.ENTRY_SHIFT;
  /** Frames of this batch that pass 3 rewrites like any other, but that were counted already: as opened, adopted or stateless. */
  let counted = 0;
  /** What the frame in hand counts as once it was examined: `forwarded`, unless slow() has just made the entry it goes by. */
  let admission = forwarded;

  return function process(batch: number): void {
    // Bound to locals: a context slot read in the loop is a load and a type check a time (bench/core: 43 → 20 ns).
    const w = words;
    const t = flow;
    const d = frames;
    const n = hops;
    const h16 = halves;
    const now = d[CLOCK]!;
    const last = HEADER + batch * STRIDE;

    // 1 hash. The word index of the home entry, or NOT_TCP for all that is not a whole, plausible TCP segment.
    for (let f = HEADER; f < last; f += STRIDE) {
      const ip = d[f + OFFSET]! >>> 2;
      const first = w[ip]!;
      const header = first & 0xf;
      const length = (first >>> 24) | ((first >>> 8) & 0xff00);
      const tcp = ip + header;
      const headers = (header + ((w[tcp + TCP_FLAGS]! >>> 4) & 0xf)) << 2;
      if (
        (first & 0xf0) !== 0x40 ||
        header < 5 ||
        headers < (header << 2) + 20 ||
        length < headers ||
        length > d[f + LENGTH]! ||
        (w[ip + IP_FRAGMENT]! & FRAGMENT_MASK) !== 0 ||
        (w[ip + IP_TTL]! & 0xff00) !== TCP << 8 ||
        (d[f + FLAGS]! & FLAG_TRUNCATED) !== 0
      ) {
        d[f + SCRATCH] = NOT_TCP;
        continue;
      }
      // hashTuple() of flow/table.ts, written out: a call here costs as much as the hash.
      let h = Math.imul(w[ip + IP_SOURCE]! ^ seed, k1);
      h = Math.imul((h ^ (h >>> 15)) + w[tcp]!, k2);
      h = Math.imul((h ^ (h >>> 13)) + w[ip + IP_DESTINATION]!, k3);
      d[f + SCRATCH] = ((h ^ (h >>> 16)) & mask) << ENTRY_SHIFT;
    }

    // 2 touch. NOT_TCP wraps to the last entry: harmless, and cheaper than a branch.
    let touched = 0;
    for (let f = HEADER; f < last; f += STRIDE) touched ^= t[d[f + SCRATCH]! & wrap]!;
    frames[HEADER - 1] = touched; // so that the reads are not optimised away

    // 3 apply.
    let hits = 0;
    for (let f = HEADER; f < last; f += STRIDE) {
      const ip = d[f + OFFSET]! >>> 2;
      const first = w[ip]!;
      const tcp = ip + (first & 0xf);
      let at = d[f + SCRATCH]!;
      if (at >= 0) {
        const source = w[ip + IP_SOURCE]!;
        const destination = w[ip + IP_DESTINATION]!;
        const ports = w[tcp]!;
        let probes = PROBES;
        while (t[at + STATE] !== LIVE_TCP || t[at + SOURCE] !== source || t[at + PORTS] !== ports || t[at + DESTINATION] !== destination) {
          if (t[at + STATE] === EMPTY || --probes === 0) {
            at = NONE;
            break;
          }
          at = (at + ENTRY) & wrap;
        }
      }
      if (at < 0) {
        at = slow(f, now);
        if (at < 0) continue;
      }

      const control = w[tcp + TCP_FLAGS]!;
      const length = (first >>> 24) | ((first >>> 8) & 0xff00);
      let hop = t[at + NEXT_HOP]! << HOP_SHIFT;
      const ttl = w[ip + IP_TTL]!;
      if (
        (control & ((SYN | FIN | RST) << 8)) !== 0 ||
        (t[at + CONNECTION]! & STATE_MASK) !== ESTABLISHED ||
        (ttl & 0xff) <= 1 ||
        length > n[hop + HOP_MTU]!
      ) {
        at = examine(f, ip, at, now);
        if (at < 0) continue;
        hop = t[at + NEXT_HOP]! << HOP_SHIFT;
      }
      t[at + SEEN] = now;
      t[at + BYTES] = t[at + BYTES]! + (length - (((first & 0xf) + ((control >>> 4) & 0xf)) << 2));

      // RFC 1624 equation 3. The address delta serves the IP header and, on a partial checksum, the pseudo-header sum
      // that stands there uncomplemented. One less of TTL adds 0xfffe: the TTL is the low byte of its 16-bit word.
      const deltas = t[at + DELTAS]!;
      let s = (~ttl >>> 16) + (deltas >>> 16) + 0xfffe;
      s = (s & 0xffff) + (s >>> 16);
      s += s >>> 16;
      w[ip + IP_TTL] = ((ttl & 0xffff) - 1) | (~s << 16);
      w[ip + IP_SOURCE] = t[at + NEW_SOURCE]!;
      w[ip + IP_DESTINATION] = t[at + NEW_DESTINATION]!;
      w[tcp] = t[at + NEW_PORTS]!;
      const check = w[tcp + TCP_CHECKSUM]!;
      if ((d[f + FLAGS]! & FLAG_PARTIAL) === 0) {
        s = (~check & 0xffff) + (deltas & 0xffff);
        s = ~(s + (s >>> 16));
      } else {
        s = (check & 0xffff) + (deltas >>> 16);
        s += s >>> 16;
      }
      w[tcp + TCP_CHECKSUM] = (check & ~0xffff) | (s & 0xffff);

      h16[(ip << 1) + ETHERNET_HALF] = n[hop + HOP_ETHERNET]!;
      w[ip - 3] = n[hop + HOP_ETHERNET + 1]!;
      w[ip - 2] = n[hop + HOP_ETHERNET + 2]!;
      w[ip - 1] = n[hop + HOP_ETHERNET + 3]!;
      d[f + LENGTH] = length;
      d[f + INTERFACE] = n[hop + HOP_INTERFACE]!;
      d[f + OUT] = n[hop + HOP_OUT]!;
      hits++;
    }
    count(forwarded, hits - counted);
    counted = 0;
  };

  function count(verdict: number, packets: number): void {
    verdicts[verdict] = verdicts[verdict]! + packets;
  }

  /** Counts a frame that ends here; the negative result tells pass 3 that there is nothing to rewrite. */
  function end(verdict: number): number {
    count(verdict, 1);
    return E.NONE;
  }

  /**
   * A segment of a known connection that asks for more than a rewrite: control flags, a handshake, the last hop, too
   * large. Returns the entry to rewrite it by, or NONE when it has ended. A frame that was just admitted comes here, too (its
   * entry is never ESTABLISHED yet), and counts only now: it may be too large for the next hop, or there may be none (yet).
   */
  function examine(f: number, ip: number, at: number, now: number): number {
    const header = words[ip]! & 0xf;
    const flags = (words[ip + header + F.TCP_FLAGS]! >>> 8) & 0xff;
    const slot = at >>> E.ENTRY_SHIFT;
    const admitted = admission;
    admission = forwarded;
    if (admitted === forwarded && (flags & (F.SYN | F.ACK)) === F.SYN && connections.isStale(slot)) {
      connections.remove(slot);
      const other = slow(f, now);
      return other < 0 ? other : examine(f, ip, other, now);
    }
    if ((words[ip + F.IP_TTL]! & 0xff) <= 1) return answerError(f, ip, F.ICMP_TIME_EXCEEDED, 0, 0, timeExceeded, now);
    const mtu = hops[(flow[at + E.NEXT_HOP]! << HOP_SHIFT) + HOP_MTU]!;
    if (mtu === 0) {
      frames[f + D.OUT] = D.DROP;
      return end(Verdict.dropNoRoute);
    }
    if (wireLength(f, ip) > mtu) {
      if ((words[ip + F.IP_FRAGMENT]! & F.DONT_FRAGMENT) !== 0)
        return answerError(f, ip, F.ICMP_UNREACHABLE, F.ICMP_FRAGMENTATION_NEEDED, mtu, tooBig, now);
      frames[f + D.FLAGS] = frames[f + D.FLAGS]! | D.FLAG_CUT;
      frames[f + D.LIMIT] = mtu;
    }
    // Pass 3 counts as many bytes as the IP header tells.
    if (frames[f + D.FLAGS]! & D.FLAG_BIG) flow[at + E.BYTES] = flow[at + E.BYTES]! + frames[f + D.LENGTH]! - 0xffff;
    if (admitted === forwarded || admitted === adopted) connections.track(slot, flags);
    if (admitted !== forwarded) {
      count(admitted, 1);
      counted++;
    }
    return at;
  }

  /** Everything that no live entry matches. Returns the entry that was made for it, still to be examined, or NONE when it has ended. */
  function slow(f: number, now: number): number {
    frames[f + D.OUT] = D.DROP;
    if (frames[f + D.FLAGS]! & D.FLAG_TRUNCATED) return end(Verdict.dropTruncated);
    const ip = frames[f + D.OFFSET]! >>> 2;
    const first = words[ip]!;
    const length = swap16(first >>> 16);
    if ((first & 0xf0) !== 0x40 || (first & 0xf) < 5 || length < (first & 0xf) * 4 || length > frames[f + D.LENGTH]!)
      return end(Verdict.dropMalformed);
    // RFC 1812 section 5.2.2: a broken header is dropped. On the fast path its checksum stays as wrong as it came instead.
    if (sum(slab.bytes, ip * 4, (first & 0xf) * 4) !== 0xffff) return end(Verdict.dropMalformed);
    if (words[ip + F.IP_FRAGMENT]! & F.FRAGMENT_MASK) return end(Verdict.dropFragment);
    const protocol = (words[ip + F.IP_TTL]! >>> 8) & 0xff;
    if (protocol === F.ICMP) return icmp(f, ip, length);
    if (protocol !== F.TCP) return end(Verdict.dropNotOurs);
    return frames[f + D.SCRATCH] === NOT_TCP ? end(Verdict.dropMalformed) : unknownSegment(f, ip, now);
  }

  function icmp(f: number, ip: number, length: number): number {
    const quoted = quotedSegment(slab, ip);
    const slot = quoted === E.NONE ? E.NONE : quotedOwner(quoted);
    if (slot === E.NONE || (words[ip + F.IP_TTL]! & 0xff) <= 1) return end(Verdict.dropIcmp);
    const hop = flow[(slot << E.ENTRY_SHIFT) + E.NEXT_HOP]! << HOP_SHIFT;
    if (hops[hop + HOP_MTU] === 0) return end(Verdict.dropNoRoute);
    translateQuoted(slab, ip, table, slot);
    halves[ip * 2 + F.ETHERNET_HALF] = hops[hop + HOP_ETHERNET]!;
    for (let i = 1; i < 4; i++) words[ip - 4 + i] = hops[hop + HOP_ETHERNET + i]!;
    frames[f + D.LENGTH] = length;
    frames[f + D.INTERFACE] = hops[hop + HOP_INTERFACE]!;
    frames[f + D.OUT] = hops[hop + HOP_OUT]!;
    return end(icmpTranslated);
  }

  /**
   * The slot of the flow whose rewrite points at the sender of a quoted segment, the flow of the opposite direction. Where only the
   * hash knows a connection (DSR: opened by another balancer, or in an earlier life), the scratch slot, written for it.
   */
  function quotedOwner(quoted: number): number {
    const source = words[quoted + F.IP_DESTINATION]!;
    const destination = words[quoted + F.IP_SOURCE]!;
    const ports = swapPorts(words[quoted + (words[quoted]! & 0xf)]!);
    const slot = table.find(source, destination, ports);
    if (slot !== E.NONE) return slot;
    const frontend = services.frontendAt(destination, destinationPort(ports));
    return frontend?.adopts ? openings.pass(frontend, source, destination, ports) : E.NONE;
  }

  /** A TCP segment that no entry matches: it opens a connection, or is answered with a reset. */
  function unknownSegment(f: number, ip: number, now: number): number {
    const tcp = ip + (words[ip]! & 0xf);
    const ports = words[tcp]!;
    const source = words[ip + F.IP_SOURCE]!;
    const destination = words[ip + F.IP_DESTINATION]!;
    const flags = (words[tcp + F.TCP_FLAGS]! >>> 8) & 0xff;
    const frontend = services.frontendAt(destination, destinationPort(ports));
    if (frontend === undefined && !isReply(source, destination, ports)) return end(Verdict.dropNotOurs);
    const opens = (flags & (F.SYN | F.ACK | F.FIN | F.RST)) === F.SYN;
    // Nothing is remembered of a packet that no server would take: verified where a flow would begin, and only there.
    if ((opens || frontend?.adopts) && !isIntact(f, ip)) return end(Verdict.dropMalformed);
    if (frontend?.adopts && !opens) return adopt(f, frontend, now);
    if (flags & F.RST) return end(Verdict.dropStray);
    if (frontend === undefined || frontend.draining || !opens) return answerReset(f, ip, resetUnknown, now);
    if ((words[ip + F.IP_TTL]! & 0xff) <= 1) return answerError(f, ip, F.ICMP_TIME_EXCEEDED, 0, 0, timeExceeded, now);
    if (frames[f + D.FLAGS]! & D.FLAG_NO_ETHERNET) halves.fill(0, ip * 2 + F.ETHERNET_HALF, ip * 2);
    const hop = lastHops.learn(slab, ip, frames[f + D.INTERFACE]!);
    const slot = openings.open(frontend, source, destination, ports, hop, now);
    if (slot >= 0) return admit(slot, opened);
    const verdict = ~slot;
    if (verdict === resetNoServer || verdict === resetNoPort || verdict === resetFull) return answerReset(f, ip, verdict, now);
    return end(verdict);
  }

  /** On a partial checksum there is nothing to verify yet: the packet has seen no wire. */
  function isIntact(f: number, ip: number): boolean {
    return (frames[f + D.FLAGS]! & FLAG_PARTIAL) !== 0 || isTcpIntact(slab, ip, swap16(words[ip]! >>> 16));
  }

  /** The entry in `slot`, just made for the frame, which counts as `verdict` when it has been examined. */
  function admit(slot: number, verdict: number): number {
    admission = slot === table.scratch ? stateless : verdict;
    return slot << E.ENTRY_SHIFT;
  }

  /** DSR, a segment in mid-stream: opened by another balancer, or by this one in an earlier life. The hash knows where. */
  function adopt(f: number, frontend: Frontend, now: number): number {
    const ip = frames[f + D.OFFSET]! >>> 2;
    const tcp = ip + (words[ip]! & 0xf);
    const slot = openings.adopt(frontend, words[ip + F.IP_SOURCE]!, words[ip + F.IP_DESTINATION]!, words[tcp]!, now);
    if (slot >= 0) return admit(slot, adopted);
    // With no server up it is dropped without a word: another balancer may still know where it belongs.
    return end(~slot === resetNoServer ? Verdict.dropStray : ~slot);
  }

  function isReply(source: number, destination: number, ports: number): boolean {
    const port = destinationPort(ports);
    return port >= FIRST_PORT && port <= LAST_PORT && services.isReply(source, sourcePort(ports), destination);
  }

  function answerReset(f: number, ip: number, verdict: number, now: number): number {
    return answers.take(now) ? answer(f, buildReset(slab, ip), verdict) : end(Verdict.dropRateLimited);
  }

  function answerError(f: number, ip: number, type: number, code: number, mtu: number, verdict: number, now: number): number {
    frames[f + D.OUT] = D.DROP;
    if (!answers.take(now)) return end(Verdict.dropRateLimited);
    return answer(f, buildIcmpError(slab, ip, type, code, mtu, words[ip + F.IP_DESTINATION]!), verdict);
  }

  /** Sends what was built over the frame back the way it came. */
  function answer(f: number, length: number, verdict: number): number {
    frames[f + D.LENGTH] = length;
    frames[f + D.OUT] = frames[f + D.FLAGS]! & D.FLAG_NO_ETHERNET ? D.ROUTE : D.SEND;
    frames[f + D.FLAGS] = 0;
    return end(verdict);
  }

  /** IP length of what the frame will be on the wire: of a super-packet, that of one segment. */
  function wireLength(f: number, ip: number): number {
    const flags = frames[f + D.FLAGS]!;
    const header = words[ip]! & 0xf;
    if ((flags & D.FLAG_GSO) === 0) return swap16(words[ip]! >>> 16);
    return (header + ((words[ip + header + F.TCP_FLAGS]! >>> 4) & 0xf)) * 4 + (flags >>> 16);
  }
}
