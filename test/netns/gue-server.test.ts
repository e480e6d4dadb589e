/**
 * The script of servers behind `dsr = "gue"`, and the program that it loads, by packets as a balancer sends them:
 *
 *     outside (a client and a balancer without a kernel) ──┐
 *                                       .11 p1 ────────────┼── 10.90.0.0/24
 *                                       .12 p2 ────────────┘
 *
 * Both servers have the VIP, listen on it, and answer the client by themselves.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CheckResult } from '../../src/health/check.ts';
import { renderServerScript } from '../../src/rules/render.ts';
import { Capture } from '../lab/capture.ts';
import { type Around, type Counted, countedBy, countedSince, GUE_PORT, gue, tcp6 } from '../lab/gue.ts';
import { Lab, type Namespace } from '../lab/lab.ts';
import { waitUntil } from '../lab/wait.ts';
import { ACK, ICMP, ipv4, type Packet, type Parsed, PSH, RawHost, RST, SYN, UDP } from '../lab/wire.ts';

const [BALANCER, CLIENT, VIP] = ['10.90.0.1', '198.51.100.7', '203.0.113.80'];
const [VIP6, CLIENT6] = ['2001:db8::80', '2001:db8:1::7'];
const [VIP6_HEX, CLIENT6_HEX] = ['20010db8000000000000000000000080', '20010db8000100000000000000000007'];
const ADDRESSES = ['10.90.0.11', '10.90.0.12'] as const;
const [, SECOND] = ADDRESSES;

const MTU = 1500;

const lab = new Lab();
const outside = lab.namespace('outside');
const servers = ['p1', 'p2'].map((name) => lab.namespace(name)) as [Namespace, Namespace];
/** The client and the balancer, by the server that their frames go to. */
let hosts: [RawHost, RawHost];
let wire: Capture;

beforeAll(async () => {
  const bridge = lab.bridge('switch');
  bridge(outside, 'eth0', '10.90.0.99/24');
  for (const [index, server] of servers.entries()) {
    bridge(server, 'eth0', `${ADDRESSES[index]}/24`);
    server.ip('route', 'add', '198.51.100.0/24', 'dev', 'eth0');
    server.ip('-6', 'route', 'add', '2001:db8:1::/64', 'dev', 'eth0');
    server.offloads('eth0', 'off');
    // The other one's, which a redirected packet needs, is asked for by ARP.
    server.sh('sh', scriptOf(index), 'install');
  }
  await Promise.all(
    servers.map((server, index) => server.program('backend', `p${index + 1}`, 'http=80', 'echo=7', 'echo6=9').line(/^listening/)),
  );
  const attach = (server: Namespace) => RawHost.attach(outside, 'eth0', CLIENT, { namespace: server, device: 'eth0' });
  hosts = [await attach(servers[0]), await attach(servers[1])];
  wire = await Capture.start(servers[1], 'eth0', `udp port ${GUE_PORT}`);
});

afterAll(async () => {
  for (const [index, server] of servers.entries()) server.sh('sh', scriptOf(index), 'remove');
  await lab[Symbol.asyncDispose]();
});

function scriptOf(index: number): string {
  const file = join(lab.directory, `p${index + 1}.sh`);
  const tunnels = [VIP, VIP6].map((vip) => ({ vip, port: GUE_PORT, overhead: 40 }));
  writeFileSync(file, renderServerScript({ server: ADDRESSES[index] ?? '', rewrites: [], loopback: [], tunnels, hops: ADDRESSES }));
  return file;
}

/** A tunnel's packet to a server, without a checksum of UDP's as balancers send it. */
function toServer(index: 0 | 1, inner: Buffer, around: Around = {}, hasChecksum = false): void {
  const packet = { source: BALANCER, destination: ADDRESSES[index], protocol: UDP, sourcePort: 40_000, destinationPort: GUE_PORT };
  hosts[index].sendRaw({ ...packet, dontFragment: true, payload: gue(inner, around) }, (bytes) => {
    if (!hasChecksum) bytes.writeUInt16BE(0, 26);
  });
}

const segment = (sourcePort: number, packet: Partial<Packet>) =>
  ipv4({ source: CLIENT, destination: VIP, sourcePort, destinationPort: 80, ...packet });
const segment6 = (sourcePort: number, packet: Partial<Packet>) =>
  tcp6(CLIENT6_HEX, VIP6_HEX, { sourcePort, destinationPort: 9, ...packet });

/** Does it, and waits until both servers have counted just that. */
async function counts(deed: () => void, first: Counted, second: Counted = {}): Promise<void> {
  const before = servers.map(countedBy);
  const since = () => servers.map((server, index) => countedSince(before[index] ?? {}, countedBy(server)));
  deed();
  const wanted = JSON.stringify([first, second].map((one) => countedSince({}, one)));
  await waitUntil(() => JSON.stringify(since()) === wanted, { what: `${wanted} to be counted` }).catch((error: unknown) => {
    throw new Error(`counted ${JSON.stringify(since())}`, { cause: error });
  });
}

/** What the client gets at this port. */
function answer(port: number, flags: number): Promise<Parsed> {
  const wanted = ({ source, destinationPort, flags: had }: Parsed) => source === VIP && destinationPort === port && (had & flags) === flags;
  return hosts[0].expect(`an answer to port ${port}`, wanted);
}

const FORWARDED = { total: 1, alternate: 1 };
const CHAIN = { hops: [SECOND] };

describe('the program', () => {
  test('an echo request is answered by whom it comes to first, for the VIP and, as a check, for the server itself', async () => {
    for (const [destination, around] of [
      [VIP, CHAIN],
      [ADDRESSES[0], {}],
    ] as const) {
      const echo = ipv4({ source: CLIENT, destination, protocol: ICMP, type: 8, rest: 77, payload: Buffer.from(destination) });
      await counts(() => toServer(0, echo, around), { total: 1 });
      const back = await hosts[0].expect('an echo reply', ({ protocol, type }) => protocol === ICMP && type === 0);
      expect([back.source, back.payload.toString()]).toEqual([destination, destination]);
    }
  });

  test('a SYN stays, and its answer leaves room for the tunnel', async () => {
    await counts(() => toServer(0, segment(5000, { flags: SYN }), CHAIN), { total: 1, syn: 1 });
    expect((await answer(5000, SYN | ACK)).tcpOptions.readUInt16BE(2)).toBe(MTU - 80);
  });

  test('what nobody knows goes through the list, and its end answers; so with a checksum of UDP and without', async () => {
    for (const hasChecksum of [false, true]) {
      const unknown = segment(5001, { flags: ACK, sequence: 1, acknowledgment: 1 });
      await counts(() => toServer(0, unknown, CHAIN, hasChecksum), FORWARDED, { total: 1, lastResort: 1 });
      await answer(5001, RST);
    }
  });

  test('a connection of the second server: its handshake, data and "too big" reach it by the first one', async () => {
    toServer(1, segment(5002, { destinationPort: 7, flags: SYN, sequence: 100 }));
    const { sequence } = await answer(5002, SYN | ACK);
    const at = { destinationPort: 7, sequence: 101, acknowledgment: sequence + 1 };
    await counts(() => toServer(0, segment(5002, { ...at, flags: ACK }), CHAIN), FORWARDED, { total: 1, established: 1 });
    const greeting = await answer(5002, PSH | ACK);
    expect(greeting.payload.toString()).toBe(`p2 ${CLIENT}:5002\n`);
    const read = { ...at, acknowledgment: greeting.sequence + greeting.payload.length };
    const hello = segment(5002, { ...read, flags: ACK | PSH, payload: Buffer.from('hello') });
    await counts(() => toServer(0, hello, CHAIN), FORWARDED, { total: 1, established: 1 });
    const echoed = await hosts[0].expect('what was sent', ({ payload }) => payload.toString() === 'hello');
    const sent = { source: VIP, destination: CLIENT, sourcePort: 7, destinationPort: 5002, sequence: echoed.sequence, dontFragment: true };
    const tooBig = {
      source: '192.0.2.1',
      destination: VIP,
      protocol: ICMP,
      type: 3,
      code: 4,
      rest: 1200,
      payload: ipv4(sent).subarray(0, 28),
    };
    await counts(() => toServer(0, ipv4(tooBig), CHAIN), FORWARDED, { total: 1, established: 1 });
    expect(servers[1].ip('route', 'get', CLIENT)).toContain('mtu 1200');
  });

  test('where no hop is left, or the next one is the server itself, it stays', async () => {
    const unknown = segment(5003, { flags: ACK });
    await counts(() => toServer(0, unknown, { ...CHAIN, next: 1 }), { total: 1, lastResort: 1 });
    await counts(() => toServer(0, unknown, { hops: [ADDRESSES[0]] }), { total: 1, self: 1 });
  });

  test('what is none of these goes, and is counted', async () => {
    const unknown = segment(5004, { flags: ACK });
    const wrong: [Buffer, Around][] = [
      [unknown, { ...CHAIN, words: 1 }],
      [unknown, { words: 0x21 }],
      [unknown, { hops: Array(5).fill(SECOND) as string[] }],
      [unknown, { protocol: 41 }],
      [unknown, { protocol: 47 }],
      [ipv4({ source: CLIENT, destination: VIP, protocol: 47 }), {}],
      [unknown.subarray(0, 30), {}],
      [Buffer.alloc(0), {}],
    ];
    for (const [inner, around] of wrong) await counts(() => toServer(0, inner, around), { total: 1, dropped: 1 });
  });

  test('what is for another address than the VIPs goes, and so does what would go on to a server that no balancer names', async () => {
    const others = [
      segment(5011, { flags: SYN, destination: ADDRESSES[0] }),
      ipv4({ source: CLIENT, destination: ADDRESSES[0], protocol: UDP, sourcePort: 5011, destinationPort: 53 }),
      ipv4({ source: CLIENT, destination: ADDRESSES[0], protocol: ICMP, type: 0 }),
      segment(5011, { flags: ACK, destination: '203.0.113.81' }),
      segment(5011, { flags: SYN, destination: '127.0.0.1' }),
    ];
    for (const inner of others) await counts(() => toServer(0, inner, CHAIN), { total: 1, destination: 1 });
    const other6 = tcp6(CLIENT6_HEX, VIP6_HEX.replace(/80$/, '81'), { sourcePort: 5011, destinationPort: 9, flags: SYN });
    await counts(() => toServer(0, other6, { ...CHAIN, protocol: 41 }), { total: 1, destination: 1 });
    await counts(() => toServer(0, segment(5011, { flags: ACK }), { hops: [BALANCER] }), { total: 1, hop: 1 });
  });

  test('datagrams and fragments stay with whom they come to', async () => {
    const datagram = { source: CLIENT, destination: VIP, protocol: UDP, sourcePort: 5005, destinationPort: 53 };
    await counts(() => toServer(0, ipv4(datagram), CHAIN), { total: 1 });
    await counts(() => toServer(0, segment(5005, { fragmentOffset: 64, payload: Buffer.alloc(40) }), CHAIN), { total: 1 });
  });

  test('IPv6: a SYN stays, and a connection of the second server is found', async () => {
    await counts(() => toServer(0, segment6(5006, { flags: SYN }), { ...CHAIN, protocol: 41 }), { total: 1, syn: 1 });
    const opening = (server: Namespace) => server.sh('ss', '-6Hn', 'state', 'syn-recv');
    await waitUntil(() => opening(servers[0]).includes(`[${CLIENT6}]:5006`), { what: 'a request at p1' });
    toServer(1, segment6(5007, { flags: SYN }), { protocol: 41 });
    await waitUntil(() => opening(servers[1]).includes(`[${CLIENT6}]:5007`), { what: 'a request at p2' });
    const acknowledgment = segment6(5007, { flags: ACK, sequence: 1, acknowledgment: 1 });
    await counts(() => toServer(0, acknowledgment, { ...CHAIN, protocol: 41 }), FORWARDED, { total: 1, established: 1 });
  });

  // A kernel has one secret for all of its namespaces: that p2's cookie is none of p1's shows only as p1's listener has sent none lately.
  test('cookies: of the first server, of the second, and none at all', async () => {
    for (const server of servers) server.sysctl('net.ipv4.tcp_syncookies', '2');
    const handshake = async (at: 0 | 1, port: number, destinationPort: number) => {
      toServer(at, segment(port, { destinationPort, flags: SYN, sequence: 100 }));
      const { sequence } = await answer(port, SYN | ACK);
      return segment(port, { destinationPort, flags: ACK, sequence: 101, acknowledgment: sequence + 1 });
    };
    const own = await handshake(0, 5008, 80);
    await counts(() => toServer(0, own, CHAIN), { total: 1, cookie: 1 });
    const others = await handshake(1, 5009, 7);
    await counts(() => toServer(0, others, CHAIN), FORWARDED, { total: 1, cookie: 1 });
    expect((await answer(5009, PSH)).payload.toString()).toContain('p2');
    const wrong = segment(5010, { destinationPort: 7, flags: ACK, sequence: 101, acknowledgment: 4711 });
    await counts(() => toServer(0, wrong, CHAIN), FORWARDED, { total: 1, lastResort: 1 });
  });

  test('what went on bore the first server as its source, and right checksums', async () => {
    const lines = await wire.stop('-vv');
    const forwarded = lines.filter((line) => line.includes(`${ADDRESSES[0]}.40000 > ${SECOND}.${GUE_PORT}`));
    expect(forwarded.length).toBeGreaterThan(6);
    expect(lines.filter((line) => /bad (udp )?cksum/.test(line))).toEqual([]);
    expect(forwarded.filter((line) => line.includes('udp sum ok'))).toHaveLength(1);
  });
});

describe('health checks by the tunnel, many at a moment', () => {
  /** The reasons of so many checks that start together, and how many had each. */
  async function reasons(ports: readonly number[]): Promise<Record<string, number>> {
    const checks = outside.program('check');
    await checks.line(/^ready/);
    const results: string[] = [];
    checks.onLine((line) => results.push((JSON.parse(line) as CheckResult).reason.replace(/in \d+\.\d ms|: is the script.*/, '')));
    const asked = { address: ADDRESSES[0], port: 80, intervalMs: 60_000, timeoutMs: 2000 };
    checks.write(ports.map((port) => JSON.stringify({ ...asked, id: 's', check: { type: 'gue', port } })).join('\n'));
    await waitUntil(() => results.length === ports.length, { what: `${ports.length} results` });
    await checks.stop();
    return Object.fromEntries([...new Set(results)].map((one) => [one, results.filter((reason) => reason === one).length]));
  }
  const ANSWERED = 'answered by its tunnel ';

  test('all that are answered pass', async () => {
    expect(await reasons(Array<number>(500).fill(GUE_PORT))).toEqual({ [ANSWERED]: 500 });
  });

  test('those that nobody answers keep no others waiting', async () => {
    servers[0].sh(
      'sh',
      '-c',
      'nft "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; add rule inet deaf in udp dport 9 drop"',
    );
    const ports = Array.from({ length: 500 }, (_, i) => (i % 5 < 3 ? 9 : GUE_PORT));
    expect(await reasons(ports)).toEqual({ [ANSWERED]: 200, 'no answer by its tunnel (UDP port 9) in 2000 ms': 300 });
    servers[0].sh('nft', 'delete', 'table', 'inet', 'deaf');
  });
});

describe('the script', () => {
  const status = async () => {
    const { code, stdout } = await servers[0].run('sh', scriptOf(0), 'status');
    return { code, lines: stdout.trim().split('\n') };
  };
  const wrong = async () => {
    const { code, lines } = await status();
    return [code, ...lines.filter((line) => !/^(present|counter) /.test(line))];
  };

  test('status tells what is there, and what the program has counted', async () => {
    const { code, lines } = await status();
    expect(code).toBe(0);
    expect(lines.filter((line) => !line.startsWith('counter '))).toEqual([
      `present lo ${VIP}`,
      'present arp_ignore=1',
      'present arp_announce=2',
      expect.stringMatching(/^present bpf eth0 lb4-gue-[0-9a-f]{8}$/),
      `present lo ${VIP6}`,
      `present mss ${VIP} ${MTU - 80}`,
      `present mss ${VIP6} ${MTU - 100}`,
    ]);
    const { total, alternate, dropped } = countedBy(servers[0]);
    expect(lines).toEqual(
      expect.arrayContaining([
        `counter total_packets ${total}`,
        `counter forwarded_to_alternate_packets ${alternate}`,
        `counter dropped_packets ${dropped}`,
      ]),
    );
  });

  test('what is missing is told, and what has changed: an MTU, strict rp_filter; install mends', async () => {
    const [server] = servers;
    const program = 'missing bpf eth0 lb4-gue-';
    server.sh('nft', 'delete', 'table', 'inet', 'lb4_tunnel');
    server.ip('address', 'del', `${VIP}/32`, 'dev', 'lo');
    server.ip('address', 'del', `${VIP6}/128`, 'dev', 'lo');
    server.sh('tc', 'filter', 'del', 'dev', 'eth0', 'ingress');
    expect(await wrong()).toEqual([
      3,
      `missing lo ${VIP}`,
      expect.stringContaining(program),
      `missing lo ${VIP6}`,
      `missing mss ${VIP} ${MTU - 80}`,
      `missing mss ${VIP6} ${MTU - 100}`,
    ]);
    expect((await server.run('sh', scriptOf(0), 'install')).stderr).toBe('');
    server.ip('link', 'set', 'eth0', 'mtu', '1300');
    server.ip('link', 'add', 'other', 'type', 'veth', 'peer', 'name', 'far');
    server.ip('link', 'set', 'other', 'up');
    server.ip('route', 'add', 'default', 'dev', 'other');
    server.sysctl('net.ipv4.conf.eth0.rp_filter', '1');
    expect(await wrong()).toEqual([
      3,
      expect.stringContaining('missing bpf other lb4-gue-'),
      `stale mss ${VIP} ${MTU - 80}`,
      `stale mss ${VIP6} ${MTU - 100}`,
      `missing mss ${VIP} 1220`,
      `missing mss ${VIP6} 1200`,
      'all shadowed by strict rp_filter of eth0',
    ]);
    const { code, stderr } = await server.run('sh', scriptOf(0), 'install');
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(/^lb4 rules: warning: rp_filter is strict at eth0, .*eth0\.rp_filter=2\n$/) as string,
    });
  });

  // This kernel may have no module ipip: a link of that name does.
  test('what comes by a tunl0 that others use is not dropped', async () => {
    const server = lab.namespace('node');
    const file = join(lab.directory, 'node.sh');
    const tunnels = [{ vip: VIP, port: 0, overhead: 20 }];
    writeFileSync(file, renderServerScript({ server: ADDRESSES[0], rewrites: [], loopback: [], tunnels, hops: [] }));
    await server.run('ip', 'link', 'add', 'tunl0', 'type', 'veth', 'peer', 'name', 'pods');
    server.ip('address', 'add', `${ADDRESSES[0]}/32`, 'dev', 'pods');
    // What cannot be limited is not opened.
    const lame = join(lab.directory, 'lame');
    mkdirSync(lame);
    writeFileSync(
      join(lame, 'nft'),
      '#!/bin/sh\n[ "$1" != -f ] || { echo "Error: no room" >&2; exit 1; }\nPATH=${PATH#*:}\nexec nft "$@"\n',
      {
        mode: 0o755,
      },
    );
    const refused = await server.run('env', `PATH=${lame}:${process.env['PATH']}`, 'LB4_DEVICES=pods', 'sh', file, 'install');
    expect(refused).toMatchObject({ code: 1, stderr: 'lb4 rules: nft: Error: no room\n' });
    expect(server.ip('address', 'show', 'tunl0')).not.toMatch(/[<,]UP[,>]|inet /);
    const told = [];
    for (const was of ['down', 'up']) {
      server.ip('link', 'set', 'tunl0', was);
      // The second time it is known from the first one.
      for (const _ of [1, 2]) {
        const { code, stderr } = await server.run('env', 'LB4_DEVICES=pods', 'sh', file, 'install');
        const status = await server.run('env', 'LB4_DEVICES=pods', 'sh', file, 'status');
        told.push([
          was,
          code,
          status.code,
          stderr.replace(/.*warning: tunl0 was up before.*\n/, 'told'),
          /drop/.test(server.sh('nft', 'list', 'ruleset')),
        ]);
      }
      server.sh('sh', file, 'remove');
    }
    expect(told).toEqual([
      ['down', 0, 0, '', true],
      ['down', 0, 0, '', true],
      ['up', 0, 0, 'told', false],
      ['up', 0, 0, 'told', false],
    ]);
    expect(server.ip('link', 'show', 'tunl0')).toMatch(/[<,]UP[,>]/);
  });
});
