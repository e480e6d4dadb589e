/**
 * A SYN from an address that nobody has costs a server chosen, a port, two flows and a frame, and no connection comes of it. While there is a flood of
 * them, a SYN is taken in when it comes the second time: a TCP that waits for an answer sends it again a second later (RFC 6298 section 2.1) with
 * the same number, and whoever makes addresses up does not remember them. So clients wait for a second, and what comes once costs a look
 * at one cache line.
 *
 *     sketch     65,536 lines of 64 cells, a byte each, in which each of the last eight half seconds has a bit: a Bloom filter for each
 *     a SYN      by a keyed hash of addresses, ports and number: a line, and four of its cells
 *     proven     all four have the bit of one and the same half second, the last two aside
 *
 * Who sends each SYN twice, a second apart, gets as far as without all this: to the bounds of half-open connections.
 */
import { hashTuple } from '../flow/table.ts';
import type { HashKey } from '../layout/memory.ts';

/** Lines of the sketch. With 300,000 SYNs a second one in a hundred or so is taken for proven that is not. */
const LINES_SHIFT = 16;
const LINE_SHIFT = 6;
const CELL = (1 << LINE_SHIFT) - 1;
/** Of each generation, in milliseconds. */
const GENERATION_MS = 500;
const GENERATIONS = 8;
/** Time between two looks whether there is a flood, longer than most handshakes; and how long one must be over. */
const LOOK_MS = 250;
const CALM_MS = 5000;

export interface SynGuardOptions {
  /** From so many half-open connections on there may be a flood; 0: there never is. */
  readonly from: number;
  readonly key: HashKey;
}

/** Tells floods of SYNs, and which SYNs are taken in meanwhile. */
export class SynGuard {
  readonly #from: number;
  readonly #key: HashKey;
  /** Pages that nobody has touched take no memory: without a flood none. */
  readonly #cells = new Uint8Array(1 << (LINES_SHIFT + LINE_SHIFT));
  readonly #words = new Int32Array(this.#cells.buffer);
  #isOn = false;
  /** The bit of now's generation, and those that prove a SYN. */
  #bit = 1;
  #proving = 0;
  #generation = 0;
  /** When its last look was, and when there was a reason last to go on. */
  #looked = 0;
  #calmSince = 0;
  /** SYNs since the last look, those of them that had come before, and connections that were established by then. */
  #asked = 0;
  #proven = 0;
  #completed = 0;

  constructor({ from, key }: SynGuardOptions) {
    this.#from = from;
    this.#key = key;
  }

  /** Whether SYNs must come twice. */
  get isOn(): boolean {
    return this.#isOn;
  }

  /**
   * Whether a SYN is taken in: there is no flood, or it has come before. `sequence` as in the packet, likewise the others. Of a client that has
   * no connection yet.
   */
  takes(source: number, destination: number, ports: number, sequence: number): boolean {
    this.#asked++;
    if (!this.#isOn) return true;
    const isProven = this.#isProven(source, destination, ports, sequence);
    if (isProven) this.#proven++;
    return isProven;
  }

  #isProven(source: number, destination: number, ports: number, sequence: number): boolean {
    const key = this.#key;
    const cells = this.#cells;
    const mixed = Math.imul(hashTuple(key, source, destination, ports) ^ sequence, key[1]);
    const line = (mixed >>> (32 - LINES_SHIFT)) << LINE_SHIFT;
    const choice = Math.imul(mixed ^ (mixed >>> 15), key[2]);
    const a = line | (choice >>> 26);
    const b = line | ((choice >>> 20) & CELL);
    const c = line | ((choice >>> 14) & CELL);
    const d = line | ((choice >>> 8) & CELL);
    const seen = cells[a] & cells[b] & cells[c] & cells[d];
    const bit = this.#bit;
    cells[a] |= bit;
    cells[b] |= bit;
    cells[c] |= bit;
    cells[d] |= bit;
    return (seen & this.#proving) !== 0;
  }

  /**
   * Looks whether there is a flood, now and then; at each tick.
   * @param halfOpen how many connections are by now
   * @param completed how many have been established since the start
   * @param now in milliseconds modulo 2^32
   */
  tick(halfOpen: number, completed: number, now: number): void {
    if (this.#from === 0) return;
    if (this.#isOn) this.#age(now);
    const elapsed = (now - this.#looked) >>> 0;
    if (elapsed < LOOK_MS) return;
    // Where most that ask are connected, there are many of them, and it is no flood; nor once most come again.
    const unanswered = this.#asked - 2 * (completed - this.#completed);
    // And a trickle that adds up, since a server does not answer say, costs others nothing: nobody is delayed for it.
    const isFlood = halfOpen >= this.#from && unanswered * 2000 > this.#from * elapsed;
    const isGoingOn = (this.#asked - 2 * this.#proven) * 2000 > this.#from * elapsed || halfOpen > this.#from / 2;
    this.#looked = now;
    this.#asked = 0;
    this.#proven = 0;
    this.#completed = completed;
    if (this.#isOn) this.#goOn(isGoingOn, now);
    else if (isFlood) this.#begin(now);
  }

  #begin(now: number): void {
    this.#isOn = true;
    this.#calmSince = now;
    this.#words.fill(0);
    this.#turn(Math.floor((now >>> 0) / GENERATION_MS));
  }

  #goOn(isGoingOn: boolean, now: number): void {
    if (isGoingOn) this.#calmSince = now;
    else if ((now - this.#calmSince) >>> 0 >= CALM_MS) this.#isOn = false;
  }

  /** Has each generation's bit be gone before it is used again. A millisecond's work, twice a second. */
  #age(now: number): void {
    const generation = Math.floor((now >>> 0) / GENERATION_MS);
    if (generation === this.#generation) return;
    const passed = generation - this.#generation;
    let gone = 0;
    for (let i = 1; i <= Math.min(GENERATIONS, passed < 0 ? GENERATIONS : passed); i++) gone |= 1 << ((this.#generation + i) % GENERATIONS);
    const kept = ~Math.imul(gone, 0x01010101);
    const words = this.#words;
    for (let i = 0; i < words.length; i++) words[i] &= kept;
    this.#turn(generation);
  }

  #turn(generation: number): void {
    this.#generation = generation;
    this.#bit = 1 << (generation % GENERATIONS);
    // A client's second SYN comes a second after the first: half a second or more of the clock's, and less than four.
    this.#proving = 0xff & ~(this.#bit | (1 << ((generation + GENERATIONS - 1) % GENERATIONS)));
  }
}
