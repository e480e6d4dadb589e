/**
 * Behind which port somebody was last seen, by MAC or IPv4 address: a bounded table with an age. What it has forgotten, or never
 * learnt, is asked of all ports.
 *
 * Whoever sends may claim to be somebody else. So a station that is busy at its port moves only for as many frames from another one as
 * it has just sent itself (a majority vote), or once it has been silent for a moment: a host that has moved has. Behind one port (the servers') more is
 * asked: who speaks by services alone is not heard here, though it is there, and strangers are at the others.
 */

const SETS = 1024;
const WAYS = 4;
/** Milliseconds that one who is silent is remembered. */
const AGE_MS = 300_000;
/** Milliseconds after its last frame that a station is held to be where it was, and how many frames more than it sent move it meanwhile. */
const BUSY_MS = 2000;
const MOST_VOTES = 64;
/** Milliseconds after which somebody who is silent is asked for at all ports again. */
const FRESH_MS = 60_000;
/** In place of a port: nobody. */
const NOBODY = -1;

export class Stations {
  readonly #keys = new Int32Array(SETS * WAYS * 2);
  readonly #ports = new Int32Array(SETS * WAYS).fill(NOBODY);
  readonly #seen = new Int32Array(SETS * WAYS);
  readonly #votes = new Uint8Array(SETS * WAYS);
  /** When it was last claimed by another port than the one that it was busy at. */
  readonly #disputed = new Int32Array(SETS * WAYS);
  readonly #isDisputed = new Uint8Array(SETS * WAYS);
  /** Asked for since it was last seen. */
  readonly #isAsked = new Uint8Array(SETS * WAYS);
  readonly #seed: number;
  readonly #settled: number;
  #evicted = 0;

  /**
   * @param seed a stranger who knew it could choose whom to push out
   * @param settled the port from which a station moves by votes alone, until it has been silent for {@link FRESH_MS}
   */
  constructor(seed: number, settled: number = NOBODY) {
    this.#seed = seed;
    this.#settled = settled;
  }

  /** Those that had to make way for others before they were old. */
  get evicted(): number {
    return this.#evicted;
  }

  /**
   * Hears of (`low`, `high`) behind `port`. In a full set the one that has been silent longest makes way.
   * @returns false: it was busy behind another port a moment ago: two claim to be it, it moves, or its frames come round
   */
  learn(low: number, high: number, port: number, now: number): boolean {
    const first = this.#setOf(low, high);
    let place = this.#placeIn(first, low, high);
    if (place < 0) place = this.#take(first, low, high, now);
    else if (this.#ports[place] !== port) {
      const held = this.#ports[place] === this.#settled ? FRESH_MS : BUSY_MS;
      if (this.#votes[place] > 0 && this.#silence(place, now) < held) {
        this.#votes[place]--;
        this.#disputed[place] = now;
        this.#isDisputed[place] = 1;
        return false;
      }
      this.#votes[place] = 0;
    }
    if (this.#isDisputed[place] !== 0 && (now - this.#disputed[place]) >>> 0 >= BUSY_MS) this.#isDisputed[place] = 0;
    this.#ports[place] = port;
    this.#seen[place] = now;
    this.#isAsked[place] = 0;
    if (this.#votes[place] < MOST_VOTES) this.#votes[place]++;
    return this.#isDisputed[place] === 0;
  }

  /** The port that (`low`, `high`) is behind; -1: unknown. */
  find(low: number, high: number, now: number): number {
    const place = this.#placeIn(this.#setOf(low, high), low, high);
    return place < 0 || this.#silence(place, now) >= AGE_MS ? NOBODY : this.#ports[place];
  }

  /** The port at which to ask where (`low`, `high`) is; -1: at all, since it is unknown, was silent for long, or was asked for there in vain. */
  ask(low: number, high: number, now: number): number {
    const place = this.#placeIn(this.#setOf(low, high), low, high);
    if (place < 0 || this.#isAsked[place] !== 0 || this.#silence(place, now) >= FRESH_MS) return NOBODY;
    this.#isAsked[place] = 1;
    return this.#ports[place];
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

  /** A place in the set that begins at `first`, for somebody new. */
  #take(first: number, low: number, high: number, now: number): number {
    const place = this.#oldestIn(first, now);
    if (this.#ports[place] !== NOBODY && this.#silence(place, now) < AGE_MS) this.#evicted++;
    this.#keys[place * 2] = low;
    this.#keys[place * 2 + 1] = high;
    this.#votes[place] = 0;
    this.#isDisputed[place] = 0;
    return place;
  }

  #oldestIn(first: number, now: number): number {
    let oldest = first;
    for (let place = first; place < first + WAYS; place++) {
      if (this.#ports[place] === NOBODY) return place;
      if (this.#silence(place, now) > this.#silence(oldest, now)) oldest = place;
    }
    return oldest;
  }

  /** Milliseconds since it was seen. */
  #silence(place: number, now: number): number {
    return (now - this.#seen[place]) >>> 0;
  }
}
