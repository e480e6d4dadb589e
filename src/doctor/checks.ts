/** Health checks that see less than they seem to. */
import { type Finding, type Host, warn } from './finding.ts';

/**
 * A datagram that nobody answers passes, unless something says that nobody is there: ARP does where the server is on a link of this
 * host's, and behind a router nothing.
 */
export function checks({ config, paths }: Host): Finding[] {
  const routed = new Set(paths.filter(({ address, neighbour, local }) => !local && neighbour !== address).map(({ address }) => address));
  const silent = config.backends.filter(
    ({ healthCheck: { type, also, udp } }) => type === 'udp' && also === undefined && udp.expect === undefined,
  );
  return silent.flatMap(({ name, label = name, servers }) => {
    const far = servers.filter(({ addr }) => routed.has(addr.ip));
    if (far.length === 0) return [];
    const which = far.length === 1 ? `server ${far[0]?.addr.ip} is` : `${far.length} servers, ${far[0]?.addr.ip} for one, are`;
    const message = `backend ${label}: ${which} behind a router, and its health check passes by silence: a host there that is off seems well`;
    return [
      warn(
        'health check',
        message,
        'health_check_send and health_check_expect, or a check of another kind (health_check, health_check_port)',
      ),
    ];
  });
}
