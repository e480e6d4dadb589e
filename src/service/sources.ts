/**
 * The addresses of this host that backends name as sources, and those that they named before: connections that left from one stay with it
 * until they end, and until then what servers answer to it must arrive.
 */
export class Sources {
  /** By address: whether the file has it. */
  #named: ReadonlyMap<string, boolean> = new Map();
  #version = 0;

  /** Another number whenever {@link all} or {@link former} is. */
  get version(): number {
    return this.#version;
  }

  get all(): string[] {
    return [...this.#named.keys()];
  }

  /** Those that are in the file no more. */
  get former(): string[] {
    return [...this.#named].filter(([, isHere]) => !isHere).map(([address]) => address);
  }

  /** Makes `addresses` those of the file. Returns what takes it back: nobody must have been told of it. */
  set(addresses: readonly string[]): () => void {
    const before = this.#named;
    const kept = [...before.keys()].map((address) => [address, false] as const);
    this.#become(new Map([...kept, ...addresses.map((address) => [address, true] as const)]));
    return () => this.#become(before);
  }

  /** Forgets those of before that no connection has any more. Returns whether the data path must be told. */
  expire(isUsed: (address: string) => boolean): boolean {
    const left = [...this.#named].filter(([address, isHere]) => isHere || isUsed(address));
    if (left.length === this.#named.size) return false;
    this.#become(new Map(left));
    return true;
  }

  #become(named: ReadonlyMap<string, boolean>): void {
    this.#named = named;
    this.#version++;
  }
}
