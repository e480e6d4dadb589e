/** Servers that are the balancer itself: told by file and line instead of a loop, or of `ready` and then silence. */
import { expect, test } from 'vitest';
import { configuration, LB4, launch, type Settings, writeConfiguration } from '../lab/balancer.ts';
import { Topology, VIP } from '../lab/topology.ts';

const over = (listen: string, ...servers: string[]): Settings => ({ frontends: { http: { listen, servers } } });

const REFUSED: readonly (readonly [listen: string, server: string, mode: 'proxy' | '--passthrough' | '--dsr', says: RegExp])[] = [
  ['0.0.0.0:80', '10.72.0.1:80', 'proxy', /leads back to frontend "http", line 2/],
  ['0.0.0.0:80', '127.0.0.9:80', 'proxy', /leads back to frontend "http", line 2/],
  ['[::]:80', '[fd71::1]:80', 'proxy', /leads back to frontend "http", line 2/],
  [`${VIP}:80`, `${VIP}:80`, '--passthrough', /leads back to frontend "http", line 2/],
  [`${VIP}:80`, '127.0.0.1:80', '--passthrough', /is an address of this host, whose packets no packet mode can balance/],
  [`${VIP}:80`, '10.72.0.1:8080', '--passthrough', /is an address of this host, whose packets no packet mode can balance/],
  // An address of an interface that is down is one, too, and so is a range that a route makes local.
  [`${VIP}:80`, '10.79.0.1:80', '--dsr', /is an address of this host, whose packets no packet mode can balance/],
  [`${VIP}:80`, '10.78.0.200:80', '--dsr', /is an address of this host, whose packets no packet mode can balance/],
  ['0.0.0.0:80', '10.72.0.11:80', '--passthrough', /stands for every address; needed with --passthrough/],
];

/** A start takes longer than a check, and asks the same. */
const startsOf = new Set(['10.72.0.1:80', '10.72.0.1:8080', '10.78.0.200:80']);

test('what cannot work is refused, by `check` and at the start, with the line', async () => {
  await using lab = new Topology({ servers: 1 });
  lab.balancer.ip('addr', 'add', 'fd71::1/64', 'dev', 'front', 'nodad');
  lab.balancer.ip('link', 'add', 'spare', 'type', 'veth', 'peer', 'name', 'other');
  lab.balancer.ip('addr', 'add', '10.79.0.1/24', 'dev', 'spare');
  lab.balancer.ip('route', 'add', 'local', '10.78.0.0/24', 'dev', 'lo');
  const refused = async ([listen, server, mode, says]: (typeof REFUSED)[number]) => {
    const toml = configuration(over(listen, server));
    const where = says.source.startsWith('stands')
      ? /:2:\d+: frontends\.http\.listen_addr: /
      : /:\d+:\d+: backends\.http-out\.servers\.s1\.addr: /;
    const file = writeConfiguration(lab.balancer, toml);
    const { code, stderr } = await lab.balancer.run(LB4, 'check', ...(mode === 'proxy' ? [] : [mode]), file);
    expect({ code, stderr }, `${listen} ${server}`).toEqual({ code: 78, stderr: expect.stringMatching(says) as string });
    expect(stderr).toMatch(where);
    if (!startsOf.has(server)) return;
    const running = launch(lab.balancer, toml, ...(mode === '--passthrough' ? [] : [mode]));
    expect(await running.exited, `${listen} ${server}`).toEqual({ code: 78, signal: null });
    expect(running.lines.join('\n')).toMatch(says);
  };
  await Promise.all(REFUSED.map(refused));
});
