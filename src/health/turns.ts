/**
 * Checks that hear of a server by its host's "port unreachable" alone, and how seldom a host says that: Linux once a second to one address, six times in a
 * row after a rest, whichever of its ports was asked (icmp_ratelimit in icmp(7), inet_peer_xrlim_allow). So where one port of a host was refused,
 * checks of its others take turns, no faster than it may refuse them all. A host that is gone refuses nobody: then none waits.
 */
import type { Target } from './check.ts';

/** A little longer than what Linux waits for. */
const PACE_MS = 1100;
/** So long, or three intervals of who asks, a host counts as one that refuses. */
const LASTING_MS = 60_000;

interface Waiting {
  /** So many its check may cost. */
  readonly refusals: number;
  readonly end: () => void;
}

interface Host {
  refusedAt: number;
  /** When the next turn is free. */
  readyAt: number;
  /** In the order in which they came. */
  readonly line: Waiting[];
  timer: NodeJS.Timeout | undefined;
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
  wait({ address }: Target, refusals: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    const host = this.#host(address);
    return new Promise((resolve) => {
      const end = () => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const waiting = { refusals, end };
      const leave = () => {
        host.line.splice(host.line.indexOf(waiting), 1);
        end();
        serve(host);
      };
      signal.addEventListener('abort', leave);
      host.line.push(waiting);
      serve(host);
    });
  }

  /** The target's host is not there (udp.ts, ARP): whoever waits for a turn is to find that out now. */
  gone({ address }: Target): void {
    const host = this.#hosts.get(address);
    this.#hosts.delete(address);
    clearTimeout(host?.timer);
    for (const { end } of host?.line.splice(0) ?? []) end();
  }

  /** The target's host has refused it. @param unforeseen more often than its turn allowed for */
  refused({ address }: Target, unforeseen: number): void {
    const now = performance.now();
    const host = this.#host(address);
    host.refusedAt = now;
    host.readyAt = Math.max(host.readyAt, now) + unforeseen * PACE_MS;
    serve(host);
  }

  /** Only these hosts are to be known any more. */
  keep(addresses: ReadonlySet<string>): void {
    for (const address of this.#hosts.keys()) if (!addresses.has(address)) this.#hosts.delete(address);
  }

  #host(address: string): Host {
    const host = this.#hosts.get(address) ?? { refusedAt: Number.NEGATIVE_INFINITY, readyAt: 0, line: [], timer: undefined };
    this.#hosts.set(address, host);
    return host;
  }
}

/** Lets in who comes next where a turn is free, and comes back for the one after. */
function serve(host: Host): void {
  clearTimeout(host.timer);
  host.timer = undefined;
  const now = performance.now();
  if (host.readyAt <= now) {
    const next = host.line.shift();
    host.readyAt = now + (next?.refusals ?? 0) * PACE_MS;
    next?.end();
  }
  if (host.line.length > 0) host.timer = setTimeout(() => serve(host), host.readyAt - now);
}
