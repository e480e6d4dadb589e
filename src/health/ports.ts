/** Checks bind these local ports; client connections have 33768–61000. The firewall rules drop only the latter's replies. */
export const HEALTH_PORTS = { first: 32768, last: 33767 } as const;

/**
 * Local ports for checks, in turn from a random start, so that a restarted lb4 does not begin where the last one did.
 * Two checks may have the same port at once if their servers differ: the kernel refuses only an equal 4-tuple.
 */
export class PortRotation {
  readonly size: number;
  readonly #first: number;
  #offset: number;

  constructor(first: number = HEALTH_PORTS.first, last: number = HEALTH_PORTS.last) {
    this.#first = first;
    this.size = last - first + 1;
    this.#offset = Math.floor(Math.random() * this.size);
  }

  next(): number {
    this.#offset = (this.#offset + 1) % this.size;
    return this.#first + this.#offset;
  }
}
