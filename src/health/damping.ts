/**
 * Flap damping after RFC 2439: every fall of a server that was up costs a penalty of 1, which decays by half every
 * half-life. Above SUPPRESS the server is held down though its checks pass, until the penalty is below REUSE.
 */
import type { Target } from './check.ts';

/** Three falls, however fast, never exceed it; four that follow each other as fast as checks can tell do. */
const SUPPRESS = 3;
const REUSE = 1.5;

/** More is not added up: a server is held for at most log2(CEILING / REUSE) = 2 half-lives after its last fall. */
const CEILING = 6;

/** Below it the past is forgotten, and falls are counted from one again (RFC 2439 4.8.6: half the reuse limit). */
const FORGOTTEN = REUSE / 2;

/**
 * The fastest that checks can see a server fall and rise takes `rise + fall` intervals. Five of these: with 1 and 1 ten
 * intervals. Four falls then suffice if each follows the last within 1.5 times that fastest pace, so jitter does not matter.
 */
const HALF_LIFE_CYCLES = 5;

/** With very short intervals a slow restart of a server would count for nothing. */
const MIN_HALF_LIFE_MS = 10_000;

/** How fast penalties decay for a target, in ms. */
export function halfLifeOf({ intervalMs, rise, fall }: Pick<Target, 'intervalMs' | 'rise' | 'fall'>): number {
  return Math.max(MIN_HALF_LIFE_MS, HALF_LIFE_CYCLES * (rise + fall) * intervalMs);
}

/** The penalty of one server. Times are in ms on any clock that never goes back. */
export class Damping {
  #penalty = 0;
  #at = 0;
  #flaps = 0;
  #held = false;

  /** Whether the server is to be held down; as of the last call of `flap` or `ease`. */
  get held(): boolean {
    return this.#held;
  }

  /** Falls that the penalty still remembers. */
  get flaps(): number {
    return this.#flaps;
  }

  /** The server was up and fell. */
  flap(now: number, halfLifeMs: number): void {
    this.#decay(now, halfLifeMs);
    this.#flaps = this.#penalty < FORGOTTEN ? 1 : this.#flaps + 1;
    this.#penalty = Math.min(CEILING, this.#penalty + 1);
    this.#held ||= this.#penalty > SUPPRESS;
  }

  /** Lets the server go if it has been quiet for long enough. */
  ease(now: number, halfLifeMs: number): void {
    this.#decay(now, halfLifeMs);
    this.#held &&= this.#penalty >= REUSE;
  }

  /** How long the server will be held from now if it stays quiet, in ms. */
  remainingMs(halfLifeMs: number): number {
    return this.#held ? halfLifeMs * Math.log2(this.#penalty / REUSE) : 0;
  }

  #decay(now: number, halfLifeMs: number): void {
    this.#penalty *= 2 ** ((this.#at - now) / halfLifeMs);
    this.#at = now;
  }
}
