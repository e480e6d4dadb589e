/** Which servers are checked, and from where. */
import type { Config } from '../config/model.ts';
import { holdsVip, isPacketMode, MODES, type Mode } from '../config/modes.ts';
import { sourcesOf } from '../config/sources.ts';
import type { Target } from '../health/check.ts';
import { targetFor } from '../health/targets.ts';
import { checkKey } from './members.ts';

/** A health check for every server of a backend that a frontend uses, but for those that are not to be checked. */
export function targetsOf(config: Config, mode: Mode): Target[] {
  const targets = config.backends.flatMap((backend) => {
    const frontends = config.frontends.filter((one) => one.backend === backend);
    if (frontends.length === 0) return [];
    // Packet modes check from where clients' connections come. But where servers hold it themselves (L2
    // DSR) they would answer to themselves, and between interfaces this host has none of them.
    const isFromVip = isPacketMode(mode) && MODES[mode].ownsAddresses && !holdsVip(mode, backend);
    const sources = isFromVip ? new Set(frontends.flatMap(sourcesOf)) : [];
    const [sourceAddress, ...otherSources] = sources;
    const sendProxy = isPacketMode(mode) ? undefined : backend.sendProxy;
    const reach = { sourceAddress, otherSources, sendProxy };
    return backend.servers.flatMap((server) => targetFor(checkKey(backend, server), backend, server, reach) ?? []);
  });
  // Protocols of a backend that are checked alike have one check, the first one's.
  return [...new Map(targets.toReversed().map((target) => [target.id, target])).values()].toReversed();
}
