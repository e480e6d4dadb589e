/**
 * The packet path: three passes over a batch.
 *
 *     1 parse   what the frame is (parse.ts); its 5-tuple → its home slot in the flow table
 *     2 touch   read every slot and those behind it, so that the cache misses of a batch overlap instead of queueing up
 *     3 apply   find the rewrite, rewrite in place, update checksums (RFC 1624)
 *                 no flow, not established, control flags, TTL, MTU → slow-path.ts, and before the first of a batch → read-ahead.ts
 *
 * `process` is one closure, made once an isolate, over arrays held in constants: V8 keeps their base addresses in
 * registers. Measured by bench/core (docs/benchmarks.md); a DataView would double the cost, methods would triple it.
 * Nothing in it allocates, throws or logs, and each frame ends in exactly one counted verdict.
 */
import type { FlowTable } from '../flow/table.ts';
import * as Flow from '../layout/flow.ts';
import * as Frame from '../layout/frames.ts';
import * as Hop from '../layout/hops.ts';
import * as Field from '../packet/fields.ts';
import { parse } from './parse.ts';
import type { ReadAhead } from './read-ahead.ts';
import type { Rows } from './rows.ts';
import type { Services } from './services.ts';
import type { SlowPath } from './slow-path.ts';
import { Verdict } from './verdict.ts';
import type { Wrap } from './wrap.ts';

export interface PipelineParts {
  readonly slab: Field.Slab;
  /** Descriptors of a batch: layout/frames.ts. */
  readonly frames: Int32Array;
  readonly table: FlowTable;
  readonly hops: Int32Array;
  /** One counter a verdict. */
  readonly verdicts: Float64Array;
  readonly slowPath: SlowPath;
  readonly readAhead: ReadAhead;
  readonly wrap: Wrap;
  readonly rows: Rows;
  /** {@link Services.tables} */
  readonly tables: Services['tables'];
  /** Between interfaces: TTL and Ethernet header stay. */
  readonly isInline: boolean;
}

/** Handles the first `count` frames of the descriptor array in place: every frame gets its OUT word. */
export type Pipeline = (count: number) => void;

// The constants of the three passes, copied into this module: an imported binding is a load from memory at each use, a
// constant of one's own module is a literal in the machine code (bench/core, 1,000 connections: 39 ns a packet → 19 ns).
const { forwarded } = Verdict;
const { CLOCK, HEADER, STRIDE, OFFSET, LENGTH, FLAGS, FLAG_PARTIAL, INTERFACE, OUT } = Frame;
const { HOME, DETAIL, CONTROL, CHECKSUM_SHIFT, VERDICT } = Frame;
const { ENTRY, ENTRY_SHIFT, PROBES, STATE, KEYED, PRESENCE, EMPTY, LIVE, FAST, GUARDED, WRAPPED, NONE, SOURCE, DESTINATION, PORTS } = Flow;
const { NEW_SOURCE, NEW_DESTINATION, NEW_PORTS, DELTAS, TAG_SHIFT, NEXT_HOP, SEEN, BYTES, ACKNOWLEDGED } = Flow;
const { IP_TTL, IP_SOURCE, IP_DESTINATION, TCP_ACKNOWLEDGMENT: THIRD_WORD, ETHERNET_HALF } = Field;
/** The EtherType of IPv4, as in a frame. */
const IPV4 = 0x0008;
/** Where it stands in a word of the IP header. */
const UDP_KIND = Field.UDP << 8;
/** isClientsAlone() of forward/links.ts. */
const [CLIENT_WORDS, SERVER_WORDS, LAST_LINK] = [Hop.CLIENT_LINKS * Hop.HOP, Hop.SERVER_LINKS * Hop.HOP, Hop.LINKS - 1];
const { ETHERNET: HOP_ETHERNET, INTERFACE: HOP_INTERFACE, MTU: HOP_MTU, OUT: HOP_OUT, SHIFT: HOP_SHIFT, TUNNEL: HOP_TUNNEL } = Hop;

/** Homes of a table that a second-level cache holds whole: 2 MB. */
const CACHED = 1 << 15;

/** The three passes over `table`, with what else they need; one a thread, so that its one instance is compiled for its own memory. */
export function createPipeline({
  slab,
  frames,
  table,
  hops,
  verdicts,
  slowPath,
  readAhead,
  wrap,
  rows,
  tables,
  isInline,
}: PipelineParts): Pipeline {
  const { words, halves } = slab;
  const flow = table.words;
  const [seed, k1, k2, k3] = table.key;
  const { scale } = table;
  const nowhere = table.nowhere << ENTRY_SHIFT;
  const isCached = table.capacity <= CACHED;
  // A router takes one of the TTL, and passes nothing that has no more; one less adds 0xfffe: the TTL is the low byte of its 16-bit word.
  const [step, least, stepSum] = isInline ? [0, -1, 0] : [1, 1, 0xfffe];

  return function process(batch: number): void {
    // Bound to locals: a context slot read in the loop is a load and a type check a time (bench/core: 43 → 20 ns).
    const w = words;
    const t = flow;
    const d = frames;
    const n = hops;
    const h16 = halves;
    const now = d[CLOCK];
    const last = HEADER + batch * STRIDE;

    // 1 parse. The word index of the home entry, or `nowhere` for all that is no whole, plausible segment: passes 2 and 3 need no branch
    // for those (bench/core, 1,000 connections: 3 %).
    for (let f = HEADER; f < last; f += STRIDE) {
      const ip = d[f + OFFSET] >>> 2;
      const transport = parse(w, d, f, ip);
      if (transport === 0) {
        d[f + HOME] = nowhere;
        continue;
      }
      // hashTuple() and homeOf() of flow/table.ts, written out: a call here costs as much as the hash.
      const ports = w[transport];
      let h = Math.imul(w[ip + IP_SOURCE] ^ seed, k1);
      h = Math.imul((h ^ (h >>> 15)) + (ports ^ (ports >>> 16)), k2);
      h = Math.imul((h ^ (h >>> 15)) + w[ip + IP_DESTINATION], k3);
      d[f + HOME] = (((h >>> 0) * scale) | 0) << ENTRY_SHIFT;
    }

    // 2 touch. A third of the flows are not at home: in a table that no cache holds, READ_AHEAD slots (written out) take a third off a packet at
    // 10 million connections; in a small one they cost a tenth at a thousand (docs/benchmarks.md).
    let touched = 0;
    if (isCached) {
      for (let f = HEADER; f < last; f += STRIDE) touched ^= t[d[f + HOME]];
    } else {
      for (let f = HEADER; f < last; f += STRIDE) {
        const home = d[f + HOME];
        touched ^= t[home] ^ t[home + ENTRY] ^ t[home + 2 * ENTRY] ^ t[home + 3 * ENTRY];
      }
    }
    frames[HEADER - 1] = touched; // so that the reads are not optimised away

    // 3 apply.
    let hits = 0;
    let isReadAhead = isCached;
    const ttlStep = step;
    const ttlLeast = least;
    const ttlSum = stepSum;
    const keepsEthernet = isInline;
    for (let f = HEADER; f < last; f += STRIDE) {
      const ip = d[f + OFFSET] >>> 2;
      const first = w[ip];
      const ttl = w[ip + IP_TTL];
      const length = (first >>> 24) | ((first >>> 8) & 0xff00);
      const transport = ip + (first & 0xf);
      let at = d[f + HOME];
      // The protocol stands in STATE where it stands in the IP header.
      const kind = LIVE | (ttl & 0xff00);
      const source = w[ip + IP_SOURCE];
      const destination = w[ip + IP_DESTINATION];
      const ports = w[transport];
      let probes = PROBES;
      let state = t[at + STATE];
      while ((state & KEYED) !== kind || t[at + SOURCE] !== source || t[at + PORTS] !== ports || t[at + DESTINATION] !== destination) {
        if ((state & PRESENCE) === EMPTY || --probes === 0) {
          at = nowhere;
          state = 0;
          break;
        }
        at += ENTRY;
        state = t[at + STATE];
      }
      if ((state & WRAPPED) !== 0) {
        const tag = t[at + DELTAS] >>> TAG_SHIFT;
        if (tag !== 0 && tag !== tables[0]) rows.follow(at);
        if (n[(t[at + NEXT_HOP] << HOP_SHIFT) + HOP_TUNNEL] === 0) state = 0;
      }
      let hop = t[at + NEXT_HOP] << HOP_SHIFT;
      const detail = d[f + DETAIL];
      if ((state & GUARDED) !== 0) {
        const link = d[f + INTERFACE];
        const word = (link & LAST_LINK) >>> 5;
        if ((n[CLIENT_WORDS + word] & ~n[SERVER_WORDS + word] & (1 << link)) !== 0) state = 0;
      }
      if ((state & FAST) === 0 || (detail & CONTROL) !== 0 || (ttl & 0xff) <= ttlLeast || length > n[hop + HOP_MTU]) {
        if (!isReadAhead) {
          isReadAhead = true;
          readAhead(f, last);
        }
        at = slowPath(f, at === nowhere ? NONE : at, now);
        if (at < 0) continue;
        hop = t[at + NEXT_HOP] << HOP_SHIFT;
        state = t[at + STATE];
        if (d[f + VERDICT] !== forwarded) hits--;
      }
      t[at + SEEN] = now;
      t[at + BYTES] = t[at + BYTES] + (detail & 0xffff);
      // In TCP the acknowledgement, by which the other side's FIN or RST is judged (flow/tcp-evidence.ts).
      t[at + ACKNOWLEDGED] = w[transport + THIRD_WORD];

      if ((state & WRAPPED) !== 0) {
        wrap(f, ip, length, at);
        hits++;
        continue;
      }

      // RFC 1624 equation 3. The address delta serves the IP header and, on a partial checksum, the pseudo-header sum
      // that stands there uncomplemented.
      const deltas = t[at + DELTAS];
      let s = (~ttl >>> 16) + (deltas >>> 16) + ttlSum;
      s = (s & 0xffff) + (s >>> 16);
      s += s >>> 16;
      w[ip + IP_TTL] = ((ttl & 0xffff) - ttlStep) | (~s << 16);
      w[ip + IP_SOURCE] = t[at + NEW_SOURCE];
      w[ip + IP_DESTINATION] = t[at + NEW_DESTINATION];
      w[transport] = t[at + NEW_PORTS];
      const checksum = (transport << 1) + (detail >> CHECKSUM_SHIFT);
      if ((d[f + FLAGS] & FLAG_PARTIAL) === 0) {
        s = (~h16[checksum] & 0xffff) + (deltas & 0xffff);
        s = ~(s + (s >>> 16)) & 0xffff;
        // RFC 768: zero is none; one that comes out as zero is all ones.
        if (s === 0 && (ttl & 0xff00) === UDP_KIND) s = 0xffff;
        h16[checksum] = s;
      } else {
        s = h16[checksum] + (deltas >>> 16);
        h16[checksum] = s + (s >>> 16);
      }

      if (!keepsEthernet) {
        h16[(ip << 1) + ETHERNET_HALF] = n[hop + HOP_ETHERNET];
        w[ip - 3] = n[hop + HOP_ETHERNET + 1];
        w[ip - 2] = n[hop + HOP_ETHERNET + 2];
        w[ip - 1] = n[hop + HOP_ETHERNET + 3];
      } else {
        // It was written to where there was no checksum to mend.
        h16[(ip << 1) - 1] = IPV4;
      }
      d[f + LENGTH] = length;
      d[f + INTERFACE] = n[hop + HOP_INTERFACE];
      d[f + OUT] = n[hop + HOP_OUT];
      hits++;
    }
    verdicts[forwarded] += hits;
  };
}
