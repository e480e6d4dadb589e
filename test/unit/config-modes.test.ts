import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { BACKEND, check, FRONTEND, GOOD, type Row, WEIGHT } from '../lab/config-lines.ts';

const TWO = `${FRONTEND}\n${FRONTEND.replace('s.a', 's.c').replace('2.1', '2.3')}\n`;

const DSR: Row[] = [
  { name: 'equal ports', toml: GOOD, lines: [] },
  {
    name: 'unequal ports',
    toml: `${GOOD}backends.b.servers.t.addr="192.0.2.3:8080"`,
    lines: [
      'f:3:27: backends.b.servers.t.addr: "192.0.2.3:8080" has another port than its frontend; ' +
        'needed in DSR: port 80, as frontend "a", line 1, has',
    ],
  },
  {
    name: 'unequal ports of l2, too',
    toml: `${GOOD}backends.b.dsr="l2"\nbackends.b.servers.t.addr="192.0.2.3:81"`,
    lines: [expect.stringContaining('f:4:27: backends.b.servers.t.addr: "192.0.2.3:81" has another port') as string],
  },
  {
    name: 'a server behind two addresses',
    toml: `${TWO}${BACKEND}`,
    lines: [
      'f:2:26: frontends.c.listen_addr: server "192.0.2.2:80" answers from frontend "a"\'s address already, line 1; ' +
        'needed in DSR: another server address or port, or dsr = "l2"',
    ],
  },
  { name: 'a server behind two addresses, l2', toml: `${TWO}${BACKEND}\nbackends.b.dsr = "l2"`, lines: [] },
  {
    name: 'a server behind two addresses, ipip',
    toml: `${TWO}${BACKEND}\nbackends.b.dsr = "ipip"\nbackends.b.health_check = "none"`,
    lines: [],
  },
  {
    name: 'a server that holds the address that its checks come from',
    toml: `${GOOD}frontends.c={listen_addr="192.0.2.1:443",backend="d"}\nbackends.d={dsr="ipip",health_check="none",servers.s.addr="192.0.2.2:443"}`,
    lines: [
      'f:1:26: frontends.a.listen_addr: its checks come from 192.0.2.1, which server "192.0.2.2:80" holds for frontend "c", line 3, and would ' +
        'answer to itself; needed: another address in one of the frontends, the same dsr in both backends, or health_check = "exec" in that of "a"',
    ],
  },
  {
    name: 'the same, with a check that comes from elsewhere',
    toml: `${GOOD}frontends.c={listen_addr="192.0.2.1:443",backend="d"}\nbackends.d={dsr="l2",servers.s.addr="192.0.2.2:443"}\nbackends.b.health_check="none"`,
    lines: [],
  },
  {
    name: 'an address of its own beside it',
    toml: `${GOOD}frontends.c={listen_addr="192.0.2.3:80",backend="d"}\nbackends.d={dsr="ipip",health_check="none",servers.s.addr="192.0.2.2:80"}`,
    lines: [],
  },
  {
    name: 'every address',
    toml: GOOD.replace('192.0.2.1', '0.0.0.0'),
    lines: [
      'f:1:26: frontends.a.listen_addr: "0.0.0.0:80" stands for every address; needed with --dsr: an address of this host that clients reach',
    ],
  },
  {
    name: 'beside other mistakes',
    toml: `${GOOD}backends.b.servers.t={addr="192.0.2.3:81",weight=-1}`,
    lines: [
      expect.stringContaining('f:3:28: backends.b.servers.t.addr') as string,
      `f:3:50: backends.b.servers.t.weight: -1 is too small; ${WEIGHT}`,
    ],
  },
];

describe('for --dsr', () => {
  it.each(DSR)('$name', ({ toml, lines }) => expect(check(toml, 'dsr')).toEqual(lines));
  it.each(DSR.slice(0, 5))('$name: nobody else minds', ({ toml }) => {
    for (const mode of [undefined, 'proxy', 'passthrough'] as const) expect(check(toml, mode)).toEqual([]);
  });
});

describe('packets inside of others', () => {
  const PCAP = 'passthrough.io = "pcap"\n';

  it('have keys of their own, which with another dsr nothing reads', () => {
    const toml = `${GOOD}backends.b.dsr = "ipip"\nbackends.b.gue_port = 6080\nbackends.b.source_addr = "192.0.2.9"`;
    const why = 'packets to these servers are not wrapped in others; needed:';
    const port = `backends.b.gue_port: ${why} dsr = "gue", or a file without this key`;
    expect(check(toml, 'passthrough')).toEqual([`f:4:23: ${port}`]);
    expect(check(toml.replace('ipip', 'gue'), 'passthrough')).toEqual([]);
    expect(check(toml.replace('ipip', 'nat'), 'passthrough')).toEqual([
      `f:4:23: ${port}`,
      `f:5:26: backends.b.source_addr: ${why} dsr = "gue" or dsr = "ipip", or a file without this key`,
    ]);
  });

  it('need a driver that has room for them', () => {
    const why = 'io = "pcap" cannot wrap packets; needed: io = "ring", or dsr = "nat" or "l2"';
    expect(check(`${PCAP}${GOOD}backends.b.dsr = "gue"\nbackends.b.health_check = "none"`, 'dsr')).toEqual([
      `f:4:18: backends.b.dsr: "gue": ${why}`,
    ]);
    expect(check(`${PCAP}${GOOD}backends.b.dsr = "gue"`, 'passthrough')).toEqual([]);
  });

  it('should be unwrapped by who passes its checks', () => {
    const doubts = (more: string) => check(`${GOOD}backends.b.dsr = "ipip"\n${more}`, 'dsr');
    const why = 'servers are asked past their tunnel: one that unwraps nothing passes, and its clients get nothing; better: health_check =';
    expect(doubts('')).toEqual([`f:3:12: warning: backends.b.health_check: ${why} ["ipip", "tcp"]`]);
    expect(doubts('backends.b.health_check = "http"')).toEqual([`f:4:12: warning: backends.b.health_check: ${why} ["ipip", "http"]`]);
    for (const check of ['"none"', '"ipip"', '["tcp", "ipip"]']) expect(doubts(`backends.b.health_check = ${check}`)).toEqual([]);
    expect(check(`${GOOD}backends.b.dsr = "ipip"`, 'passthrough')).toEqual([]);
  });

  it('have a port and a source', () => {
    const tunnel = (keys: string) => parseConfig(`${GOOD}${keys}`, 'f').config.backends[0]?.tunnel;
    expect(tunnel('')).toBeUndefined();
    expect(tunnel('backends.b.dsr = "gue"')).toEqual({ port: 19_523, source: undefined });
    expect(tunnel('backends.b.dsr = "gue"\nbackends.b.gue_port = 6080\nbackends.b.source_addr = "192.0.2.9"')).toEqual({
      port: 6080,
      source: '192.0.2.9',
    });
    expect(tunnel('backends.b.dsr = "ipip"')).toEqual({ port: 0, source: undefined });
  });
});

describe('source_addrs', () => {
  const toml = (list: string) => `${GOOD}backends.b.source_addrs=${list}`;
  const ALLOWED = 'allowed: IPv4 addresses of this host without a port, 1–64 of them, ["192.0.2.1", "192.0.2.2"]';
  const NEEDED = 'needed: passthrough with nat = "full", or a file without this key';

  it('is for passthrough alone: the other modes say why in one line', () => {
    const good = toml('["192.0.2.8","192.0.2.1"]');
    expect([check(good), check(good, 'passthrough')]).toEqual([[], []]);
    expect(check(good, 'dsr')).toEqual([`f:3:25: backends.b.source_addrs: servers see the addresses of clients; ${NEEDED}`]);
    expect(check(good, 'proxy')).toEqual([`f:3:25: backends.b.source_addrs: the kernel chooses what proxy mode connects from; ${NEEDED}`]);
  });

  it('goes with nat = "full" alone, and nat = "destination" with frames alone', () => {
    const kept = `${GOOD}backends.b.nat="destination"`;
    for (const mode of [undefined, 'passthrough', 'dsr'] as const) expect(check(kept, mode)).toEqual([]);
    expect(check(kept, 'proxy')).toEqual([
      'f:3:16: backends.b.nat: proxy mode connects from addresses of this host; needed: --passthrough, or send_proxy',
    ]);
    expect(check(`${toml('["192.0.2.8"]')}\nbackends.b.nat="destination"`, 'passthrough')).toEqual([
      `f:3:25: backends.b.source_addrs: servers see the addresses of clients; ${NEEDED}`,
    ]);
    expect(check(`${GOOD}backends.b.nat="none"`)).toEqual(['f:3:16: backends.b.nat: "none" is unknown; allowed: "full" or "destination"']);
  });

  it.each([
    ['"192.0.2.8:80"', '.0', '"192.0.2.8:80" has a colon in it: an IPv4 address stands alone, without a port'],
    ['"2001:db8::1"', '.0', '"2001:db8::1" has a colon in it: an IPv4 address stands alone, without a port'],
    ['"0.0.0.0"', '.0', '"0.0.0.0" stands for every address'],
    ['"127.0.0.1"', '.0', '"127.0.0.1" is a loopback address'],
    ['"here"', '.0', '"here" is a hostname'],
    ['"224.0.0.1"', '.0', '"224.0.0.1" is a multicast, broadcast or reserved address'],
    ['', '', 'is an empty array'],
    [Array.from({ length: 65 }, (_, i) => `"192.0.2.${i + 1}"`).join(), '', 'is an array'],
    ['7', '.0', '7 is a number'],
  ])('%s is refused', (list, place, problem) => {
    expect(check(toml(`[${list}]`), 'passthrough')).toEqual([
      `f:3:${place === '' ? 25 : 26}: backends.b.source_addrs${place}: ${problem}; ${ALLOWED}`,
    ]);
  });

  it('an address twice is refused', () => {
    expect(check(toml('["192.0.2.8","192.0.2.8"]'), 'passthrough')).toEqual([
      'f:3:38: backends.b.source_addrs.1: "192.0.2.8" stands here already, line 3',
    ]);
  });
});

it.each([
  ['0.0.0.0:80', 'stands for every address'],
  ['127.0.0.1:80', 'is a loopback address'],
  ['127.255.0.9:80', 'is a loopback address'],
])('packets to %s cannot be told or cannot come: refused in passthrough, fine in proxy mode', (listen, problem) => {
  const toml = GOOD.replace('192.0.2.1:80', listen);
  const line = `f:1:26: frontends.a.listen_addr: "${listen}" ${problem}; needed with --passthrough: an address of this host that clients reach`;
  expect(check(toml, 'passthrough')).toEqual([line]);
  for (const mode of [undefined, 'proxy'] as const) expect(check(toml, mode)).toEqual([]);
});

const IPV6: Row[] = [
  {
    name: 'a frontend',
    toml: `${GOOD}frontends.c={listen_addr="[::]:81",backend="c"}\nbackends.c.servers.s.addr="192.0.2.3:81"`,
    lines: ['f:3:26: frontends.c.listen_addr: "[::]:81" is an IPv6 address; IPv6 works in proxy mode only'],
  },
  {
    name: 'a server',
    toml: `${GOOD}backends.b.servers.t.addr="[2001:db8::1]:8080"`,
    lines: ['f:3:27: backends.b.servers.t.addr: "[2001:db8::1]:8080" is an IPv6 address; IPv6 works in proxy mode only'],
  },
  {
    name: 'the statistics',
    toml: `${GOOD}[stats]\naddress = "::1"`,
    lines: ['f:4:11: stats.address: "::1" is an IPv6 address; IPv6 works in proxy mode only'],
  },
];

describe.each(['passthrough', 'dsr'] as const)('IPv6 in %s', (mode) => {
  it.each(IPV6)('$name', ({ toml, lines }) => expect(check(toml, mode)).toEqual(lines));
});

describe.each(['proxy', undefined] as const)('IPv6 in mode %s', (mode) => {
  it.each(IPV6)('$name is fine', ({ toml }) => expect(check(toml, mode)).toEqual([]));
});

it.each(['proxy', 'passthrough', 'dsr'] as const)('one file serves all modes, %s too: their own keys trouble none', (mode) => {
  const keys = `frontends.a={listen_addr="192.0.2.1:80",backend="b",accept_proxy=true,client_timeout=1}
    [backends.b]
    send_proxy="v2"
    connect_timeout=1
    retries=0
    dsr="l2"
    servers.s.addr="192.0.2.2:80"
    [proxy]
    workers=2
    [passthrough]
    workers=1`;
  expect(check(keys, mode)).toEqual([]);
});

describe('src_ip_rewrite', () => {
  const toml = (clients: string, as: string, nat = 'destination') => {
    return `${GOOD}backends.b.nat="${nat}"\nbackends.b.src_ip_rewrite={clients="${clients}",as="${as}"}`;
  };
  const complaints = (...words: Parameters<typeof toml>) =>
    check(toml(...words), 'passthrough').map((line) => line.replace(/^f:4:\d+: backends\.b\.src_ip_rewrite/, ''));

  it('takes two networks of one length, of which servers see the second', () => {
    expect(complaints('10.0.0.0/24', '20.0.0.0/24')).toEqual([]);
    const { config } = parseConfig(toml('10.0.0.0/24', '20.0.0.0/24'), 'f');
    expect(config.backends[0]?.srcIpRewrite).toEqual({ clients: { first: 0x0a000000, bits: 24 }, as: { first: 0x14000000, bits: 24 } });
  });

  it.each([
    ['10.0.0.0/24', '20.0.0.0/25', '.as: has another length than clients; needed: /24'],
    ['10.0.0.0/24', '10.0.0.0/24', '.as: is the network of the clients; needed: another one'],
    [
      '10.0.0.1/24',
      '20.0.0.0/24',
      '.clients: "10.0.0.1/24" has bits of its own beyond the first 24; allowed: an IPv4 network, "10.0.0.0/24"',
    ],
    [
      '10.0.0.0',
      '20.0.0.0/24',
      '.clients: "10.0.0.0" is no network: an IPv4 address and a length, as 10.0.0.0/24; allowed: an IPv4 network, "10.0.0.0/24"',
    ],
    ['10.0.0.0/0', '20.0.0.0/24', '.clients: "10.0.0.0/0" has a length that is not 1–32, "0"; allowed: an IPv4 network, "10.0.0.0/24"'],
  ])('%s as %s', (clients, as, complaint) => expect(complaints(clients, as)).toEqual([complaint]));

  it('needs servers that see clients', () => {
    expect(complaints('10.0.0.0/24', '20.0.0.0/24', 'full')).toEqual([
      ': servers see an address of this host; needed: nat = "destination"',
    ]);
  });
});
