import { type Finding, fail, type Host, ok } from './finding.ts';

/** Every VIP stands on an interface that is up; no server is this host. */
export function addresses(host: Host): Finding[] {
  return [...vips(host), ...servers(host)];
}

function vips({ config, links, own }: Host): Finding[] {
  return [...new Set(config.frontends.map(({ listen }) => listen.ip))].map((vip) => {
    const name = own.get(vip);
    if (name === undefined) return fail('VIP', `${vip} is not an address of this host`, `ip address add ${vip}/PREFIX dev DEVICE`);
    const up = links.find((link) => link.name === name)?.up ?? true;
    return up ? ok('VIP', `${vip} is on ${name}`) : fail('VIP', `${vip} is on ${name}, which is down`, `ip link set ${name} up`);
  });
}

/** The kernel delivers what is sent to an own address by itself: lb4 never sees the answers. */
function servers({ config, paths }: Host): Finding[] {
  return paths
    .filter(({ local }) => local)
    .map(({ address, port }) =>
      fail(
        'server',
        `${address}:${port} is an address of this host, whose packets no packet mode can balance`,
        `move that server to another host, then change its addr in ${config.file}`,
      ),
    );
}
