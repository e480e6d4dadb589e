/** Which servers are checked, how, and from where. */
import type { Backend, Config, HealthCheck, Server } from '../config/model.ts';
import type { Target } from '../health/check.ts';
import { type ModeName, serverKey } from './plan.ts';

/** A health check for every server of a backend that a frontend uses. */
export function targetsOf(config: Config, mode: ModeName): Target[] {
  return config.backends.flatMap((backend) => {
    const frontend = config.frontends.find((one) => one.backend === backend);
    if (frontend === undefined) return [];
    // Packet modes check from the frontend's address, as clients' connections come. But where servers hold it themselves (L2
    // DSR) they would answer to themselves.
    const isPlain = mode === 'proxy' || (mode === 'dsr' && backend.dsr === 'l2');
    const sourceAddress = isPlain ? undefined : frontend.listen.ip;
    return backend.servers.map((server) => target(backend, server, sourceAddress));
  });
}

function target(backend: Backend, server: Server, sourceAddress: string | undefined): Target {
  const { intervalMs, timeoutMs, rise, fall, jitter } = backend.healthCheck;
  return {
    id: serverKey(backend, server),
    address: server.addr.ip,
    port: server.addr.port,
    sourceAddress,
    intervalMs,
    timeoutMs,
    rise,
    fall,
    jitter,
    check: checkOf(backend.healthCheck, backend, server),
  };
}

function checkOf({ type, http, command }: HealthCheck, backend: Backend, server: Server): Target['check'] {
  switch (type) {
    case 'tcp':
      return { type };
    case 'http':
      return { type, path: http.path, status: http.status, host: http.host ?? server.addr.text };
    case 'exec': {
      const { ip, port } = server.addr;
      const env = { LB4_SERVER_ADDR: ip, LB4_SERVER_PORT: `${port}`, LB4_BACKEND: backend.name, LB4_SERVER: server.name };
      return { type, command, env };
    }
  }
}
