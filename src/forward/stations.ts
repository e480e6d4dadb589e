/**
 * Behind which port somebody was last seen, by MAC or IPv4 address: a bounded table with an age. What it has forgotten, or never
 * learnt, is asked of all ports.
 */

const SETS = 1024;
const WAYS = 4;
/** Milliseconds that one who is silent is remembered. */
const AGE_MS = 300_000;
/** In place of a port: nobody. */
const NOBODY = -1;

export class Stations {
  readonly #keys = new Int32Array(SETS * WAYS * 2);
  readonly #ports = new Int32Array(SETS * WAYS).fill(NOBODY);
  readonly #seen = new Int32Array(SETS * WAYS);
  readonly #seed: number;

  /** @param seed a stranger who knew it could choose whom to push out */
  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Remembers that (`low`, `high`) is behind `port`. In a full set the one that has been silent longest makes way. */
  learn(low: number, high: number, port: number, now: number): void {
    const first = this.#setOf(low, high);
    let place = this.#placeIn(first, low, high);
    if (place < 0) {
      place = this.#oldestIn(first, now);
      this.#keys[place * 2] = low;
      this.#keys[place * 2 + 1] = high;
    }
    this.#ports[place] = port;
    this.#seen[place] = now;
  }

  /** The port that (`low`, `high`) is behind; -1: unknown. */
  find(low: number, high: number, now: number): number {
    const place = this.#placeIn(this.#setOf(low, high), low, high);
    return place < 0 || this.#isOld(place, now) ? NOBODY : this.#ports[place];
  }

  /** Forgets all. */
  clear(): void {
    this.#ports.fill(NOBODY);
  }

  #setOf(low: number, high: number): number {
    const h = Math.imul(low ^ this.#seed, 0x9e3779b1) ^ Math.imul(high ^ (this.#seed >>> 7), 0x85ebca6b);
    return ((Math.imul(h ^ (h >>> 15), 0xc2b2ae35) >>> 16) % SETS) * WAYS;
  }

  #placeIn(first: number, low: number, high: number): number {
    for (let place = first; place < first + WAYS; place++)
      if (this.#ports[place] !== NOBODY && this.#keys[place * 2] === low && this.#keys[place * 2 + 1] === high) return place;
    return -1;
  }

  #oldestIn(first: number, now: number): number {
    let oldest = first;
    for (let place = first; place < first + WAYS; place++) {
      if (this.#ports[place] === NOBODY) return place;
      if ((now - this.#seen[place]) >>> 0 > (now - this.#seen[oldest]) >>> 0) oldest = place;
    }
    return oldest;
  }

  #isOld(place: number, now: number): boolean {
    return (now - this.#seen[place]) >>> 0 >= AGE_MS;
  }
}
