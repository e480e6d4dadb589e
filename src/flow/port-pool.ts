/**
 * Source ports for one (source address, server) pair: a queue, so that the port that has rested longest goes out next.
 * A port comes back only when its flow has left the table, that is after TIME_WAIT.
 *
 *     fresh ports, from a random start ──┐
 *     returned ports, oldest first ──────┴─► claim      release ─► end of the queue
 *
 * The queue's memory grows with use: a pool that never had more than 1,000 ports out holds 1,024 entries.
 */
import { ALL_PORTS, type PortSlice } from '../packet/steering.ts';

export class PortPool {
  readonly #slice: PortSlice;
  readonly #start: number;
  /** Ports never handed out yet, and of those, the ones that another process did: how many, and which, a bit each. */
  #fresh: number;
  #taken = 0;
  #isTaken: Uint8Array | undefined;
  #queue = new Uint16Array(64);
  #head = 0;
  #queued = 0;

  /**
   * @param slice the ports that are handed out
   * @param start where among them to begin, 0 … 1 (RFC 6056: not to be guessed from outside)
   */
  constructor(slice: PortSlice = ALL_PORTS, start: number = Math.random()) {
    this.#slice = slice;
    this.#start = Math.floor(start * slice.count) % slice.count;
    this.#fresh = slice.count;
  }

  /** Ports that could be claimed now. */
  get available(): number {
    return this.#fresh + this.#queued - this.#taken;
  }

  /** Ports in all. */
  get size(): number {
    return this.#slice.count;
  }

  /** A port in host order, or 0 when all are in use. */
  claim(): number {
    const { first, count, step } = this.#slice;
    while (this.#fresh > 0) {
      const place = (this.#start + count - this.#fresh) % count;
      this.#fresh--;
      if (this.#taken === 0 || !this.#skips(place)) return first + place * step;
    }
    if (this.#queued === 0) return 0;
    const port = this.#queue[this.#head];
    this.#head = (this.#head + 1) & (this.#queue.length - 1);
    this.#queued--;
    return port;
  }

  /** Takes a port out that is in use already, as another process left it: before any is claimed. Twice is harmless. */
  take(port: number): void {
    const { first, count, step } = this.#slice;
    const taken = (this.#isTaken ??= new Uint8Array(Math.ceil(count / 8)));
    const place = (port - first) / step;
    const bit = 1 << (place & 7);
    if ((taken[place >>> 3] & bit) !== 0) return;
    taken[place >>> 3] |= bit;
    this.#taken++;
  }

  /** Gives a port back that was claimed, or taken. */
  release(port: number): void {
    if (this.#queued === this.#queue.length) this.#grow();
    this.#queue[(this.#head + this.#queued) & (this.#queue.length - 1)] = port;
    this.#queued++;
  }

  /** Passes a port by that is taken: once, since there it ends to be fresh. */
  #skips(place: number): boolean {
    const taken = this.#isTaken;
    if (taken === undefined || (taken[place >>> 3] & (1 << (place & 7))) === 0) return false;
    if (--this.#taken === 0) this.#isTaken = undefined;
    return true;
  }

  #grow(): void {
    const queue = new Uint16Array(this.#queue.length * 2);
    for (let i = 0; i < this.#queued; i++) queue[i] = this.#queue[(this.#head + i) & (this.#queue.length - 1)];
    this.#queue = queue;
    this.#head = 0;
  }
}
