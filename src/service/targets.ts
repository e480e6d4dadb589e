/** Which servers are checked, and from where. */
import type { Config } from '../config/model.ts';
import type { Target } from '../health/check.ts';
import { targetFor } from '../health/targets.ts';
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
    const sendProxy = mode === 'proxy' ? backend.sendProxy : undefined;
    return backend.servers.map((server) => targetFor(serverKey(backend, server), backend, server, { sourceAddress, sendProxy }));
  });
}
