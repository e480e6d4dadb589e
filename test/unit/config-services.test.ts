import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { backendProtocols, type FileProtocol, servicesOf } from '../../src/config/schema/services.ts';
import { check } from '../lab/config-lines.ts';

const web = (protocol: FileProtocol, ip = '192.0.2.1', backend = 'web', answersPings = false) => ({ protocol, ip, backend, answersPings });

describe('a frontend stands for', () => {
  test('a service a protocol', () => {
    expect(servicesOf([web('tcp'), web('udp'), web('all', '192.0.2.2')])).toEqual([['tcp'], ['udp'], ['tcp', 'udp', 'icmp']]);
  });

  test("an address' pings once: that of icmp, else the first of all", () => {
    expect(servicesOf([web('all'), web('all'), web('all', '192.0.2.2'), web('icmp', '192.0.2.2')])).toEqual([
      ['tcp', 'udp', 'icmp'],
      ['tcp', 'udp'],
      ['tcp', 'udp'],
      ['icmp'],
    ]);
  });

  test('no pings where its servers cannot take them: another one of its address may', () => {
    expect(servicesOf([web('all', '192.0.2.1', 'web', true), web('all')])).toEqual([
      ['tcp', 'udp'],
      ['tcp', 'udp', 'icmp'],
    ]);
  });
});

test('a backend has the protocols of its frontends, in one order, and TCP where it has none', () => {
  const frontends = [web('udp'), web('icmp'), web('tcp'), web('udp', '192.0.2.1', 'dns')];
  expect([...backendProtocols(['web', 'dns', 'idle'], frontends, servicesOf(frontends))]).toEqual([
    ['web', ['tcp', 'udp', 'icmp']],
    ['dns', ['udp']],
    ['idle', ['tcp']],
  ]);
});

/** Frontends as `NAME: LISTEN PROTOCOL`, all of backend b, whose servers' addresses these are. */
function fileWith(frontends: Readonly<Record<string, string>>, servers = ['192.0.2.10:53'], more = ''): string {
  const tables = Object.entries(frontends).map(([name, text]) => {
    const [listen, protocol] = text.split(' ');
    return `frontends.${JSON.stringify(name)}={listen_addr="${listen}",protocol="${protocol}",backend="b"}`;
  });
  return [...tables, '[backends.b]', more, ...servers.map((addr, i) => `servers.s${i}.addr="${addr}"`)].join('\n');
}

const load = (...file: Parameters<typeof fileWith>) => parseConfig(fileWith(...file), 'f', { mode: 'passthrough' });

describe('a file', () => {
  test('with one address by two protocols has a service each, and so has its backend', () => {
    const { config, warnings } = load({ web: '192.0.2.1:53 tcp', dns: '192.0.2.1:53 udp' });
    expect(warnings).toEqual([]);
    expect(config.frontends.map(({ name, label, backend }) => [name, label, backend.name, backend.label])).toEqual([
      ['web', undefined, 'b', undefined],
      ['dns/udp', 'dns', 'b/udp', 'b'],
    ]);
    expect(config.backends.map(({ name, protocol, healthCheck, udpFailover }) => [name, protocol, healthCheck.type, udpFailover])).toEqual([
      ['b', { name: 'tcp', number: 6 }, 'tcp', undefined],
      ['b/udp', { name: 'udp', number: 17 }, 'udp', true],
    ]);
  });

  test('says how all protocols are checked, and whether UDP leaves servers that are down', () => {
    const more = 'health_check="http"\nudp_failover=false';
    const { config } = load({ web: '192.0.2.1:53 tcp', dns: '192.0.2.1:53 udp' }, ['192.0.2.10:53'], more);
    expect(config.backends.map(({ healthCheck, udpFailover }) => [healthCheck.type, udpFailover])).toEqual([
      ['http', undefined],
      ['http', false],
    ]);
  });

  test('says that each datagram is chosen for, of what is UDP', () => {
    const file =
      'frontends.a={listen_addr="192.0.2.1:53",protocol="udp",udp_per_packet=true,backend="b"}\nbackends.b.servers.s.addr="192.0.2.2:53"';
    expect(parseConfig(file, 'f').config.frontends).toMatchObject([{ udpPerPacket: true, backend: { balance: 'roundrobin' } }]);
    const balanced = (balance: string) => check(`${file}\nbackends.b.balance="${balance}"`);
    expect(balanced('random')).toEqual([]);
    expect(balanced('maglev')).toEqual([
      'f:1:71: frontends.a.udp_per_packet: true: balance = "maglev" has all datagrams of a client\'s port go to one server; needed in backend "b": balance = "first", ' +
        '"leastconn", "random" or "roundrobin", or none',
    ]);
    expect(check(file.replace('protocol="udp",', ''))).toEqual([
      'f:1:41: warning: frontends.a.udp_per_packet: has no effect with protocol = "tcp"',
    ]);
  });

  test('says who answers pings of an address: where it names a protocol lb4 does, where it does not the kernel, as it did', () => {
    const echoOf = (keys: string, mode: 'passthrough' | 'dsr' = 'passthrough') => {
      const file = `frontends.a={listen_addr="192.0.2.1:53",backend="b"${keys}}\n[backends.b]\nhealth_check="none"\nservers.s.addr="192.0.2.2:53"`;
      return parseConfig(file, 'f', { mode }).config.frontends.map(({ name, icmpEcho = 'kernel' }) => `${name} ${icmpEcho}`);
    };
    expect(echoOf('')).toEqual(['a kernel']);
    expect(echoOf(',protocol="tcp"')).toEqual(['a balancer']);
    expect(echoOf(',protocol="udp"')).toEqual(['a/udp balancer']);
    expect(echoOf(',icmp_echo="balancer"')).toEqual(['a balancer']);
    expect(echoOf(',protocol="udp",icmp_echo="kernel"')).toEqual(['a/udp kernel']);
    // Servers that rewrite their answers get no pings: the balancer's are all there are.
    expect(echoOf(',protocol="all"', 'dsr')).toEqual(['a balancer', 'a/udp balancer']);
  });

  test('without the key means what it meant', () => {
    const { config } = parseConfig('frontends.a={listen_addr="192.0.2.1:53",backend="b"}\nbackends.b.servers.s.addr="192.0.2.2:53"', 'f');
    expect(config.frontends).toMatchObject([
      { name: 'a', backend: { name: 'b', protocol: { name: 'tcp' }, healthCheck: { type: 'tcp' } } },
    ]);
  });

  test.each([
    {
      what: 'one endpoint twice by one protocol',
      frontends: { a: '192.0.2.1:53 udp', b: '192.0.2.1:53 udp' },
      line: 'f:2:28: frontends.b.listen_addr: "192.0.2.1:53" is taken by frontend "a", line 1',
    },
    {
      what: 'a name that is that of a service',
      frontends: { a: '192.0.2.1:53 udp', 'a/udp': '192.0.2.1:53 tcp' },
      line: 'f:2:11: frontends."a/udp": this is what lb4 calls udp of "a"; needed: another name',
    },
    {
      what: 'no port',
      frontends: { a: '192.0.2.1 udp' },
      line: 'f:1:28: frontends.a.listen_addr: "192.0.2.1" has no port; allowed: an IPv4 or IPv6 address and a port, "192.0.2.1:80" or "[2001:db8::1]:80"',
    },
    {
      what: 'port 0',
      frontends: { a: '192.0.2.1:0 tcp' },
      line: 'f:1:28: frontends.a.listen_addr: "192.0.2.1:0" has port 0; allowed: an IPv4 or IPv6 address and a port, "192.0.2.1:80" or "[2001:db8::1]:80"',
    },
    {
      what: 'a server that leads back by its protocol',
      frontends: { a: '192.0.2.1:53 udp', b: '192.0.2.10:53 udp' },
      line:
        'f:5:17: backends.b.servers.s0.addr: "192.0.2.10:53" leads back to frontend "b", line 2: its first connection or health check would ' +
        'open connections without end; needed: an address and port that no frontend before it listens on',
    },
  ])('with $what is refused', ({ frontends, line }) => {
    expect(check(fileWith(frontends as Record<string, string>))).toContain(line);
  });

  test('may have a UDP frontend where a server is by TCP alone', () => {
    const servers = 'backends.b.servers.s.addr="192.0.2.10:53"\nbackends.c.servers.s.addr="192.0.2.11:53"';
    const frontends =
      'frontends.a={listen_addr="192.0.2.1:53",backend="b"}\nfrontends.c={listen_addr="192.0.2.10:53",protocol="udp",backend="c"}';
    expect(check(`${frontends}\n${servers}`)).toEqual([]);
  });

  test('of other protocols than TCP is none for proxy mode', () => {
    expect(check(fileWith({ a: '192.0.2.1:53 udp' }), 'proxy')).toEqual([
      'f:1:52: frontends.a.protocol: "udp": proxy mode carries TCP alone; needed: --passthrough or --dsr',
    ]);
  });

  test('of DSR may answer by UDP from one address and by TCP from another', () => {
    const file = fileWith({ a: '192.0.2.1:53 udp', b: '192.0.2.2:53 tcp' });
    expect(check(file, 'dsr')).toEqual([]);
    expect(check(file.replace('"tcp"', '"udp"'), 'dsr')).toHaveLength(1);
  });

  test('counts each protocol of a backend among its servers', () => {
    const servers = Array.from({ length: 2049 }, (_, i) => `10.0.${i >> 8}.${i & 255}:53`);
    expect(check(fileWith({ a: '192.0.2.1:53 udp', b: '192.0.2.1:53 tcp' }, servers)).at(-1)).toMatch(
      /the file has 4098 servers, each protocol counted; allowed: at most 4096$/,
    );
  });
});

describe('affinity', () => {
  const web = { a: '192.0.2.1:53 tcp', b: '192.0.2.1:53 udp' };
  const servers = ['192.0.2.10:53'];

  test('is in milliseconds, and over protocols where the file says so', () => {
    const { config, warnings } = load(web, servers, 'affinity=2.5\naffinity_across=true');
    expect(warnings).toEqual([]);
    expect(config.backends.map(({ affinityMs, affinityAcross }) => [affinityMs, affinityAcross])).toEqual([
      [2500, true],
      [2500, true],
    ]);
    expect(load(web, servers).config.backends[0]).not.toHaveProperty('affinityMs');
  });

  test.each([
    ['proxy', '', 'f:3:10: backends.b.affinity: proxy mode keeps no affinity; needed: balance = "source", or --passthrough'],
    [
      'dsr',
      '',
      'f:3:10: backends.b.affinity: in DSR the hash of balance = "maglev" alone says where segments go; needed: balance = "first", "leastconn", "random" or "roundrobin"',
    ],
    ['dsr', 'balance="leastconn"\n', undefined],
    ['passthrough', 'balance="source"\n', undefined],
  ] as const)('with --%s %s', (mode, balance, line) => {
    expect(check(fileWith({ a: '192.0.2.1:53 tcp' }, servers, `affinity=60\n${balance}`), mode)).toEqual(line === undefined ? [] : [line]);
  });

  test('across nothing is a doubt', () => {
    expect(check(fileWith({ a: '192.0.2.1:53 tcp' }, servers, 'affinity_across=true'))).toEqual([
      'f:3:1: warning: backends.b.affinity_across: has no effect without affinity = SECONDS',
    ]);
  });
});
