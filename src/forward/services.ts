/**
 * What is balanced over what, as the worker uses it. The main thread sends a whole `ServiceSet` whenever anything
 * changes (a file, a health check); applying the same set twice changes nothing. Indexes are given by the main thread
 * and stay with a name, so that counters and flows survive a change.
 */
import { type Candidate, consistent, type Scheduler, type SchedulerName, schedulers } from '../balance/index.ts';
import { PortPool } from '../flow/port-pool.ts';
import { formatAddress } from '../packet/address.ts';
import { EndpointMap } from './endpoints.ts';
import type { Mode } from './mode.ts';
import { type ModeName, modes } from './modes.ts';

/** Plain data: it crosses threads. Addresses in native order, ports in host order. */
export interface ServiceSet {
  readonly frontends: readonly {
    readonly index: number;
    readonly address: number;
    readonly port: number;
    readonly backend: string;
  }[];
  readonly backends: readonly {
    readonly name: string;
    readonly scheduler: SchedulerName;
    readonly mode: ModeName;
    readonly servers: readonly ServerEntry[];
  }[];
}

export interface ServerEntry {
  readonly index: number;
  readonly address: number;
  readonly port: number;
  readonly weight: number;
  /** False while its health check fails: no new connections. */
  readonly up: boolean;
}

/** A frontend with everything that a new connection asks of it. */
export interface Frontend {
  readonly index: number;
  readonly address: number;
  readonly port: number;
  /** Undefined while no server may be chosen. */
  readonly scheduler: Scheduler | undefined;
  /** The scheduler's candidates, in its order, and the index of the port pool of each. */
  readonly servers: readonly ServerEntry[];
  readonly pools: readonly number[];
  readonly mode: Mode;
  /** One direction passes lb4, and any balancer with these servers would choose alike: unknown segments may go by the hash. */
  readonly adopts: boolean;
}

/** Room for that many of each: indexes are 16 bits in a flow entry and rows in the counters. */
export const MAX_FRONTENDS = 1024;
export const MAX_SERVERS = 4096;

export class Services {
  /** Every port pool that was ever needed; flows name theirs by index, so none is ever taken away. */
  readonly pools: PortPool[] = [];
  private readonly poolIndex = new Map<string, number>();
  private readonly chosen = new Uint8Array(MAX_SERVERS);
  private frontends: Frontend[] = [];
  private byEndpoint = new EndpointMap([]);
  private servers = new EndpointMap([]);
  private addresses = new EndpointMap([]);
  private readonly schedulerOf = new Map<string, { key: string; scheduler: Scheduler }>();

  /** Replaces the whole set. */
  apply(set: ServiceSet): void {
    this.chosen.fill(0);
    const eligible = new Map<string, readonly ServerEntry[]>();
    for (const backend of set.backends) {
      const servers = backend.servers.filter((server) => server.up && server.weight > 0);
      for (const server of servers) this.chosen[server.index] = 1;
      eligible.set(backend.name, servers);
      this.schedule(backend.name, backend.scheduler, servers);
    }
    this.frontends = [];
    const backends = new Map(set.backends.map((backend) => [backend.name, backend]));
    for (const { index, address, port, backend } of set.frontends) {
      const servers = eligible.get(backend) ?? [];
      const { mode, scheduler: name } = backends.get(backend) ?? { mode: 'passthrough', scheduler: 'roundrobin' };
      const pools = mode === 'passthrough' ? servers.map((server) => this.pool(address, server)) : [];
      const scheduler = servers.length > 0 ? this.schedulerOf.get(backend)?.scheduler : undefined;
      const adopts = mode !== 'passthrough' && consistent.has(name);
      this.frontends[index] = { index, address, port, scheduler, servers, pools, mode: modes[mode], adopts };
    }
    this.byEndpoint = new EndpointMap(set.frontends);
    // Only with full NAT do replies come back here, and then to a frontend's address.
    this.servers = new EndpointMap(set.backends.filter(({ mode }) => mode === 'passthrough').flatMap((backend) => backend.servers));
    this.addresses = new EndpointMap(set.frontends.map(({ address, index }) => ({ address, port: 0, index })));
  }

  /** The frontend that listens there, or undefined. */
  frontendAt(address: number, port: number): Frontend | undefined {
    const index = this.byEndpoint.find(address, port);
    return index < 0 ? undefined : this.frontends[index];
  }

  /** Whether a packet from (`source`, `port`) to `destination` can be a reply of one of our servers. */
  isReply(source: number, port: number, destination: number): boolean {
    return this.servers.find(source, port) >= 0 && this.addresses.find(destination, 0) >= 0;
  }

  /** Whether a server may get new connections, by index. */
  isEligible(server: number): boolean {
    return this.chosen[server] === 1;
  }

  /** A scheduler keeps its state (and Maglev its table) while its candidates stay the same. */
  private schedule(backend: string, name: SchedulerName, servers: readonly ServerEntry[]): void {
    const candidates: Candidate[] = servers.map((server) => ({
      name: `${formatAddress(server.address)}:${server.port}`,
      weight: server.weight,
    }));
    const key = JSON.stringify([name, candidates]);
    if (servers.length === 0 || this.schedulerOf.get(backend)?.key === key) return;
    this.schedulerOf.set(backend, { key, scheduler: schedulers[name](candidates) });
  }

  /** One pool for each (source address, server address and port), whichever frontends and backends share them. */
  private pool(source: number, server: ServerEntry): number {
    const key = `${source} ${server.address} ${server.port}`;
    let index = this.poolIndex.get(key);
    if (index === undefined) {
      index = this.pools.push(new PortPool()) - 1;
      this.poolIndex.set(key, index);
    }
    return index;
  }
}
