/**
 * The way back to clients, looked after while their connections last: answers leave for the MAC address that a connection's SYN came from
 * (auto last hop), and a router that is replaced, or fails over without an address that moves along, has another one from then on.
 *
 * Every few milliseconds one frame of a batch is looked at before it is rewritten. An established connection's client sends from another MAC
 * address or interface than its answers leave for, three times within a fifth of a second or more, and no client that shares the hop was seen at
 * the old one in between: then the hop itself is rewritten, and all its connections follow, those in the kernel's fast path as well. Whoever still comes by the old
 * one proves that it lives, so two routers that share a client's packets keep a hop each. A stranger who knows a live connection's
 * addresses and ports gains no more than that answers take the stranger's router until the client is seen again.
 */
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import * as D from '../layout/frames.ts';
import * as F from '../packet/fields.ts';
import { BACK, type LastHops, readBack } from './next-hops.ts';

/** Milliseconds between two looks: under load a thousandth of the packets or less, and one more look-up in the table each. */
const LOOK_MS = 8;
/** What another way has to show before answers take it: so many frames, the first and the last so many milliseconds apart … */
const FRAMES = 3;
const SETTLED_MS = 200;
/** … and the last one before them not so long ago, or it begins anew: what was seen long ago says nothing of now. */
const FORGOTTEN_MS = 60_000;
const NOBODY = -1;

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
  /** The hop whose clients seem to come another way, which way that is, and since when; how many frames have shown it. */
  #hop = NOBODY;
  readonly #other = new Int32Array(BACK);
  readonly #back = new Int32Array(BACK);
  #since = 0;
  #seenAt = 0;
  #shown = 0;
  /** How many hops have been rewritten. */
  moved = 0;

  constructor(parts: WayBackParts) {
    this.#parts = parts;
  }

  /** Whether it is time to look; `now` in milliseconds, modulo 2^32. */
  isDue(now: number): boolean {
    return (now - this.#lookedAt) >>> 0 >= LOOK_MS;
  }

  /** Looks at one of the first `batch` frames, which are as they came. */
  look(batch: number, now: number): void {
    this.#lookedAt = now;
    const { frames, slab, lastHops } = this.#parts;
    const f = D.HEADER + (this.#turn++ % batch) * D.STRIDE;
    if ((frames[f + D.FLAGS] & (D.FLAG_NO_ETHERNET | D.FLAG_FOREIGN | D.FLAG_TRUNCATED)) !== 0) return;
    const ip = frames[f + D.OFFSET] >>> 2;
    const hop = this.#hopOfClient(ip);
    if (hop === Flow.NONE || !lastHops.isLearnt(hop)) return;
    readBack(this.#back, slab, ip, frames[f + D.INTERFACE]);
    if (!lastHops.leads(hop, this.#back)) this.#isOther(hop, now);
    else if (hop === this.#hop) this.#hop = NOBODY;
  }

  /** The next hop of the answers, where the packet at word `ip` is an established connection's and from its client; or NONE. */
  #hopOfClient(ip: number): number {
    const { slab, table, records } = this.#parts;
    const { words } = slab;
    const first = words[ip];
    if ((first & 0xf0) !== 0x40 || (words[ip + F.IP_FRAGMENT] & F.FRAGMENT_MASK) !== 0) return Flow.NONE;
    const kind = Flow.live((words[ip + F.IP_TTL] >>> 8) & 0xff);
    const slot = table.find(words[ip + F.IP_SOURCE], words[ip + F.IP_DESTINATION], words[ip + (first & 0xf)], kind);
    if (slot === Flow.NONE) return Flow.NONE;
    const at = slot << Flow.ENTRY_SHIFT;
    if ((table.words[at + Flow.STATE] & Flow.FAST) === 0) return Flow.NONE;
    const r = table.words[at + Flow.CONNECTION] << C.RECORD_SHIFT;
    const second = records.words[r + C.SECOND];
    if (records.words[r + C.FIRST] !== slot || second === Flow.NONE) return Flow.NONE;
    return table.words[(second << Flow.ENTRY_SHIFT) + Flow.NEXT_HOP];
  }

  /** A client of that hop comes by the way that was read last. */
  #isOther(hop: number, now: number): void {
    if (hop !== this.#hop || this.#isNews(now)) {
      // One suspicion at a time, while it is fresh: whoever else is due comes by again.
      if (hop !== this.#hop && this.#hop !== NOBODY && (now - this.#seenAt) >>> 0 < SETTLED_MS) return;
      this.#other.set(this.#back);
      this.#hop = hop;
      this.#since = now;
      this.#shown = 0;
    }
    this.#seenAt = now;
    this.#shown++;
    if (this.#shown < FRAMES || (now - this.#since) >>> 0 < SETTLED_MS) return;
    this.#parts.lastHops.move(hop, this.#other);
    this.#hop = NOBODY;
    this.moved++;
  }

  /** Whether what was read last is not what is suspected, or that was long ago. */
  #isNews(now: number): boolean {
    for (let i = 0; i < BACK; i++) if (this.#other[i] !== this.#back[i]) return true;
    return (now - this.#seenAt) >>> 0 >= FORGOTTEN_MS;
  }
}
