/**
 * The connections of which nobody has shown yet that both sides hear each other, in the order in which their clients last asked
 * (RFC 4987 section 3.3: the oldest makes way). One list for each pool of ports, and one for each frontend without; what a flood fills
 * is told by the lists' lengths. Links are memory of the worker's own, eight bytes a connection.
 *
 * Flows of datagrams are in lists of their own kind for all their life, over the same links, since each record is in one list at most:
 * who was seen last comes last, to a second (forward/sweep.ts).
 *
 *     list    oldest ◄──► … ◄──► newest       add and renew at the end, evict at the head, remove anywhere
 */
import { NONE } from '../layout/flow.ts';

export class HalfOpen {
  /** Of each record the next and the previous one, side by side: where no cache holds them all, each pair is one miss. */
  readonly #links: Int32Array;
  #oldest = new Int32Array(64).fill(NONE);
  #newest = new Int32Array(64).fill(NONE);
  #lengths = new Int32Array(64);
  #size = 0;
  /** The longest list, or one that was not long ago: the sweep looks again (see {@link measure}). */
  #longest = 0;

  /** @param links two words for each record there may be, shared by lists of which each record is in one at most */
  constructor(links: Int32Array) {
    this.#links = links;
  }

  /** In all lists. */
  get size(): number {
    return this.#size;
  }

  get longest(): number {
    return this.#longest;
  }

  length(list: number): number {
    return list < this.#lengths.length ? this.#lengths[list] : 0;
  }

  /** The record that has waited longest in a list, or NONE. */
  oldest(list: number): number {
    return list < this.#oldest.length ? this.#oldest[list] : NONE;
  }

  /** The one of its list that has waited longest after a record, or NONE. */
  next(record: number): number {
    return this.#links[record * 2];
  }

  add(record: number, list: number): void {
    if (list >= this.#lengths.length) this.#grow(list);
    const last = this.#newest[list];
    this.#links[record * 2] = NONE;
    this.#links[record * 2 + 1] = last;
    if (last === NONE) this.#oldest[list] = record;
    else this.#links[last * 2] = record;
    this.#newest[list] = record;
    this.#size++;
    if (++this.#lengths[list] > this.#lengths[this.#longest]) this.#longest = list;
  }

  remove(record: number, list: number): void {
    const next = this.#links[record * 2];
    const previous = this.#links[record * 2 + 1];
    if (previous === NONE) this.#oldest[list] = next;
    else this.#links[previous * 2] = next;
    if (next === NONE) this.#newest[list] = previous;
    else this.#links[next * 2 + 1] = previous;
    this.#size--;
    this.#lengths[list]--;
  }

  /** Its client has asked again. */
  renew(record: number, list: number): void {
    this.remove(record, list);
    this.add(record, list);
  }

  /** Finds the longest list: while a flood goes on, what is added keeps it true; what expires does not. */
  measure(): void {
    for (let list = 0; list < this.#lengths.length; list++) if (this.#lengths[list] > this.#lengths[this.#longest]) this.#longest = list;
  }

  #grow(list: number): void {
    const size = 2 ** Math.ceil(Math.log2(list + 1));
    this.#oldest = grown(this.#oldest, size, NONE);
    this.#newest = grown(this.#newest, size, NONE);
    this.#lengths = grown(this.#lengths, size, 0);
  }
}

function grown(old: Int32Array, size: number, filling: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(size).fill(filling);
  larger.set(old);
  return larger;
}

/** The list of a connection: its pool's, or its frontend's where it has none. */
export function listOf(pool: number, frontend: number): number {
  return pool === NONE ? frontend * 2 + 1 : pool * 2;
}

/** The pool whose list that is, or NONE. */
export function poolOf(list: number): number {
  return list & 1 ? NONE : list >>> 1;
}
