import { isAny } from '../config/address.ts';
import { isPacketMode } from '../config/modes.ts';
import { type Finding, fail, type Host, ok, warn } from './finding.ts';

/** Every address that is listened on stands on an interface that is up; what servers on this host mean for the mode. */
export function addresses(host: Host): Finding[] {
  return [...vips(host), ...servers(host)];
}

function vips({ config, links, own }: Host): Finding[] {
  const listened = config.frontends.map(({ listen }) => listen).filter((listen) => !isAny(listen));
  return [...new Set(listened.map(({ ip }) => ip))].map((vip) => {
    const name = own.get(vip);
    if (name === undefined)
      return vip.startsWith('127.')
        ? ok('VIP', `${vip} is on lo`)
        : fail('VIP', `${vip} is not an address of this host`, `ip address add ${vip}/PREFIX dev DEVICE`);
    const link = links.find((link) => link.name === name);
    if (link?.up === false) return fail('VIP', `${vip} is on ${name}, which is down`, `ip link set ${name} up`);
    if (link?.carrier === false)
      return warn(
        'VIP',
        `${vip} is on ${name}, which is up but has no carrier: its cable, its other end or its ports are missing or down, ` +
          'and clients reach it by another interface only',
        `ip -d link show ${name}`,
      );
    return ok('VIP', `${vip} is on ${name}`);
  });
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
