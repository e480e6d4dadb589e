/** A set of small numbers, a bit each. */
export class Bitmap {
  readonly #bytes: Uint8Array;

  /** @param size the numbers below it can be in the set */
  constructor(size: number) {
    this.#bytes = new Uint8Array(Math.ceil(size / 8));
  }

  add(number: number): void {
    this.#bytes[number >>> 3] |= 1 << (number & 7);
  }

  has(number: number): boolean {
    return (this.#bytes[number >>> 3] & (1 << (number & 7))) !== 0;
  }
}
