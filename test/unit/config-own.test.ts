/** Servers that are the balancer itself: what loops by one health check is refused, and what no packet mode can balance. */
import { describe, expect, it, test } from 'vitest';
import type { Address } from '../../src/config/address.ts';
import { parseConfig } from '../../src/config/load.ts';
import type { Mode } from '../../src/config/modes.ts';
import { linesOf } from '../lab/config-lines.ts';

const OWN = new Set(['192.0.2.1', '192.0.2.10', '2001:db8::1', '127.0.0.1', '127.9.9.9', '::1']);

/** Every line about a file in which each frontend has a backend of its own: [listen_addr, the servers' addr]. */
function linesFor(
  frontends: readonly (readonly [string, ...string[]])[],
  mode?: Mode,
  own: ReadonlySet<string> | undefined = OWN,
): string[] {
  const toml = frontends.map(([listen, ...servers], i) => {
    const table = servers.map((addr, j) => `s${j}.addr="${addr}"`).join('\n');
    return `frontends.f${i}={listen_addr="${listen}",backend="b${i}"}\n[backends.b${i}.servers]\n${table}\n[]\n`.replace('[]\n', '');
  });
  // Dotted keys first: a table header would swallow what follows it.
  const text = [...toml.map((part) => part.split('\n')[0]), ...toml.map((part) => part.split('\n').slice(1).join('\n'))].join('\n');
  const isOwn = own && (({ ip }: Pick<Address, 'ip'>) => own.has(ip));
  return linesOf(() => parseConfig(text, 'f', { mode, isOwn }));
}

const LOOPS: readonly (readonly [name: string, frontends: Parameters<typeof linesFor>[0], server: string, back: string])[] = [
  ['the very same', [['192.0.2.1:80', '192.0.2.1:80']], 'b0.servers.s0', 'f0'],
  ['one of several servers', [['192.0.2.1:80', '192.0.2.7:80', '192.0.2.1:80']], 'b0.servers.s1', 'f0'],
  ['the very same, on another host', [['198.51.100.1:80', '198.51.100.1:80']], 'b0.servers.s0', 'f0'],
  ['the very same, IPv6, written otherwise', [['[2001:db8::1]:80', '[2001:DB8:0::1]:80']], 'b0.servers.s0', 'f0'],
  ['every address and an own one', [['0.0.0.0:80', '192.0.2.1:80']], 'b0.servers.s0', 'f0'],
  ['every address and 127.0.0.1', [['0.0.0.0:80', '127.0.0.1:80']], 'b0.servers.s0', 'f0'],
  ['every address and another of 127.0.0.0/8', [['0.0.0.0:80', '127.200.0.3:80']], 'b0.servers.s0', 'f0'],
  ['every IPv6 address and ::1', [['[::]:80', '[::1]:80']], 'b0.servers.s0', 'f0'],
  ['every IPv6 address and an own one', [['[::]:80', '[2001:db8::1]:80']], 'b0.servers.s0', 'f0'],
  [
    'two that lead to one another',
    [
      ['192.0.2.1:80', '192.0.2.1:81'],
      ['192.0.2.1:81', '192.0.2.1:80'],
    ],
    'b1.servers.s0',
    'f0',
  ],
  [
    'a chain of three, every address among them',
    [
      ['0.0.0.0:80', '192.0.2.1:81'],
      ['192.0.2.1:81', '127.0.0.1:82'],
      ['0.0.0.0:82', '192.0.2.10:80'],
    ],
    'b2.servers.s0',
    'f0',
  ],
];

describe('a frontend that comes back to itself', () => {
  it.each(LOOPS)('%s', (_name, frontends, server, back) => {
    const line = expect.stringMatching(
      `^f:\\d+:\\d+: backends.${server}.addr: ".*" leads back to frontend "${back}", line \\d+: `,
    ) as string;
    for (const mode of [undefined, 'proxy'] as const) expect(linesFor(frontends, mode)).toEqual([line]);
  });

  it.each<[string, Parameters<typeof linesFor>[0]]>([
    ['another port', [['0.0.0.0:80', '127.0.0.1:8080']]],
    ['another host', [['0.0.0.0:80', '192.0.2.7:80']]],
    ['the other family', [['0.0.0.0:80', '[::1]:80']]],
    ['an own address that is not listened on', [['192.0.2.1:80', '127.0.0.1:80', '192.0.2.10:80']]],
    [
      'a chain that ends',
      [
        ['192.0.2.1:80', '192.0.2.1:81'],
        ['192.0.2.1:81', '192.0.2.7:80'],
      ],
    ],
    [
      'two ways to one end',
      [
        ['192.0.2.1:80', '192.0.2.1:81', '192.0.2.1:82'],
        ['192.0.2.1:81', '192.0.2.7:80'],
        ['192.0.2.1:82', '192.0.2.1:81'],
      ],
    ],
  ])('%s is none', (_name, frontends) => expect(linesFor(frontends, 'proxy')).toEqual([]));

  it('two frontends of one backend: the server is told once', () => {
    const text =
      '[frontends]\na={listen_addr="192.0.2.1:80",backend="b"}\nc={listen_addr="192.0.2.1:81",backend="b"}\n[backends.b.servers]\ns.addr="192.0.2.1:81"';
    expect(linesOf(() => parseConfig(text, 'f'))).toEqual([expect.stringContaining('"192.0.2.1:81" leads back to frontend "c", line 3')]);
  });

  it('is a warning where the file is meant for another host: it lacks an address that is listened on', () => {
    const elsewhere = [
      ['198.51.100.1:443', '192.0.2.7:80'],
      ['0.0.0.0:80', '192.0.2.1:80'],
    ] as const;
    expect(linesFor(elsewhere)).toEqual([expect.stringContaining('warning: backends.b1.servers.s0.addr')]);
  });

  it('asks about each server of a backend once, however many frontends share it', () => {
    const own = Array.from({ length: 400 }, (_, i) => `s${i}.addr="10.0.${i >> 8}.${i & 255}:80"`).join('\n');
    const listen = Array.from({ length: 100 }, (_, i) => `f${i}={listen_addr="192.0.2.1:${1000 + i}",backend="b"}`).join('\n');
    const text = `[frontends]\nany={listen_addr="0.0.0.0:80",backend="b"}\n${listen}\n[backends.b.servers]\n${own}`;
    let asked = 0;
    parseConfig(text, 'f', { isOwn: () => asked++ < 0 });
    expect(asked).toBeLessThanOrEqual(401);
  });
});

describe.each(['passthrough', 'dsr'] as const)('--%s', (mode) => {
  it.each(['127.0.0.1:80', '127.9.9.9:80', '192.0.2.10:80'])('refuses the server %s, which is the balancer itself', (addr) => {
    const why = 'is an address of this host, whose packets no packet mode can balance; needed: a server on another host, or proxy mode';
    expect(linesFor([['192.0.2.1:80', addr]], mode)).toEqual([
      expect.stringMatching(`^f:3:9: backends.b0.servers.s0.addr: "${addr}" ${why}$`),
    ]);
  });

  it('takes servers on other hosts', () => expect(linesFor([['192.0.2.1:80', '192.0.2.7:80']], mode)).toEqual([]));

  it('says nothing where the file is meant for another host, and this is one of its servers perhaps', () => {
    expect(linesFor([['198.51.100.1:80', '192.0.2.1:80']], mode)).toEqual([]);
  });
});

test('proxy mode balances over servers of its own host', () => {
  expect(linesFor([['192.0.2.1:80', '127.0.0.1:8080', '192.0.2.10:80']], 'proxy')).toEqual([]);
});

test('dsr = "l2" on a host that would check from a frontend\'s address is refused with its line; on another host it is not', () => {
  const text =
    'frontends.a={listen_addr="192.0.2.1:80",backend="b"}\n[backends.b]\ndsr="l2"\n[backends.b.servers.s]\naddr="192.0.2.7:80"\n';
  const lines = (source: string, own = true, mode: Mode = 'dsr') =>
    linesOf(() => parseConfig(text, 'f', { mode, isOwn: ({ ip }) => own && ip === '192.0.2.1', sourceTowards: () => source }));
  expect(lines('192.0.2.1')).toEqual([
    expect.stringMatching(/^f:3:5: backends\.b\.dsr: "l2": .*needed: an address of this host that is no frontend's towards 192\.0\.2\.7/),
  ]);
  expect([lines('192.0.2.9'), lines('192.0.2.1', false), lines('192.0.2.1', true, 'passthrough')]).toEqual([[], [], []]);
});
