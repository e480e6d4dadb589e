/** Token buckets for what strangers make lb4 do: whoever sends us rubbish must not get an amplifier, nor use up what is for all. */
export class RateLimit {
  readonly #perSecond: number;
  #tokens: number;
  #last = 0;

  /** @param perSecond answers a second, also the size of a burst */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#tokens = perSecond;
  }

  /** Takes a token if there is one. `now` in milliseconds modulo 2^32. */
  take(now: number): boolean {
    const elapsed = (now - this.#last) >>> 0;
    this.#last = now;
    this.#tokens = refilled(this.#tokens, elapsed, this.#perSecond);
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

/** Buckets of a {@link SharedLimit}: 64 KB. */
const BUCKETS_SHIFT = 12;

/**
 * The same for each of many: sources, or flows. There are 4,096 buckets, which keys share by a secret hash: nobody can aim at somebody else's, and a bucket is as
 * good as new after a second. Whoever shares one with a flood is limited with it.
 */
export class SharedLimit {
  readonly #perSecond: number;
  readonly #seed: number;
  readonly #multiplier: number;
  readonly #tokens = new Float32Array(1 << BUCKETS_SHIFT);
  readonly #last = new Int32Array(1 << BUCKETS_SHIFT);

  /**
   * @param perSecond for each key, also the size of a burst
   * @param secret two words that nobody outside knows
   */
  constructor(perSecond: number, secret: readonly [number, number]) {
    this.#perSecond = perSecond;
    [this.#seed, this.#multiplier] = [secret[0], secret[1] | 1];
    this.#tokens.fill(perSecond);
  }

  /** Takes a token of a key's, a word, if there is one. `now` in milliseconds modulo 2^32. */
  take(key: number, now: number): boolean {
    const h = Math.imul(key ^ this.#seed, this.#multiplier);
    const bucket = Math.imul(h ^ (h >>> 15), this.#multiplier) >>> (32 - BUCKETS_SHIFT);
    const elapsed = (now - this.#last[bucket]) >>> 0;
    const tokens = refilled(this.#tokens[bucket], elapsed, this.#perSecond);
    this.#last[bucket] = now;
    this.#tokens[bucket] = tokens < 1 ? tokens : tokens - 1;
    return tokens >= 1;
  }
}

function refilled(tokens: number, elapsed: number, perSecond: number): number {
  return Math.min(perSecond, tokens + (elapsed * perSecond) / 1000);
}
