/**
 * Which SYNs have come before, half a second to four ago: a Bloom filter for each of the last eight half seconds, in 4 MB.
 *
 *     65,536 lines of 64 cells, a byte each, in which each of the last eight half seconds has a bit
 *     a SYN      by a keyed hash of addresses, ports and number: a line, and four of its cells
 *     proven     all four have the bit of one and the same half second, the last two aside
 */
import { hashTuple } from '../flow/table.ts';
import { LINE_SHIFT, LINES_SHIFT, PROVING_SHIFT } from '../layout/early-drop.ts';
import type { HashKey } from '../layout/memory.ts';

// With 300,000 SYNs a second, and so many lines, one in a hundred or so is taken for proven that is not.
const CELL = (1 << LINE_SHIFT) - 1;
/** Of each generation, in milliseconds. */
const GENERATION_MS = 500;
const GENERATIONS = 8;

export class SynSketch {
  readonly #key: HashKey;
  readonly #words: Int32Array;
  readonly #cells: Uint8Array;
  /** The bit of now's generation, and those that prove a SYN. */
  #bit = 1;
  #proving = 0;
  #generation = 0;

  /** @param words its lines. Pages of one's own memory that nobody has touched take none: without a flood that is all of it */
  constructor(key: HashKey, words: Int32Array) {
    this.#key = key;
    this.#words = words;
    this.#cells = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  }

  /** By which bits the kernel goes as well: layout/early-drop.ts. */
  get marks(): number {
    return this.#bit | (this.#proving << PROVING_SHIFT);
  }

  /** Whether a SYN has come before; from now on it has. Arguments as in the packet. */
  see(source: number, destination: number, ports: number, sequence: number): boolean {
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

  /** Forgets all. `now` in milliseconds modulo 2^32. */
  begin(now: number): void {
    this.#words.fill(0);
    this.#turn(Math.floor((now >>> 0) / GENERATION_MS));
  }

  /** Has each generation's bit be gone before it is used again; at each tick. A millisecond's work, twice a second. */
  age(now: number): void {
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
