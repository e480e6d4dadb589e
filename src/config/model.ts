/** The configuration as the rest of the program sees it: resolved, frozen, times in milliseconds. */
import type { Address } from './address.ts';
import type { BALANCE, DSR } from './schema.ts';

export type { Address } from './address.ts';

export type Balance = (typeof BALANCE)[number];
export type Dsr = (typeof DSR)[number];

export interface Config {
  /** The file it came from, as given. */
  readonly file: string;
  /** At least one, in the file's order. */
  readonly frontends: readonly Frontend[];
  readonly backends: readonly Backend[];
  /** Undefined: no statistics server. */
  readonly stats: { readonly listen: Address } | undefined;
  readonly passthrough: Passthrough;
}

export interface Frontend {
  readonly name: string;
  readonly listen: Address;
  /** The very object that stands in `Config.backends`. */
  readonly backend: Backend;
}

export interface Backend {
  readonly name: string;
  /** Undefined: the mode's default. */
  readonly balance: Balance | undefined;
  /** Who changes addresses in DSR: `nat` the servers, on their way out; `l2` nobody. */
  readonly dsr: Dsr;
  readonly healthCheck: HealthCheck;
  readonly servers: readonly Server[];
}

export interface HealthCheck {
  /** Start to start, above 0. */
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Successes in a row that bring a failed server back. */
  readonly rise: number;
  /** Failures in a row that take a server out. */
  readonly fall: number;
}

export interface Server {
  readonly name: string;
  readonly addr: Address;
  /** 0–65535; 0 takes no new connections. */
  readonly weight: number;
}

/** The packet modes, DSR too. */
export interface Passthrough {
  /** Connections, 1–8,388,608; the flow table rounds up as it needs. */
  readonly connectionTrackerCapacity: number;
  readonly workers: number;
  readonly statsUpdateMs: number;
  /** A power of two. */
  readonly ringSlots: number;
  /** RST and ICMP errors that lb4 makes itself; 0: none. */
  readonly resetsPerSecond: number;
  readonly timeouts: Timeouts;
}

export interface Timeouts {
  readonly synMs: number;
  readonly establishedMs: number;
  readonly finMs: number;
  readonly timeWaitMs: number;
  readonly closedMs: number;
}
