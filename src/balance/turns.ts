/**
 * Smooth weighted round robin (nginx's) over all threads that choose among the same servers: each turn adds every server's weight
 * to its score, gives the turn to the highest and takes the sum of weights from it. Weights 5, 1, 1 give a a b a c a a, never five
 * in a row. The scores are shared: kept a thread, 40 connections over two threads would miss 10, 20 and 10 for weights 1, 2, 1.
 *
 * Memory: a lock (int32: FREE, TAKEN, WANTED), then a score (float64) for each candidate.
 */
import type { Candidate } from './scheduler.ts';

const LOCK_BYTES = 8;
const FREE = 0;
const TAKEN = 1;
/** Taken, and somebody may wait for it. */
const WANTED = 2;
/** A thread that died within its turn must not hold up the others: after so long the lock is theirs. */
const PATIENCE_MS = 20;

/** Memory for the turns of so many candidates, to cross threads as it is. */
export function turnsMemory(candidates: number): SharedArrayBuffer {
  return new SharedArrayBuffer(LOCK_BYTES + candidates * Float64Array.BYTES_PER_ELEMENT);
}

export class Turns {
  readonly #lock: Int32Array;
  readonly #scores: Float64Array;
  readonly #weights: Float64Array;

  /** `memory` is that of {@link turnsMemory} for as many candidates. */
  constructor(candidates: readonly Candidate[], memory: ArrayBufferLike) {
    this.#lock = new Int32Array(memory, 0, 1);
    this.#scores = new Float64Array(memory, LOCK_BYTES, candidates.length);
    this.#weights = Float64Array.from(candidates, ({ weight }) => weight);
  }

  /**
   * Whose turn it is among those that `takesPart` marks with 1, by position; -1 without any. O(candidates), allocates nothing, waits for
   * no more than other threads' turns.
   */
  next(takesPart: Uint8Array): number {
    this.#enter();
    const winner = this.#turn(takesPart);
    this.#leave();
    return winner;
  }

  #enter(): void {
    const lock = this.#lock;
    if (Atomics.compareExchange(lock, 0, FREE, TAKEN) === FREE) return;
    while (Atomics.exchange(lock, 0, WANTED) !== FREE) if (Atomics.wait(lock, 0, WANTED, PATIENCE_MS) === 'timed-out') return;
  }

  #leave(): void {
    if (Atomics.exchange(this.#lock, 0, FREE) === WANTED) Atomics.notify(this.#lock, 0, 1);
  }

  #turn(takesPart: Uint8Array): number {
    const scores = this.#scores;
    const weights = this.#weights;
    let best = -1;
    let total = 0;
    for (let i = 0; i < scores.length; i++) {
      if (takesPart[i] === 0) continue;
      total += weights[i];
      scores[i] += weights[i];
      if (best < 0 || scores[i] > scores[best]) best = i;
    }
    if (best >= 0) scores[best] -= total;
    return best;
  }
}
