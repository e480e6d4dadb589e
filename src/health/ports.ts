import { CHECK_PORTS } from '../layout/ports.ts';

/**
 * Local ports for checks, in turn from a random start, so that a restarted lb4 does not begin where the last one did.
 * Two checks may have the same port at once if their servers differ: the kernel refuses only an equal 4-tuple.
 */
export class PortRotation {
  readonly size: number;
  readonly #first: number;
  #offset: number;

  constructor(first: number = CHECK_PORTS.first, last: number = CHECK_PORTS.last) {
    this.#first = first;
    this.size = last - first + 1;
    this.#offset = Math.floor(Math.random() * this.size);
  }

  next(): number {
    this.#offset = (this.#offset + 1) % this.size;
    return this.#first + this.#offset;
  }
}
