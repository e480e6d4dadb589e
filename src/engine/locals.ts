/**
 * The other addresses of this host, for backends whose servers answer clients through it: what these send there is no answer to a client,
 * and stays with the kernel (forward/services.ts: passingServer). For all other sets nobody asks.
 */
import { networkInterfaces } from 'node:os';
import { modes } from '../forward/modes.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import { parseAddress } from '../packet/address.ts';

export class Locals {
  #last: string | undefined;
  readonly #read: () => number[];

  /** @param read for tests: in native order */
  constructor(read: () => number[] = localAddresses) {
    this.#read = read;
  }

  /** The set, with those that there are now. */
  in(set: ServiceSet): ServiceSet {
    if (!set.backends.some(({ mode }) => modes[mode].repliesTo === 'client')) {
      this.#last = undefined;
      return set;
    }
    const locals = this.#read();
    this.#last = locals.join();
    return { ...set, locals };
  }

  /** Whether they are others than a set was last told. */
  haveChanged(): boolean {
    return this.#last !== undefined && this.#last !== this.#read().join();
  }
}

/** Of interfaces that are up. */
function localAddresses(): number[] {
  const all = Object.values(networkInterfaces()).flatMap((list = []) => list.filter(({ family }) => family === 'IPv4'));
  return [...new Set(all.map(({ address }) => parseAddress(address)))].sort((a, b) => a - b);
}
