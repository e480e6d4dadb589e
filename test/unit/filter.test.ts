import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { coarseFilter, type FilterSpec, packetFilter } from '../../src/io/filter.ts';
import { portFilter } from '../../src/io/port-filter.ts';
import { TCP } from '../../src/packet/fields.ts';
import { checkProgram, HOST, run } from '../lab/bpf.ts';
import { buildIp, type Packet, pattern } from '../lab/packets.ts';

const VIP = '192.0.2.1';
const OTHERHOST = 3;
const address = (text: string) => text.split('.').reduce((value, byte) => value * 256 + Number(byte), 0);
const spec: FilterSpec = {
  frontends: [
    { address: address(VIP), port: 80, protocol: TCP },
    { address: address(VIP), port: 443, protocol: TCP },
    { address: address('192.0.2.2'), port: 8443, protocol: TCP },
  ],
  servers: [
    { address: address('172.16.0.1'), port: 8080, protocol: TCP },
    { address: address('172.16.0.1'), port: 8081, protocol: TCP },
    { address: address('200.16.0.2'), port: 8080, protocol: TCP },
  ],
  firstPort: 33768,
  lastPort: 61000,
};

const fine = packetFilter(spec);
const accepts = (packet: Packet | Uint8Array, type = HOST) =>
  run(fine, packet instanceof Uint8Array ? packet : buildIp(packet), type) !== 0;
const tcp = (source: string, from: number, destination: string, to: number, more: Partial<Packet> = {}): Packet => ({
  source,
  destination,
  tcp: { from, to },
  ...more,
});
const NOPS = [1, 1, 1, 0];
const client = '10.0.0.9';

test('the program is one the kernel takes', () => checkProgram(fine));

describe('accepts', () => {
  test.each<[string, Packet]>([
    ['a frontend', tcp(client, 5000, VIP, 80)],
    ['its second port', tcp(client, 5000, VIP, 443)],
    ['a frontend on another address', tcp(client, 5000, '192.0.2.2', 8443)],
    ['with IP options', tcp(client, 5000, VIP, 80, { options: NOPS })],
    ['with forty bytes of them', tcp(client, 5000, VIP, 80, { options: Array.from({ length: 40 }, () => 1) })],
    ['a reply to the first port', tcp('172.16.0.1', 8080, VIP, 33768)],
    ['a reply to the last port', tcp('172.16.0.1', 8081, VIP, 61000)],
    ['a reply from an address above 127.255.255.255, with options', tcp('200.16.0.2', 8080, '192.0.2.2', 50000, { options: NOPS })],
    ['a server that is a client too', tcp('172.16.0.1', 5000, VIP, 80)],
    ['a first fragment', tcp(client, 5000, VIP, 80, { moreFragments: true })],
    ['a first fragment to any port of ours: the pipeline counts it', tcp(client, 5000, VIP, 9, { moreFragments: true })],
    ['a later fragment, whatever stands in it', tcp(client, 1, VIP, 2, { fragmentOffset: 1480 })],
    ...[3, 11, 12].map((type): [string, Packet] => [
      `ICMP type ${type}`,
      { source: '1.2.3.4', destination: VIP, options: type === 12 ? NOPS : [], icmp: { type, quote: tcp(VIP, 1, client, 2) } },
    ]),
  ])('%s', (_, packet) => expect(accepts(packet)).toBe(true));
});

describe('refuses', () => {
  test.each<[string, Packet]>([
    ['another port', tcp(client, 5000, VIP, 22)],
    ['a port of another address', tcp(client, 5000, VIP, 8443)],
    ['another address', tcp(client, 5000, '192.0.2.3', 80)],
    ['a reply to a health check', tcp('172.16.0.1', 8080, VIP, 33767)],
    ['a reply to 61001', tcp('172.16.0.1', 8080, VIP, 61001)],
    ['another port of a server', tcp('172.16.0.1', 22, VIP, 40000)],
    ['a port of another server', tcp('200.16.0.2', 8081, VIP, 40000)],
    ['another server', tcp('172.16.0.9', 8080, VIP, 40000)],
    ['a server, to another address of this host', tcp('172.16.0.1', 8080, '10.0.0.1', 40000)],
    ['our own port as source', tcp(client, 80, VIP, 5000)],
    ['a fragment to another address', tcp(client, 5000, '192.0.2.3', 80, { moreFragments: true })],
    ['UDP', { source: client, destination: VIP, other: { protocol: 17, payload: pattern(20) } }],
    ['an echo request', { source: client, destination: VIP, icmp: { type: 8, quote: tcp(VIP, 1, client, 2) } }],
    ['a redirect', { source: client, destination: VIP, icmp: { type: 5, quote: tcp(VIP, 1, client, 2) } }],
    ['an ICMP error to another address', { source: client, destination: '192.0.2.3', icmp: { type: 3, quote: tcp(VIP, 1, client, 2) } }],
  ])('%s', (_, packet) => expect(accepts(packet)).toBe(false));

  test('what is on its way to another host (promiscuous mode)', () => {
    expect(accepts(tcp(client, 5000, VIP, 80), OTHERHOST)).toBe(false);
  });

  test('anything cut short', () => {
    const whole = buildIp(tcp(client, 5000, VIP, 80, { options: NOPS }));
    for (let length = 0; length < 28; length++) expect(accepts(whole.subarray(0, length))).toBe(false);
    expect(accepts(whole.subarray(0, 28))).toBe(true);
  });

  test('everything while there is no frontend', () => {
    const nothing = packetFilter({ ...spec, frontends: [] });
    checkProgram(nothing);
    expect(run(nothing, buildIp(tcp(client, 5000, VIP, 80)))).toBe(0);
  });
});

test("any tuple: accepted exactly if it is a frontend's or a reply's", () => {
  const hosts = fc.constantFrom(client, VIP, '192.0.2.2', '192.0.2.3', '172.16.0.1', '200.16.0.2');
  const ports = fc.oneof(fc.constantFrom(80, 443, 8443, 8080, 8081, 33767, 33768, 61000, 61001), fc.nat(65535));
  fc.assert(
    fc.property(hosts, ports, hosts, ports, fc.constantFrom([], NOPS), (source, from, destination, to, options) => {
      const has = (pairs: FilterSpec['servers'], host: string, port: number) =>
        pairs.some((p) => p.address === address(host) && p.port === port);
      const ours = spec.frontends.some((frontend) => frontend.address === address(destination));
      const expected = has(spec.frontends, destination, to) || (ours && to >= 33768 && to <= 61000 && has(spec.servers, source, from));
      expect(accepts(tcp(source, from, destination, to, { options }))).toBe(expected);
    }),
    { numRuns: 2000 },
  );
});

describe('large configurations', () => {
  const servers = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ address: address('172.16.0.0') + i, port: 8080, protocol: TCP }));

  test('300 ports of one address: no jump is too far', () => {
    const frontends = Array.from({ length: 300 }, (_, i) => ({ address: address(VIP), port: 1000 + i, protocol: TCP }));
    const program = packetFilter({ ...spec, frontends });
    checkProgram(program);
    for (const port of [1000, 1255, 1256, 1299]) expect(run(program, buildIp(tcp(client, 5000, VIP, port)))).not.toBe(0);
    for (const port of [999, 1300]) expect(run(program, buildIp(tcp(client, 5000, VIP, port)))).toBe(0);
    expect(run(program, buildIp(tcp('172.16.0.1', 8080, VIP, 40000)))).not.toBe(0);
  });

  test('300 addresses: none is out of reach', () => {
    const frontends = Array.from({ length: 300 }, (_, i) => ({ address: address('192.0.2.0') + i, port: 80, protocol: TCP }));
    const program = packetFilter({ ...spec, frontends });
    checkProgram(program);
    for (const host of ['192.0.2.0', '192.0.2.255', '192.0.3.43']) expect(run(program, buildIp(tcp(client, 5000, host, 80)))).not.toBe(0);
    expect(run(program, buildIp(tcp(client, 5000, '192.0.3.44', 80)))).toBe(0);
  });

  test('2,000 servers: a coarser program that still lets up all that is ours', () => {
    const program = packetFilter({ ...spec, servers: servers(2000) });
    checkProgram(program);
    const ours = [
      tcp(client, 5000, VIP, 80, { options: NOPS }),
      tcp('172.16.7.207', 8080, VIP, 40000),
      tcp(client, 5000, VIP, 80, { moreFragments: true }),
      { source: client, destination: VIP, icmp: { type: 3, quote: tcp(VIP, 1, client, 2) } },
    ];
    for (const packet of ours) expect(run(program, buildIp(packet))).not.toBe(0);
    expect(run(program, buildIp({ source: client, destination: VIP, other: { protocol: 17, payload: pattern(20) } }))).toBe(0);
    expect(run(program, buildIp(tcp(client, 5000, VIP, 80)), OTHERHOST)).toBe(0);
  });
});

describe('two protocols', () => {
  const UDP = 17;
  const both: FilterSpec = {
    ...spec,
    frontends: [
      ...spec.frontends,
      { address: address(VIP), port: 53, protocol: UDP },
      { address: address('192.0.2.2'), port: 80, protocol: UDP },
    ],
    servers: [...spec.servers, { address: address('172.16.0.1'), port: 53, protocol: UDP }],
  };
  const program = packetFilter(both);
  const packet = (protocol: number, source: string, from: number, destination: string, to: number, more: Partial<Packet> = {}) => {
    const bytes = buildIp(tcp(source, from, destination, to, more));
    bytes[9] = protocol;
    return bytes;
  };
  const verdicts = (source: string, from: number, destination: string, to: number, more?: Partial<Packet>) =>
    [TCP, UDP, 132].map((protocol) => run(program, packet(protocol, source, from, destination, to, more)) !== 0);

  test('the program is one the kernel takes', () => checkProgram(program));

  test.each<[string, Parameters<typeof verdicts>, boolean[]]>([
    ['a frontend of TCP', [client, 5000, VIP, 80], [true, false, false]],
    ['one of UDP', [client, 5000, VIP, 53], [false, true, false]],
    ['another address of UDP', [client, 5000, '192.0.2.2', 80], [false, true, false]],
    ['one of neither', [client, 5000, VIP, 81], [false, false, false]],
    ['a reply by TCP', ['172.16.0.1', 8080, VIP, 40000], [true, false, false]],
    ['a reply by UDP', ['172.16.0.1', 53, VIP, 40000], [false, true, false]],
    ['a reply to a port that is not of the pools', ['172.16.0.1', 53, VIP, 33767], [false, false, false]],
    ['a fragment', [client, 5000, VIP, 1, { moreFragments: true }], [true, true, false]],
    ['with IP options', [client, 5000, VIP, 53, { options: NOPS }], [false, true, false]],
  ])('%s, by TCP, UDP and SCTP', (_, tuple, expected) => expect(verdicts(...tuple)).toEqual(expected));

  test('ICMP errors are let up, echo requests not', () => {
    const icmp = (type: number) => buildIp({ source: '1.2.3.4', destination: VIP, icmp: { type, quote: tcp(VIP, 1, client, 2) } });
    expect([3, 11, 12, 8].map((type) => run(program, icmp(type)) !== 0)).toEqual([true, true, true, false]);
  });

  test('one alone costs no instruction more than it did before there were two', () => {
    expect(fine.length / 2).toBe(75);
  });

  test('a coarse program lets up both', () => {
    const coarse = coarseFilter([TCP, UDP]);
    checkProgram(coarse);
    expect([TCP, UDP, 132].map((protocol) => run(coarse, packet(protocol, client, 1, VIP, 2)) !== 0)).toEqual([true, true, false]);
  });
});

describe('servers that answer clients through this host', () => {
  const UDP = 17;
  const returning: FilterSpec['servers'] = [
    { address: address('172.16.0.1'), port: 8080, protocol: TCP },
    { address: address('172.16.0.1'), port: 53, protocol: UDP },
    { address: address('200.16.0.3'), port: 443, protocol: TCP },
  ];
  const program = packetFilter({ ...spec, returning });
  const passes = (packet: Packet) => run(program, buildIp(packet)) !== 0;
  const error = (type: number, quote: Packet): Packet => ({ source: '1.2.3.4', destination: client, icmp: { type, quote } });
  const udp = (source: string, from: number, destination: string, to: number): Packet => {
    return { source, destination, other: { protocol: UDP, payload: Uint8Array.of(from >> 8, from, to >> 8, to, 0, 8, 0, 0) } };
  };

  test('the program is one the kernel takes', () => checkProgram(program));

  test.each<[string, Packet, boolean]>([
    ['an answer, to a port of the pools or not', tcp('172.16.0.1', 8080, client, 40000), true],
    ['another server', tcp('200.16.0.3', 443, client, 5, { options: NOPS }), true],
    ['by UDP', udp('172.16.0.1', 53, client, 1024), true],
    ['by the other protocol', udp('172.16.0.1', 8080, client, 1024), false],
    ['from another port', tcp('172.16.0.1', 22, client, 40000), false],
    ['from a server of full NAT alone', tcp('172.16.0.1', 8081, client, 40000), false],
    ['what is sent to a server', tcp(client, 40000, '172.16.0.1', 8080), false],
    ['a fragment', tcp('172.16.0.1', 8080, client, 40000, { moreFragments: true }), false],
    ['an error about what a server was sent', error(3, tcp(client, 40000, '172.16.0.1', 8080)), true],
    ['by UDP, with options', { ...error(11, udp(client, 7, '172.16.0.1', 53)), options: NOPS }, true],
    ['about what another was sent', error(3, tcp(client, 40000, '172.16.0.9', 8080)), false],
    ['about an answer', error(3, tcp('172.16.0.1', 8080, client, 40000)), false],
    ['no error', error(5, tcp(client, 40000, '172.16.0.1', 8080)), false],
    ['an answer to a ping', { source: '172.16.0.1', destination: client, icmp: { type: 0, quote: tcp(VIP, 1, client, 2) } }, false],
    // As without them.
    ['a frontend', tcp(client, 5000, VIP, 80), true],
    ['a reply to a pool port', tcp('172.16.0.1', 8081, VIP, 50000), true],
    ['another port', tcp(client, 5000, VIP, 22), false],
  ])('%s', (_, packet, expected) => expect(passes(packet)).toBe(expected));

  test('of 400 of them each', () => {
    const many = Array.from({ length: 400 }, (_, i) => ({ address: address('172.16.0.0') + i, port: 8080, protocol: TCP }));
    const large = packetFilter({ ...spec, servers: [], returning: many });
    checkProgram(large);
    for (const host of ['172.16.0.0', '172.16.1.143']) {
      expect(run(large, buildIp(tcp(host, 8080, client, 9)))).not.toBe(0);
      expect(run(large, buildIp(error(3, tcp(client, 9, host, 8080))))).not.toBe(0);
    }
    expect(run(large, buildIp(tcp('172.16.1.144', 8080, client, 9)))).toBe(0);
  });
});

describe('pings', () => {
  const echo = { addresses: [address(VIP)], servers: [address('172.16.0.1')], returning: [address('172.16.0.5')] };
  const program = packetFilter({ ...spec, echo });
  const icmp = (source: string, destination: string, type: number, quote = tcp(VIP, 1, client, 2)): Packet => {
    return { source, destination, icmp: { type, quote } };
  };

  test('the program is one the kernel takes', () => checkProgram(program));

  test.each<[string, Packet, boolean]>([
    ['of ours', icmp(client, VIP, 8), true],
    ['of an address of ours that nobody answers for', icmp(client, '192.0.2.2', 8), false],
    ['of others', icmp(client, '10.0.0.1', 8), false],
    ['what a server answers us', icmp('172.16.0.1', VIP, 0), true],
    ['what somebody else does', icmp(client, VIP, 0), false],
    ['what a server answers a client', icmp('172.16.0.5', client, 0), true],
    ['what one of full NAT does', icmp('172.16.0.1', client, 0), false],
    ['errors, as ever', icmp(client, '192.0.2.2', 3), true],
    ['errors about pings that went to servers', icmp('1.2.3.4', client, 3, tcp(client, 1, '172.16.0.5', 2)), true],
    ['timestamps', icmp(client, VIP, 13), false],
  ])('%s', (_, packet, expected) => expect(run(program, buildIp(packet)) !== 0).toBe(expected));

  test('alone, without any port', () => {
    const alone = packetFilter({ ...spec, frontends: [], servers: [], sources: [], echo: { ...echo, returning: [] } });
    checkProgram(alone);
    expect(run(alone, buildIp(icmp(client, VIP, 8)))).not.toBe(0);
    expect(run(alone, buildIp(tcp(client, 5000, VIP, 80)))).toBe(0);
  });

  test('of 300 addresses: no jump is too far, whatever protocols there are', () => {
    const addresses = Array.from({ length: 300 }, (_, i) => address('192.0.2.0') + i);
    const large = packetFilter({
      ...spec,
      servers: [...spec.servers, { ...spec.servers[0], protocol: 17 }],
      echo: { addresses, servers: addresses },
    });
    checkProgram(large);
    for (const host of ['192.0.2.0', '192.0.3.43']) expect(run(large, buildIp(icmp(client, host, 8)))).not.toBe(0);
    expect(run(large, buildIp(icmp(client, '192.0.3.44', 8)))).toBe(0);
    expect(run(large, buildIp(tcp(client, 5000, VIP, 80)))).not.toBe(0);
  });

  test('a coarse program lets them up', () => {
    const coarse = coarseFilter([TCP], true);
    checkProgram(coarse);
    expect([8, 0, 3, 5].map((type) => run(coarse, buildIp(icmp(client, VIP, type))) !== 0)).toEqual([true, true, true, false]);
  });
});

test('between interfaces whatever comes by one of them is let up, and nothing else', () => {
  const most = Array.from({ length: 64 }, (_, i) => 100 + i);
  for (const ports of [[], [7], [7, 9, 8], most]) {
    const program = portFilter(ports);
    checkProgram(program);
    // Addressed to others, and too short for anything.
    const taken = [6, 7, 8, 9, 10, 100, 163, 164].filter((port) => run(program, new Uint8Array(0), OTHERHOST, port) !== 0);
    expect(taken).toEqual([6, 7, 8, 9, 10, 100, 163, 164].filter((port) => ports.includes(port)));
  }
});
