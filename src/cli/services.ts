/** From a configuration and the servers' health to what the packet core is told. */
import { eligible } from '../balance/eligible.ts';
import { type Choice, prepare } from '../balance/index.ts';
import type { Backend, Config, Server } from '../config/model.ts';
import type { Settings } from '../engine/engine.ts';
import { parseAddress } from '../packet/address.ts';
import { Indexes } from './indexes.ts';

/** Names a server within a configuration. */
export function serverId(backend: Backend, server: Server): string {
  return `${backend.name} / ${server.name}`;
}

/** The indexes by which the engine counts; one object for the life of the process. */
export class ServiceIndexes {
  readonly frontends = new Indexes();
  readonly servers = new Indexes();
  /** The last choice of each backend. */
  readonly choices = new Map<string, Choice>();
}

/** How backends are forwarded: the command line's choice. */
export type PacketMode = 'passthrough' | 'dsr';

/** How one backend is forwarded in that mode. */
export function forwardingOf(mode: PacketMode, backend: Backend): PacketMode | 'dsrL2' {
  return mode === 'dsr' && backend.dsr === 'l2' ? 'dsrL2' : mode;
}

/** @param isUp whether a server, by its id, may get connections as far as its health goes */
export function settingsOf(config: Config, mode: PacketMode, indexes: ServiceIndexes, isUp: (id: string) => boolean): Settings {
  const { timeouts } = config.passthrough;
  return {
    services: {
      frontends: config.frontends.map(({ name, listen, backend, maxconn }) => ({
        index: indexes.frontends.of(name),
        address: parseAddress(listen.ip),
        port: listen.port,
        backend: backend.name,
        maxconn,
        draining: false,
      })),
      backends: config.backends.map((backend) => ({
        name: backend.name,
        mode: forwardingOf(mode, backend),
        choice: choiceOf(backend, indexes, isUp),
        servers: backend.servers.map((server) => ({
          index: indexes.servers.of(serverId(backend, server)),
          address: parseAddress(server.addr.ip),
          port: server.addr.port,
        })),
      })),
    },
    timeouts: {
      syn: timeouts.synMs,
      established: timeouts.establishedMs,
      fin: timeouts.finMs,
      timeWait: timeouts.timeWaitMs,
      closed: timeouts.closedMs,
    },
  };
}

function choiceOf(backend: Backend, indexes: ServiceIndexes, isUp: (id: string) => boolean): Choice {
  const standing = backend.servers.map((server) => ({ ...server, up: isUp(serverId(backend, server)) }));
  const candidates = eligible(standing).map((server) => ({
    name: `${server.addr.ip}:${server.addr.port}`,
    weight: server.weight,
    index: indexes.servers.of(serverId(backend, server)),
    maxconn: server.maxconn,
  }));
  const choice = prepare(backend.balance ?? 'maglev', candidates, indexes.choices.get(backend.name));
  indexes.choices.set(backend.name, choice);
  return choice;
}
