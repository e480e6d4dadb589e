/** So many in each second of this process's clock: what a log may have at most, the rest of which is a number. */
export class EachSecond {
  /** None has begun: the first second of a process is one as well. */
  #second = -1;
  #left = 0;

  /**
   * Whether one more may be had of this second.
   * @param most in a second; a change of it counts from the next one on
   */
  take(most: number): boolean {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#left = most;
    }
    return this.#left-- > 0;
  }
}
