/** Who gives orders by a token: what is said is compared in a time that tells nothing, and who guesses waits. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { addressBytes } from '../ip.ts';

/** Wrong tokens of a client in a minute; after them none of its is looked at until the minute is over, but for this host's. */
const MOST_WRONG = 5;
const MINUTE_MS = 60_000;
/** Of whom it is remembered; the oldest makes way. */
const MOST_CLIENTS = 1024;

/** Told at the first wrong token, and then once a minute at most. */
export interface WrongTokens {
  /** Whose the last one was. */
  readonly from: string;
  /** Since it was told of them last. */
  readonly attempts: number;
}

/** `later`: too many wrong ones have come from there. */
export type Judgement = 'right' | 'wrong' | 'later';

interface Guesses {
  count: number;
  /** On the monotonic clock. */
  readonly until: number;
}

export class TokenGate {
  readonly #tell: (wrong: WrongTokens) => void;
  /** By address; of IPv6 by network, where a client has as many as it likes. In a Map the oldest comes first. */
  readonly #clients = new Map<string, Guesses>();
  #untold = 0;
  #silentUntil = Number.NEGATIVE_INFINITY;

  constructor(tell: (wrong: WrongTokens) => void) {
    this.#tell = tell;
  }

  /**
   * @param header `Authorization: Bearer TOKEN`; none at all is no guess
   * @param from the client's address
   * @param now in ms, on a clock that never goes back
   */
  judge(token: string, header: string | undefined, from: string, now = performance.now()): Judgement {
    if (header === undefined) return 'wrong';
    const client = clientOf(from);
    let guesses = this.#clients.get(client);
    if (guesses !== undefined && now >= guesses.until) {
      this.#clients.delete(client);
      guesses = undefined;
    }
    const isOver = guesses !== undefined && guesses.count >= MOST_WRONG;
    if (isOver && !isShared(from)) return 'later';
    if (isSaid(token, header)) return 'right';
    if (isOver) return 'later';
    if (guesses === undefined) this.#remember(client, { count: 1, until: now + MINUTE_MS });
    else guesses.count++;
    this.#note(from, now);
    return 'wrong';
  }

  #remember(client: string, guesses: Guesses): void {
    const [oldest] = this.#clients.keys();
    if (oldest !== undefined && this.#clients.size >= MOST_CLIENTS) this.#clients.delete(oldest);
    this.#clients.set(client, guesses);
  }

  #note(from: string, now: number): void {
    this.#untold++;
    if (now < this.#silentUntil) return;
    this.#silentUntil = now + MINUTE_MS;
    this.#tell({ from, attempts: this.#untold });
    this.#untold = 0;
  }
}

/** An IPv4 address, also one that an IPv6 socket writes its way, or the /64 of an IPv6 address. */
function clientOf(from: string): string {
  return isIPv6(from) && !from.startsWith('::ffff:') ? addressBytes(from).subarray(0, 8).toString('hex') : from;
}

/**
 * All users of this host are one client, and of a proxy on it all of the world: whoever guesses there would lock out whoever knows it. What 16
 * characters and more are good for is not guessed by asking.
 */
function isShared(from: string): boolean {
  return from === '::1' || /^(?:::ffff:)?127\./.test(from);
}

/** In a time that tells nothing of how much of it was right. */
function isSaid(token: string, header: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(`Bearer ${token}`), digest(header));
}
