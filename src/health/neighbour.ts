/** What this host knows of its neighbours. */
import { readFile } from 'node:fs/promises';

/** Of each line: address, hardware's type, flags (proc(5), arp(7)). */
const FLAGS = 2;
/** if_arp.h, ATF_COM: its hardware address is known. */
const COMPLETE = 0x2;
/** Who asks within so many ms of each other is told by one reading: the kernel writes all of the table out for each. */
const TOGETHER_MS = 50;

/** The kernel's table of IPv4 neighbours, read once for all who ask at about the same time. */
export class Neighbours {
  readonly #read: () => Promise<string>;
  #next: Promise<ReadonlyMap<string, boolean>> | undefined;

  /** @param read what /proc/net/arp says */
  constructor(read: () => Promise<string> = () => readFile('/proc/net/arp', 'utf8')) {
    this.#read = read;
  }

  /**
   * False where something has just been sent to an IPv4 address on a link of this host's, and nobody there has answered ARP. True of all
   * others: behind a router, without ARP, or where it cannot be told. The table is read after the call: what has been sent before it counts.
   */
  async answersArp(address: string): Promise<boolean> {
    this.#next ??= this.#readSoon();
    return (await this.#next).get(address) ?? true;
  }

  async #readSoon(): Promise<ReadonlyMap<string, boolean>> {
    await new Promise((resolve) => setTimeout(resolve, TOGETHER_MS));
    this.#next = undefined;
    return this.#read().then(answersIn, () => new Map());
  }
}

/** Whether each address that is in the table answers, on one of its links at least. */
function answersIn(arp: string): ReadonlyMap<string, boolean> {
  const known = new Map<string, boolean>();
  for (const line of arp.split('\n').slice(1)) {
    const words = line.split(/\s+/);
    const [address = ''] = words;
    known.set(address, known.get(address) === true || (Number(words[FLAGS]) & COMPLETE) !== 0);
  }
  return known;
}
