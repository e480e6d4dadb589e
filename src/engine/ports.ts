/**
 * How far a server's source ports are used up. Servers on one address, port and protocol (in several backends) share their pools, so
 * what each of them holds is added up.
 */
import { modes } from '../forward/modes.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import { sourcesOf } from '../forward/sources.ts';
import { PORTS, serverRow } from '../layout/counters.ts';
import { CLIENT_PORTS, portCount } from '../layout/ports.ts';
import type { Counts } from './counts.ts';

export interface Ports {
  /** In use, those in TIME_WAIT included. */
  readonly ports: number;
  /** There are so many: 27,233 for each source address, which workers have shared out; 0 where the mode needs none. */
  readonly portCapacity: number;
}

/** Of one address, port and protocol: the servers there are, and the addresses that they are reached from. */
interface SharedPorts {
  readonly servers: number[];
  readonly sources: Set<number>;
}

/** Which servers share their ports with which. */
export class PortUse {
  readonly #counts: Counts;
  #byServer = new Map<number, SharedPorts>();

  constructor(counts: Counts) {
    this.#counts = counts;
  }

  apply({ frontends, backends }: ServiceSet): void {
    const byEndpoint = new Map<string, SharedPorts>();
    this.#byServer = new Map();
    for (const { name, servers, sources = [] } of backends.filter(({ mode }) => modes[mode].source === 'pool')) {
      const own = frontends.filter(({ backend }) => backend === name);
      const from = new Set(own.flatMap(({ address }) => sourcesOf(address, { sources })));
      for (const { index, address, port, protocol } of servers) {
        const key = `${address} ${port} ${protocol}`;
        const shared = byEndpoint.get(key) ?? { servers: [], sources: new Set() };
        byEndpoint.set(key, shared);
        shared.servers.push(index);
        for (const source of from) shared.sources.add(source);
        this.#byServer.set(index, shared);
      }
    }
  }

  /** Of a server, by index. */
  of(index: number): Ports {
    const { servers, sources } = this.#byServer.get(index) ?? { servers: [], sources: new Set() };
    return {
      ports: servers.reduce((sum, server) => sum + this.#counts.statistic(serverRow(server) + PORTS), 0),
      portCapacity: sources.size * portCount(CLIENT_PORTS),
    };
  }
}
