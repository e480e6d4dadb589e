/** A token bucket for the packets that lb4 makes itself: whoever sends us rubbish must not get an amplifier. */
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
    this.#tokens = Math.min(this.#perSecond, this.#tokens + (elapsed * this.#perSecond) / 1000);
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
