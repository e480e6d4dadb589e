/** Where somebody listens. */
export interface Endpoint {
  /** Native order. */
  readonly address: number;
  /** Host order. */
  readonly port: number;
  /** Its number in the IP header: what listens for another protocol is another endpoint. */
  readonly protocol: number;
}

/** Port and protocol in one number of 24 bits. */
export function portKey(port: number, protocol: number): number {
  return (protocol << 16) | port;
}

/** A map from endpoints to indexes that allocates nothing when asked: open addressing, at most half full. */
export class EndpointMap {
  readonly #words: Int32Array;
  readonly #mask: number;

  constructor(entries: readonly (Endpoint & { readonly index: number })[]) {
    const capacity = 2 ** Math.ceil(Math.log2(Math.max(4, entries.length * 2)));
    this.#words = new Int32Array(capacity * 4);
    this.#mask = capacity - 1;
    for (const { address, port, protocol, index } of entries) this.#add(address, portKey(port, protocol), index);
  }

  /** The index, or -1. As in {@link Endpoint}. */
  find(address: number, port: number, protocol: number): number {
    const key = portKey(port, protocol);
    for (let slot = this.#home(address, key); ; slot = (slot + 1) & this.#mask) {
      const at = slot * 4;
      if (this.#words[at + 2] === 0) return -1;
      if (this.#words[at] === address && this.#words[at + 1] === key) return this.#words[at + 2] - 1;
    }
  }

  #add(address: number, key: number, index: number): void {
    let slot = this.#home(address, key);
    while (this.#words[slot * 4 + 2] !== 0) {
      if (this.#words[slot * 4] === address && this.#words[slot * 4 + 1] === key) return;
      slot = (slot + 1) & this.#mask;
    }
    this.#words.set([address, key, index + 1], slot * 4);
  }

  #home(address: number, key: number): number {
    return endpointHash(address, key) & this.#mask;
  }
}

/**
 * Twenty bits; native/bpf/access.h has the same. The upper half of the address is folded in first: a product's bits depend on no higher ones of its
 * factors, and what addresses of one network differ in, their last byte, is a word's highest.
 */
export function endpointHash(address: number, key: number): number {
  return Math.imul(address ^ (address >>> 16) ^ Math.imul(key, 0x9e3779b1), 0x85ebca6b) >>> 12;
}
