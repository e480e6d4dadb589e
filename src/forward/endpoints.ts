/** A map from (address, port) to an index that allocates nothing when asked: open addressing, at most half full. */
export class EndpointMap {
  readonly #words: Int32Array;
  readonly #mask: number;

  constructor(entries: readonly { readonly address: number; readonly port: number; readonly index: number }[]) {
    const capacity = 2 ** Math.ceil(Math.log2(Math.max(4, entries.length * 2)));
    this.#words = new Int32Array(capacity * 4);
    this.#mask = capacity - 1;
    for (const entry of entries) this.#add(entry.address, entry.port, entry.index);
  }

  /** The index, or -1. `address` native order, `port` host order. */
  find(address: number, port: number): number {
    for (let slot = this.#home(address, port); ; slot = (slot + 1) & this.#mask) {
      const at = slot * 4;
      if (this.#words[at + 2] === 0) return -1;
      if (this.#words[at] === address && this.#words[at + 1] === port) return this.#words[at + 2] - 1;
    }
  }

  #add(address: number, port: number, index: number): void {
    let slot = this.#home(address, port);
    while (this.#words[slot * 4 + 2] !== 0) {
      if (this.#words[slot * 4] === address && this.#words[slot * 4 + 1] === port) return;
      slot = (slot + 1) & this.#mask;
    }
    this.#words.set([address, port, index + 1], slot * 4);
  }

  #home(address: number, port: number): number {
    return (Math.imul(address ^ Math.imul(port, 0x9e3779b1), 0x85ebca6b) >>> 12) & this.#mask;
  }
}
