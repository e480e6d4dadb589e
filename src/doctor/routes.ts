import { holdsVip, sharesLink } from '../config/modes.ts';
import { type Finding, fail, type Host, ok } from './finding.ts';
import type { ServerPath } from './network.ts';
import { NOWHERE } from './ways.ts';

/** The way to every server: a route, a link with carrier, a neighbour that answers; with `dsr = "l2"` an address to check from. */
export function routes(host: Host): Finding[] {
  const linkLocal = layerTwoServers(host);
  const ways = host.paths.filter(({ local }) => !local).map((path) => routeTo(host, path, linkLocal.has(path.address)));
  return [...ways, ...checkSources(host)];
}

function layerTwoServers({ config, mode }: Host): Set<string> {
  const backends = config.backends.filter((backend) => sharesLink(mode, backend));
  return new Set(backends.flatMap(({ servers }) => servers.map(({ addr }) => addr.ip)));
}

function routeTo({ links }: Host, { address, kind, link, neighbour, resolved }: ServerPath, mustBeOnLink: boolean): Finding {
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
  if (links.find(({ name }) => name === link)?.carrier === false)
    return fail(
      'route',
      `server ${address} is reached ${way}, which has no carrier: its cable, its other end or its ports are missing or down`,
      `ip -d link show ${link}`,
    );
  if (resolved === false)
    return fail(
      'route',
      `server ${address} is reached ${way}, but nobody there answers to ${neighbour}`,
      `ping -c 1 ${neighbour}; ip neigh show ${neighbour}`,
    );
  return ok('route', `server ${address} is reached ${way}`);
}

/** Servers of `dsr = "l2"`, and those that unwrap packets, hold the VIP, too, and would answer a check from it to themselves: this host needs a second address. */
function checkSources(host: Host): Finding[] {
  const vips = new Set(host.config.frontends.map(({ listen }) => listen.ip));
  const { config, mode } = host;
  const holding = config.backends.filter((backend) => holdsVip(mode, backend));
  return holding.flatMap(({ name, dsr, servers }) => {
    const own = host.paths.filter(({ address, link }) => link !== undefined && servers.some(({ addr }) => addr.ip === address));
    const wrong = own.find(({ source }) => vips.has(source));
    if (wrong === undefined) return own.slice(0, 1).map(({ source }) => ok('check source', `backend ${name} is checked from ${source}`));
    const { address, link, source } = wrong;
    return [
      fail(
        'check source',
        `backend ${name}: this host would check server ${address} from ${source}, a frontend's address, which with dsr = "${dsr}" the server ` +
          'holds, too: it answers itself. A second address is needed on that link',
        `ip address add ADDRESS/PREFIX dev ${link} && ip route replace ${address} dev ${link} src ADDRESS`,
      ),
    ];
  });
}
