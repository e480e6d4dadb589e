/** Which servers are checked, and from where. */
import { addressOf, joinPort } from '../config/address.ts';
import type { Backend, Config, Frontend, Server } from '../config/model.ts';
import { fansOut, holdsVip, isPacketMode, MODES, type Mode, rewritesAnswers } from '../config/modes.ts';
import { sourcesOf } from '../config/sources.ts';
import { endpointOf, type Target } from '../health/check.ts';
import { targetFor } from '../health/targets.ts';
import { CHECK_ADDRESS } from '../rules/types.ts';
import { checkKey, type Members } from './members.ts';

/** What has left the file. */
interface Leaving {
  readonly frontends: readonly Frontend[];
  /** With the servers that have left alone. */
  readonly backends: readonly Backend[];
}

/**
 * Who has left the file and is to be checked all the same: servers of datagrams. Nobody notices that one of them is gone: its clients' flows
 * would go on for as long as they send, into nothing.
 */
export function leavingOf({ frontends, servers }: Members): Leaving {
  const left = servers.entries().filter(({ leaving, item }) => leaving && item.backend.udpFailover === true);
  return {
    frontends: frontends.entries().flatMap(({ leaving, item }) => (leaving ? [item] : [])),
    backends: left.map(({ item: { backend, server } }) => ({ ...backend, servers: [server] })),
  };
}

/** A process of this host, where it answers only if it listens at all addresses. */
function atAll(server: Server): Server {
  const { ip, family, port } = server.addr;
  return { ...server, addr: addressOf(joinPort(family === 4 ? CHECK_ADDRESS : ip, port)) };
}

/**
 * DSR: the frontend's address that answers of a server leave from (dsr = "nat"), by `IP:PORT` of the server. What goes to that address alone stays as it is: so
 * from there such a server is checked for backends, too, that would check it from elsewhere.
 */
function rewrittenIn({ backends, frontends }: Config, mode: Mode): ReadonlyMap<string, string> {
  return new Map(
    backends
      .filter((backend) => rewritesAnswers(mode, backend))
      .flatMap(({ name, servers }) => {
        const vip = frontends.find(({ backend }) => backend.name === name)?.listen.ip;
        return vip === undefined ? [] : servers.map(({ addr }) => [joinPort(addr.ip, addr.port), vip] as const);
      }),
  );
}

/** A health check for every server of a backend that a frontend uses, but for those that are not to be checked. */
export function targetsOf(config: Config, mode: Mode, leaving: Leaving = { frontends: [], backends: [] }): Target[] {
  const all = [...config.frontends, ...leaving.frontends];
  const rewritten = rewrittenIn(config, mode);
  const targets = [...config.backends, ...leaving.backends].flatMap((backend, i) => {
    const known = i < config.backends.length ? config.frontends : all;
    const frontends = known.filter((one) => one.backend.name === backend.name);
    if (frontends.length === 0) return [];
    // Packet modes check from where clients' connections come. But where servers hold it themselves (L2
    // DSR) they would answer to themselves, and between interfaces this host has none of them.
    const isFromVip = isPacketMode(mode) && MODES[mode].ownsAddresses && !holdsVip(mode, backend);
    const sources = isFromVip ? [...new Set(frontends.flatMap(sourcesOf))] : undefined;
    const sendProxy = isPacketMode(mode) ? undefined : backend.sendProxy;
    return backend.servers.flatMap((server) => {
      const vip = rewritten.get(joinPort(server.addr.ip, backend.healthCheck.port ?? server.addr.port));
      const [sourceAddress, ...otherSources] = sources ?? (vip === undefined ? [] : [vip]);
      const reach = { sourceAddress, otherSources, sendProxy };
      const key = checkKey(backend, server);
      if (!fansOut(mode)) return targetFor(key, backend, server, reach) ?? [];
      const target = targetFor(key, backend, atAll(server), reach);
      if (target?.address !== CHECK_ADDRESS) return target ?? [];
      return { ...target, asked: `at ${endpointOf(target)}, where only who listens at all addresses answers` };
    });
  });
  // Protocols of a backend that are checked alike have one check, the first one's.
  return [...new Map(targets.toReversed().map((target) => [target.id, target])).values()].toReversed();
}
