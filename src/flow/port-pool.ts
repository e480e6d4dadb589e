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
  #isTaken: Int32Array | undefined;
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
      const passed = this.#taken === 0 ? 0 : this.#pass(place);
      this.#fresh -= Math.max(1, passed);
      if (passed === 0) return first + place * step;
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
    const taken = (this.#isTaken ??= new Int32Array(Math.ceil(count / 32)));
    const place = (port - first) / step;
    const bit = 1 << (place & 31);
    if ((taken[place >>> 5] & bit) !== 0) return;
    taken[place >>> 5] |= bit;
    this.#taken++;
  }

  /** Gives a port back that was claimed, or taken. */
  release(port: number): void {
    if (this.#queued === this.#queue.length) this.#grow();
    this.#queue[(this.#head + this.#queued) & (this.#queue.length - 1)] = port;
    this.#queued++;
  }

  /**
   * How many ports from a place on are taken, up to the end of a word: they are passed by once, since there they end to be fresh. A word at a time: who
   * has taken up a full pool is not to look at each port while a SYN waits.
   */
  #pass(place: number): number {
    const taken = this.#isTaken;
    if (taken === undefined) return 0;
    const free = ~(taken[place >>> 5] >>> (place & 31));
    const run = Math.min(free === 0 ? 32 : 31 - Math.clz32(free & -free), this.#fresh);
    this.#taken -= run;
    if (this.#taken === 0) this.#isTaken = undefined;
    return run;
  }

  #grow(): void {
    const queue = new Uint16Array(this.#queue.length * 2);
    for (let i = 0; i < this.#queued; i++) queue[i] = this.#queue[(this.#head + i) & (this.#queue.length - 1)];
    this.#queue = queue;
    this.#head = 0;
  }
}
