/** Who may connect to a frontend, and how often, by the address in text that sockets and PROXY headers have. */
import { isIPv4 } from 'node:net';
import { type Access, Guard, type GuardParts } from '../access/guard.ts';
import { wordsOf6 } from '../ip.ts';
import { parseAddress } from '../packet/address.ts';

/** An IPv4 address as IPv6 has it (RFC 4291 section 2.5.5.2). */
const MAPPED = /^::ffff:(?=\d+\.)/i;

export class Gate {
  readonly #guard: Guard;
  readonly #sources: GuardParts['sources'];

  /** @param index the frontend's */
  constructor(access: Access, index: number, parts: GuardParts) {
    this.#guard = new Guard(access, index, parts);
    this.#sources = parts.sources;
  }

  /** Whether lists or limits keep a client out, which then is counted; else its source's rate has been told of it. */
  refuses(client: string): boolean {
    // Who has gone already has none.
    if (client === '') return false;
    const guard = this.#guard;
    const ip = client.replace(MAPPED, '');
    if (isIPv4(ip)) {
      const address = parseAddress(ip);
      return guard.denies(address) || guard.limits(address, now());
    }
    const words = wordsOf6(ip);
    return guard.denies6(words) || guard.limits6(words, now());
  }

  /** Counts a connection of its source. Returns what {@link leave} takes; 0: it is not counted. */
  enter(client: string): number {
    const { countedBits } = this.#guard;
    if (countedBits === 0 || client === '') return 0;
    const ip = client.replace(MAPPED, '');
    const hash = isIPv4(ip) ? this.#guard.hashOf(parseAddress(ip), countedBits) : this.#guard.hashOf6(wordsOf6(ip));
    return this.#sources.enter(hash, now()) ? hash : 0;
  }
}

/** Milliseconds on a clock of all threads, modulo 2^32. */
function now(): number {
  return Number(process.hrtime.bigint() / 1_000_000n) | 0;
}
