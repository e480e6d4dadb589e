/**
 * Checks that hear of a server by its host's "port unreachable" alone, and how seldom a host says that: Linux once a second to one address, six times in a
 * row after a rest, whichever of its ports was asked (icmp_ratelimit in icmp(7), inet_peer_xrlim_allow). So where one port of a host was refused,
 * checks of its others take turns, no faster than it may refuse them all.
 */
import type { Target } from './check.ts';

/** A little longer than what Linux waits for. */
const PACE_MS = 1100;
/** So long, or three intervals of who asks, a host counts as one that refuses. */
const LASTING_MS = 60_000;

interface Host {
  refusedAt: number;
  /** When the next turn is free. */
  readyAt: number;
}

/** Of all hosts of which a port was refused lately. */
export class Turns {
  readonly #hosts = new Map<string, Host>();

  /** Whether the target's host has refused somebody lately: then it says nothing that it is silent about a port that was not asked in turn. */
  isRefusing({ address, intervalMs }: Target): boolean {
    const host = this.#hosts.get(address);
    return host !== undefined && performance.now() - host.refusedAt < Math.max(LASTING_MS, 3 * intervalMs);
  }

  /** Resolves when it is the target's turn, or `signal` is aborted. @param refusals so many its check may cost */
  async wait({ address }: Target, refusals: number, signal: AbortSignal): Promise<void> {
    const now = performance.now();
    const host = this.#host(address);
    const at = Math.max(now, host.readyAt);
    host.readyAt = at + refusals * PACE_MS;
    if (at > now) await pause(at - now, signal);
  }

  /** The target's host has refused it. @param unforeseen more often than its turn allowed for */
  refused({ address }: Target, unforeseen: number): void {
    const now = performance.now();
    const host = this.#host(address);
    host.refusedAt = now;
    host.readyAt = Math.max(host.readyAt, now) + unforeseen * PACE_MS;
  }

  /** Only these hosts are to be known any more. */
  keep(addresses: ReadonlySet<string>): void {
    for (const address of this.#hosts.keys()) if (!addresses.has(address)) this.#hosts.delete(address);
  }

  #host(address: string): Host {
    const host = this.#hosts.get(address) ?? { refusedAt: Number.NEGATIVE_INFINITY, readyAt: 0 };
    this.#hosts.set(address, host);
    return host;
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end, { once: true });
    if (signal.aborted) end();
  });
}
