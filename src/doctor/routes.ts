import { type Finding, fail, type Host, ok } from './finding.ts';
import type { ServerPath } from './network.ts';
import { NOWHERE } from './ways.ts';

/** The way to every server: a route, and a neighbour that answers. */
export function routes(host: Host): Finding[] {
  const linkLocal = host.mode === 'dsr' ? layerTwoServers(host) : new Set<string>();
  return host.paths.filter(({ local }) => !local).map((path) => routeTo(path, linkLocal.has(path.address)));
}

function layerTwoServers({ config }: Host): Set<string> {
  return new Set(config.backends.filter(({ dsr }) => dsr === 'l2').flatMap(({ servers }) => servers.map(({ addr }) => addr.ip)));
}

function routeTo({ address, kind, link, neighbour, resolved }: ServerPath, mustBeOnLink: boolean): Finding {
  if (link === undefined && kind === 'none')
    return fail('route', `there is none to server ${address}`, `ip route add ${address} via GATEWAY`);
  if (link === undefined) return fail('route', `server ${address}: ${NOWHERE[kind] ?? kind}`, `ip route get ${address}`);
  const way = neighbour === address ? `on ${link}` : `by ${neighbour} on ${link}`;
  if (mustBeOnLink && neighbour !== address)
    return fail(
      'route',
      `server ${address} is reached ${way}; dsr = "l2" needs it on the same link`,
      `ip address add ADDRESS/PREFIX dev ${link}`,
    );
  if (resolved === false)
    return fail(
      'route',
      `server ${address} is reached ${way}, but nobody there answers to ${neighbour}`,
      `ping -c 1 ${neighbour}; ip neigh show ${neighbour}`,
    );
  return ok('route', `server ${address} is reached ${way}`);
}
