/**
 * The flow table: open addressing with linear probing over 64-byte entries in memory that others may be reading. So
 * a deletion never moves an entry, a probe is bounded (a BPF verifier wants to see the bound), and a full
 * neighbourhood refuses the newcomer instead of evicting a live flow.
 *
 *      home = one of `capacity` slots, by hash(5-tuple)
 *      home            home+1          home+2          …  home+PROBES-1
 *      | LIVE other    | TOMBSTONE     | LIVE this one | EMPTY: stop
 *
 * Behind the last home there is room for its probes, so that none wraps. What the kernel has had and is gone takes no other one for a moment.
 */

import * as E from '../layout/flow.ts';
import { flowWords, type HashKey } from '../layout/memory.ts';
import type { Bitmap } from './bitmap.ts';

/**
 * Homes of a table for both directions of that many connections, which make it LOAD full or a little less. So full, a run as long as
 * PROBES hardly occurs, and a connection takes 256 bytes with everything that belongs to it.
 */
export function tableCapacity(connections: number): number {
  const homes = Math.max(LEAST, (connections * 2) / LOAD);
  const step = stepOf(homes);
  return Math.ceil(homes / step) * step;
}
const LOAD = 0.61;
/** Homes at least. */
const LEAST = 256;

/**
 * What a number of homes is a multiple of: 32 bits of hash times 20 bits of homes fit a double's 53, so that {@link homeOf} is exact, and the
 * same in 64-bit integers.
 */
function stepOf(homes: number): number {
  return 2 ** Math.max(0, Math.floor(Math.log2(homes)) - 19);
}

/**
 * A slot whose flow the kernel's fast path has had rests for so many milliseconds once that is gone: a packet that a processor had in hand by then
 * writes to it what is of the flow that is gone (native/bpf/rewrite.h: account). A program takes a microsecond; a virtual processor that is not
 * let run takes longer.
 */
export const REST_MS = 100;

/** Makes a key from 16 random bytes. */
export function hashKey(random: Uint32Array): HashKey {
  return [random[0] | 0, random[1] | 1, random[2] | 1, random[3] | 1];
}

/**
 * Hash of a 5-tuple, a signed int32. The multipliers are secret, so nobody outside can aim flows at one slot; three
 * multiplications and no table, so that BPF does the same in a dozen instructions. Destination ports, which stand in the upper half of
 * their word, are taken into the lower one: there a multiplication spreads them over all of the hash (test/unit/hash.test.ts).
 */
export function hashTuple(key: HashKey, source: number, destination: number, ports: number): number {
  let h = Math.imul(source ^ key[0], key[1]);
  h ^= h >>> 15;
  h = Math.imul(h + (ports ^ (ports >>> 16)), key[2]);
  h ^= h >>> 15;
  return Math.imul(h + destination, key[3]);
}

export class FlowTable {
  readonly words: Int32Array;
  /** Homes. */
  readonly capacity: number;
  /** Homes a hash: {@link homeOf}. */
  readonly scale: number;
  readonly key: HashKey;
  /** The slot behind the table, which is never live: where a lookup begins for what can have no flow, so that it needs no branch of its own. */
  readonly nowhere: number;
  /**
   * The slot of one more entry: for a packet that must go without a flow. No lookup finds it, it is never published, and holds until the next
   * packet.
   */
  readonly scratch: number;
  /** Slots: the homes, and those behind the last of them. */
  readonly end: number;
  /** What a flow becomes that is given away: FAST, and LENT where the kernel may have it. */
  readonly #given: number;
  #live = 0;

  /**
   * @param memory {@link flowWords}, zeroed or left by another process (then {@link recount})
   * @param capacity homes, as {@link tableCapacity} gives them
   * @param isInKernel the kernel's fast path goes by that memory, too
   */
  constructor(memory: Int32Array, capacity: number, key: HashKey, isInKernel = false) {
    if (capacity < LEAST || !Number.isInteger(capacity / stepOf(capacity)))
      throw new RangeError(`flow table capacity ${capacity}: not one of tableCapacity()`);
    if (memory.length < flowWords(capacity)) throw new RangeError(`flow table: ${memory.length} words are too few for ${capacity} entries`);
    this.words = memory;
    this.capacity = capacity;
    this.scale = capacity / 2 ** 32;
    this.key = key;
    this.end = capacity + E.PROBES - 1;
    this.nowhere = this.end;
    this.scratch = this.end + 1;
    this.#given = isInKernel ? E.FAST | E.LENT : E.FAST;
  }

  /** Live entries: two a connection with full NAT. */
  get size(): number {
    return this.#live;
  }

  /**
   * Counts the live entries of a table that another process left, removes those whose slots are not `kept`, and empties the tombstones that
   * no probe needs. What the kernel has had of those rests from `now` on (as SEEN has it).
   */
  recount(kept: Bitmap, now: number): void {
    this.#live = 0;
    let isBehindEmpty = true;
    for (let slot = this.end - 1; slot >= 0; slot--) {
      const presence = this.#presence(slot);
      if (presence === E.EMPTY) isBehindEmpty = true;
      else if (presence === E.LIVE && kept.has(slot)) {
        this.#live++;
        isBehindEmpty = false;
      } else {
        if (presence === E.LIVE) this.rest(slot, now);
        // Written only where it changes: each first write to a page that another process has filled is a page fault.
        if (isBehindEmpty) this.#mark(slot, E.EMPTY);
        else if (presence === E.LIVE) this.#mark(slot, E.TOMBSTONE);
      }
    }
  }

  /** The slot where a lookup begins. */
  homeOf(hash: number): number {
    return ((hash >>> 0) * this.scale) | 0;
  }

  isLive(slot: number): boolean {
    return (this.words[(slot << E.ENTRY_SHIFT) + E.STATE] & E.PRESENCE) === E.LIVE;
  }

  /** The slot of a live flow, or NONE. `kind` is what its STATE & KEYED must be. */
  find(source: number, destination: number, ports: number, kind: number): number {
    const { words } = this;
    const home = this.homeOf(hashTuple(this.key, source, destination, ports));
    for (let slot = home; slot < home + E.PROBES; slot++) {
      const at = slot << E.ENTRY_SHIFT;
      const state = words[at + E.STATE];
      if ((state & E.PRESENCE) === E.EMPTY) return E.NONE;
      if (
        (state & E.KEYED) === kind &&
        words[at + E.SOURCE] === source &&
        words[at + E.PORTS] === ports &&
        words[at + E.DESTINATION] === destination
      )
        return slot;
    }
    return E.NONE;
  }

  /**
   * Finds a slot for a key that is not in the table and writes the key; the caller fills in the rest and calls
   * {@link publish}. Until then the slot is not taken: `except` is one reserved before that is still to be published.
   * NONE where the neighbourhood is full, or rests at `now` (as SEEN has it).
   */
  reserve(source: number, destination: number, ports: number, now: number, except: number = E.NONE): number {
    const { words } = this;
    const home = this.homeOf(hashTuple(this.key, source, destination, ports));
    for (let slot = home; slot < home + E.PROBES; slot++) {
      const at = slot << E.ENTRY_SHIFT;
      if ((words[at + E.STATE] & E.PRESENCE) === E.LIVE || slot === except) continue;
      if (!this.rests(slot, now)) {
        this.#writeKey(slot, source, destination, ports);
        return slot;
      }
      // Whoever looks for what comes behind it must not stop here.
      this.#mark(slot, E.TOMBSTONE);
    }
    return E.NONE;
  }

  /** The scratch slot, with a key written. */
  borrow(source: number, destination: number, ports: number, marks = 0): number {
    this.#writeKey(this.scratch, source, destination, ports);
    this.words[(this.scratch << E.ENTRY_SHIFT) + E.STATE] = marks;
    return this.scratch;
  }

  /** Makes a reserved entry visible, in its next version: its state word is stored last. */
  publish(slot: number, kind: number): void {
    this.renew(slot, kind);
    this.#live++;
  }

  /** The flow in a slot is another one from now on, though of the same key. */
  renew(slot: number, kind: number): void {
    const at = (slot << E.ENTRY_SHIFT) + E.STATE;
    this.words[at] = (((this.words[at] >>> E.VERSION_SHIFT) + 1) << E.VERSION_SHIFT) | kind;
  }

  /** Gives a live flow to whoever needs nothing but its rewrite, the kernel included, or takes it back. */
  setFast(slot: number, fast: boolean): void {
    const at = (slot << E.ENTRY_SHIFT) + E.STATE;
    const state = fast ? this.words[at] | this.#given : this.words[at] & ~E.FAST;
    if (this.words[at] !== state) this.words[at] = state;
  }

  /** A flow that is removed next: what the kernel has had rests from `now` on. */
  rest(slot: number, now: number): void {
    const at = slot << E.ENTRY_SHIFT;
    if ((this.words[at + E.STATE] & E.LENT) !== 0) this.words[at + E.SEEN] = now;
  }

  /**
   * Whether the kernel may still write to a slot whose flow it has no more; `now` as SEEN has it, which is a little ahead where a packet that it
   * had in hand has just passed.
   */
  rests(slot: number, now: number): boolean {
    const at = slot << E.ENTRY_SHIFT;
    return (this.words[at + E.STATE] & E.LENT) !== 0 && Math.abs((now - this.words[at + E.SEEN]) | 0) < REST_MS;
  }

  /** A copy of an entry in the scratch slot, for a packet that must leave no trace in it. */
  copy(slot: number): number {
    const from = slot << E.ENTRY_SHIFT;
    const to = this.scratch << E.ENTRY_SHIFT;
    for (let word = E.STATE + 1; word < E.ENTRY; word++) this.words[to + word] = this.words[from + word];
    this.words[to + E.STATE] = this.words[from + E.STATE] & E.WRAPPED;
    return this.scratch;
  }

  /** Removes a live entry. Tombstones that no probe needs any more become empty again. Versions stay. */
  remove(slot: number): void {
    this.#live--;
    this.#mark(slot, E.TOMBSTONE);
    if (this.#presence(slot + 1) !== E.EMPTY) return;
    // Nothing stands behind this slot, so no probe passes it: empty it, and the tombstones in front of it with it.
    for (let at = slot; at >= 0 && this.#presence(at) === E.TOMBSTONE; at--) this.#mark(at, E.EMPTY);
  }

  #presence(slot: number): number {
    return this.words[(slot << E.ENTRY_SHIFT) + E.STATE] & E.PRESENCE;
  }

  #mark(slot: number, presence: number): void {
    const at = (slot << E.ENTRY_SHIFT) + E.STATE;
    this.words[at] = (this.words[at] & ((-1 << E.VERSION_SHIFT) | E.LENT)) | presence;
  }

  #writeKey(slot: number, source: number, destination: number, ports: number): void {
    const at = slot << E.ENTRY_SHIFT;
    this.words[at + E.SOURCE] = source;
    this.words[at + E.DESTINATION] = destination;
    this.words[at + E.PORTS] = ports;
  }
}
