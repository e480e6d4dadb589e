/**
 * Passive signals: what packets tell of a server's health before its next check does. A flag a server and reason, and a list
 * of the servers that have one; nothing is allocated where packets wait.
 */
import { MAX_SERVERS } from '../layout/counters.ts';

/** A client had to send its SYN again. */
export const SYN_AGAIN = 1;
/** The server reset a handshake. */
export const HANDSHAKE_RESET = 2;
/** The server has nobody at its port, as an ICMP error of its own says. */
export const PORT_UNREACHABLE = 4;
/** The same to a client whom the server sees: he knows all that such an error quotes, so he may have written it himself. */
export const CLAIMED_UNREACHABLE = 8;

export interface Signal {
  /** The server's index. */
  readonly index: number;
  readonly reason: 'syn' | 'rst' | 'unreachable' | 'claimed';
}

export class Signals {
  readonly #flags = new Uint8Array(MAX_SERVERS);
  readonly #servers = new Uint16Array(MAX_SERVERS);
  #count = 0;

  /** Whether there is anything to tell. */
  get isNoted(): boolean {
    return this.#count > 0;
  }

  note(server: number, flag: number): void {
    if (this.#flags[server] === 0) this.#servers[this.#count++] = server;
    this.#flags[server] |= flag;
  }

  /** What was noted since the last call. */
  take(): Signal[] {
    const signals: Signal[] = [];
    for (const index of this.#servers.subarray(0, this.#count)) {
      if (this.#flags[index] & SYN_AGAIN) signals.push({ index, reason: 'syn' });
      if (this.#flags[index] & HANDSHAKE_RESET) signals.push({ index, reason: 'rst' });
      if (this.#flags[index] & PORT_UNREACHABLE) signals.push({ index, reason: 'unreachable' });
      if (this.#flags[index] & CLAIMED_UNREACHABLE) signals.push({ index, reason: 'claimed' });
      this.#flags[index] = 0;
    }
    this.#count = 0;
    return signals;
  }
}
