/** What the TCP proxy is to do. Plain data that crosses threads, the whole of it each time: applying it twice changes nothing. */

import type { Access } from '../access/guard.ts';
import type { Choice } from '../balance/index.ts';
import { noRoom } from '../layout/limits.ts';
import type { EndingOrders } from './endings.ts';
import { BACKENDS, FRONTENDS, SERVERS } from './memory.ts';

export interface ProxyPlan {
  readonly frontends: readonly FrontendPlan[];
  readonly backends: readonly BackendPlan[];
  /** What the connection log asks for; undefined: it is off. */
  readonly endings?: EndingOrders | undefined;
}

export interface FrontendPlan {
  /** Its row of counters, below FRONTENDS, its own in the plan. */
  readonly index: number;
  readonly name: string;
  /** An IPv4 or IPv6 address of this host, or 0.0.0.0 or ::, which takes no IPv4. */
  readonly host: string;
  readonly port: number;
  /** A backend's name. */
  readonly backend: string;
  /** Connections at a time; further ones wait in the kernel. 0: no limit. */
  readonly maxconn: number;
  /** Clients begin with a PROXY protocol header, v1 or v2. */
  readonly acceptProxy: boolean;
  /** Who may connect, and how often; undefined: all, and as they like. */
  readonly access?: Access | undefined;
  /** The client's silence that ends a connection; 0: never. */
  readonly clientTimeoutMs: number;
  /** Nothing is listened on any more; its connections go on. */
  readonly draining: boolean;
}

/** Versions of the PROXY protocol. */
export type SendProxy = 'v1' | 'v2';

export interface BackendPlan {
  readonly name: string;
  /** Its candidates' `index` is that of a server below. */
  readonly choice: Choice;
  /** All that have connections or may get some; one that is no candidate drains. */
  readonly servers: readonly ServerPlan[];
  /** The PROXY protocol version that servers are greeted with; undefined: none. */
  readonly sendProxy: SendProxy | undefined;
  readonly connectTimeoutMs: number;
  /** The server's silence that ends a connection; 0: never. */
  readonly serverTimeoutMs: number;
  /** Other servers tried after a failed connect. */
  readonly retries: number;
  /** Connections, of all workers, that may wait while all servers are full. */
  readonly maxQueue: number;
  readonly queueTimeoutMs: number;
}

export interface ServerPlan {
  /** Its row of counters, below SERVERS, its own in the plan. */
  readonly index: number;
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** Connections at a time, those still opening included. 0: no limit. */
  readonly maxconn: number;
}

/** Throws a RangeError for an index without a row of counters, or a name or index that refers to nothing: a typed array would not. */
export function assertWithin({ frontends, backends }: ProxyPlan): void {
  if (backends.length > BACKENDS) throw new RangeError(noRoom('backend', BACKENDS));
  const backendNames = new Set(backends.map(({ name }) => name));
  for (const { index, backend } of frontends) {
    if (!isRow(index, FRONTENDS)) throw new RangeError(`frontend ${index}: ${noRoom('frontend', FRONTENDS)}`);
    if (!backendNames.has(backend)) throw new RangeError(`no backend ${backend}`);
  }
  for (const { choice, servers } of backends) {
    const indexes = new Set(servers.map(({ index }) => index));
    for (const index of indexes) if (!isRow(index, SERVERS)) throw new RangeError(`server ${index}: ${noRoom('server', SERVERS)}`);
    for (const { index } of choice.candidates) if (!indexes.has(index)) throw new RangeError(`no server ${index}`);
  }
}

function isRow(index: number, rows: number): boolean {
  return Number.isInteger(index) && index >= 0 && index < rows;
}
