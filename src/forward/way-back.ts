/**
 * The way back to clients, looked after while their connections last: answers leave for the MAC address that a connection's SYN came from
 * (auto last hop), and a router that is replaced, or fails over without an address that moves along, has another one from then on.
 *
 * Every few milliseconds one frame of a batch is looked at before it is rewritten. Where an established connection's client sends from another MAC
 * address or interface than its answers leave for, they leave for that one from then on: those of this connection alone, since its neighbours may well
 * still come by the old router. What is true of one is likely true of many, so for three seconds all frames are looked at. The kernel's fast path
 * hands up what strays, a packet a second of each connection (native/bpf/way_back.h).
 * A stranger who knows a live connection's addresses and ports gains that its answers take the stranger's router until the client is seen again.
 */
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import * as D from '../layout/frames.ts';
import * as F from '../packet/fields.ts';
import type { LastHops } from './next-hops.ts';

/** Milliseconds between two looks: under load a thousandth of the packets or less, and one more look-up in the table each. */
const LOOK_MS = 8;
/**
 * So long all are looked at after one has strayed: the kernel's fast path hands up those of two more of its seconds meanwhile. And so often at most: where each
 * packet takes another of two routers, every look finds one.
 */
const EAGER_MS = 3000;
const REST_MS = 10_000;

export interface WayBackParts {
  readonly slab: F.Slab;
  readonly frames: Int32Array;
  readonly table: FlowTable;
  readonly records: Records;
  readonly lastHops: LastHops;
}

export class WayBack {
  readonly #parts: WayBackParts;
  #lookedAt = 0;
  #turn = 0;
  /** Since when all frames are looked at, or were last. */
  #eagerSince = -REST_MS;
  /** How many connections have got another way back. */
  moved = 0;

  constructor(parts: WayBackParts) {
    this.#parts = parts;
  }

  /** Whether it is time to look; `now` in milliseconds, modulo 2^32. */
  isDue(now: number): boolean {
    return (now - this.#lookedAt) >>> 0 >= LOOK_MS || this.#isEager(now);
  }

  #isEager(now: number): boolean {
    return (now - this.#eagerSince) >>> 0 < EAGER_MS;
  }

  /** Looks at one of the first `batch` frames, which are as they came, or at all. */
  look(batch: number, now: number): void {
    this.#lookedAt = now;
    if (!this.#isEager(now)) this.#lookAt(this.#turn++ % batch, now);
    else for (let i = 0; i < batch; i++) this.#lookAt(i, now);
  }

  #lookAt(i: number, now: number): void {
    const { frames, slab, table, lastHops } = this.#parts;
    const f = D.HEADER + i * D.STRIDE;
    if ((frames[f + D.FLAGS] & (D.FLAG_NO_ETHERNET | D.FLAG_FOREIGN | D.FLAG_TRUNCATED)) !== 0) return;
    const ip = frames[f + D.OFFSET] >>> 2;
    const answers = this.#answersTo(ip);
    if (answers === Flow.NONE) return;
    const at = (answers << Flow.ENTRY_SHIFT) + Flow.NEXT_HOP;
    const link = frames[f + D.INTERFACE];
    if (!lastHops.isLearnt(table.words[at]) || lastHops.leadsBack(table.words[at], slab, ip, link)) return;
    // One store: whoever forwards an answer meanwhile goes by the one or the other.
    table.words[at] = lastHops.learn(slab, ip, link);
    this.moved++;
    if ((now - this.#eagerSince) >>> 0 >= REST_MS) this.#eagerSince = now;
  }

  /** The flow of the answers, where the packet at word `ip` is an established connection's and from its client; or NONE. */
  #answersTo(ip: number): number {
    const { slab, table, records } = this.#parts;
    const { words } = slab;
    const first = words[ip];
    if ((first & 0xf0) !== 0x40 || (words[ip + F.IP_FRAGMENT] & F.FRAGMENT_MASK) !== 0) return Flow.NONE;
    const kind = Flow.live((words[ip + F.IP_TTL] >>> 8) & 0xff);
    const slot = table.find(words[ip + F.IP_SOURCE], words[ip + F.IP_DESTINATION], words[ip + (first & 0xf)], kind);
    if (slot === Flow.NONE) return Flow.NONE;
    const at = slot << Flow.ENTRY_SHIFT;
    const r = table.words[at + Flow.CONNECTION] << C.RECORD_SHIFT;
    const isEstablished = (table.words[at + Flow.STATE] & Flow.FAST) !== 0;
    return isEstablished && records.words[r + C.FIRST] === slot ? records.words[r + C.SECOND] : Flow.NONE;
  }
}
