/** [fan_out] in the model: as it is, and as the frontends and backends of a running lb4, whose servers are the processes. */
import { joinPort } from '../address.ts';
import type { FanOut } from '../model.ts';
import { backend } from './backend.ts';
import { listensAt } from './fan-out.ts';
import { type FileConfig, frontend } from './file.ts';
import { transportOf } from './services.ts';

type FanOutKeys = NonNullable<FileConfig['fan_out']>;

export function resolveFanOuts(tables: FanOutKeys): FanOut[] {
  return Object.entries(tables).map(([name, { listen, ports, balance, local, protocol }]) => {
    return { name, listen: listensAt(listen), ports: portsOf(ports), balance, local, protocol: transportOf(protocol) };
  });
}

/** As if the file had said so: a server a process, by its port, at the loopback. */
export function fanOutServices(tables: FanOutKeys = {}): Pick<FileConfig, 'frontends' | 'backends'> {
  const all = Object.entries(tables);
  return {
    frontends: Object.fromEntries(
      all.map(([name, { listen, protocol }]) => [
        name,
        frontend.parse({ listen_addr: listensAt(listen)[0]?.text, protocol, backend: name }),
      ]),
    ),
    backends: Object.fromEntries(all.map(([name, table]) => [name, backendOf(table)])),
  };
}

/** Of the keys that both have, the values; a backend takes no others. */
function backendOf({ listen, ports, ...keys }: FanOutKeys[string]): FileConfig['backends'][string] {
  const loopback = listensAt(listen).some(({ family }) => family === 4) ? '127.0.0.1' : '::1';
  const servers = portsOf(ports).map(({ port, weight }) => [String(port), { addr: joinPort(loopback, port), weight }]);
  return backend.parse({ ...keys, servers: Object.fromEntries(servers) });
}

function portsOf(ports: FanOutKeys[string]['ports']): FanOut['ports'] {
  if (Array.isArray(ports)) return ports.map((port) => ({ port, weight: 1 }));
  return Object.entries(ports).map(([port, weight]) => ({ port: Number(port), weight }));
}
