import { isAny } from '../config/address.ts';
import { isPacketMode, isWrapped } from '../config/modes.ts';
import { type Finding, fail, type Host, ok, warn } from './finding.ts';

/** Every address that is listened on, or that servers see, stands on an interface that is up; what servers on this host mean for the mode. */
export function addresses(host: Host): Finding[] {
  return [...vips(host), ...sources(host), ...servers(host)];
}

function vips(host: Host): Finding[] {
  const listened = host.config.frontends.filter(({ listen }) => !isAny(listen));
  // Routers bring what is for these, so no link has their network.
  const routed = listened
    .filter(({ backend }) => backend.glb !== undefined || isWrapped(host.mode, backend))
    .map(({ listen }) => listen.ip);
  return [...new Set(listened.map(({ listen }) => listen.ip))].map((vip) => {
    return address('VIP', vip, 'clients', host, routed.includes(vip) ? `ip address add ${vip}/32 dev lo` : undefined);
  });
}

/** What connections to servers leave from in place of the VIP. */
function sources(host: Host): Finding[] {
  const named = host.config.backends.flatMap(({ sourceAddrs, tunnel }) => [
    ...sourceAddrs,
    ...(tunnel?.source === undefined ? [] : [tunnel.source]),
  ]);
  return [...new Set(named)].map((source) => address('source address', source, 'servers', host));
}

/** @param peers who reach it @param mend what adds it; left out: to some device */
function address(check: string, ip: string, peers: string, { links, own }: Host, mend = `ip address add ${ip}/PREFIX dev DEVICE`): Finding {
  const name = own.get(ip);
  if (name === undefined)
    return ip.startsWith('127.') ? ok(check, `${ip} is on lo`) : fail(check, `${ip} is not an address of this host`, mend);
  const link = links.find((link) => link.name === name);
  if (link?.up === false) return fail(check, `${ip} is on ${name}, which is down`, `ip link set ${name} up`);
  if (link?.carrier === false)
    return warn(
      check,
      `${ip} is on ${name}, which is up but has no carrier: its cable, its other end or its ports are missing or down, ` +
        `and ${peers} reach it by another interface only`,
      `ip -d link show ${name}`,
    );
  return ok(check, `${ip} is on ${name}`);
}

/** The kernel delivers what is sent to an own address by itself: lb4 never sees the answers, unless it ends the connections. */
function servers({ mode, config, paths }: Host): Finding[] {
  return paths
    .filter(({ local }) => local)
    .map(({ address, port }) =>
      isPacketMode(mode)
        ? fail(
            'server',
            `${address}:${port} is an address of this host, whose packets no packet mode can balance`,
            `move that server to another host, then change its addr in ${config.file}`,
          )
        : ok('server', `${address}:${port} is on this host`),
    );
}
