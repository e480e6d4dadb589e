/**
 * lb4 between interfaces, in the topologies of Polycube's lbrp: SINGLE and MULTI (test_single.sh, test_multi.sh). Neither side knows that
 * anything stands between; the service 10.0.0.1 is nobody's address.
 *
 *     client 192.178.1.1 ── eth0 lb4 eth1 ── 192.178.1.2 server          clients' default route: the server
 *
 *     alice 192.178.1.1 ── eth0 ┐
 *                               lb4 eth1 ── 192.178.1.3 and 192.178.2.3, a router and server
 *     bob   192.178.2.2 ── eth2 ┘
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RESET } from '../lab/answers.ts';
import { type Balancer, LB4, writeConfiguration } from '../lab/balancer.ts';
import { Capture } from '../lab/capture.ts';
import { unconfinedIn } from '../lab/confined.ts';
import { file, ping, SERVICE, serve, startInline, udp, web } from '../lab/inline.ts';
import { cable, Lab, type Namespace } from '../lab/lab.ts';
import { PYTHON, type Running, run } from '../lab/processes.ts';
import { waitUntil } from '../lab/wait.ts';

const JUMBO = 9000;
/** Of the frames that tests write; nobody else's. */
const [HERE, THERE] = ['020000000077', '020000000088'];

describe('SINGLE', () => {
  const lab = new Lab();
  const [client, box, server] = ['client', 'box', 'server'].map((name) => lab.namespace(name)) as [Namespace, Namespace, Namespace];
  const socket = join(lab.directory, 'control', 'control.sock');
  let config = '';
  let lb4: Balancer;

  beforeAll(async () => {
    cable(client, 'eth0', '192.178.1.1/24', box, 'eth0', undefined, JUMBO);
    cable(server, 'eth0', '192.178.1.2/24', box, 'eth1', undefined, JUMBO);
    client.later('route add default via 192.178.1.2');
    config = file(box, '[inline]\nfrontends = ["eth0"]\nbackend = "eth1"', '192.178.1.2', `[control]\npath = "${socket}"\n`);
    await serve(server, '192.178.1.2');
    lb4 = await startInline(box, config);
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  test('neighbours reach each other through it, and clients the service, as themselves', async () => {
    await Promise.all([ping(client, '192.178.1.2'), ping(server, '192.178.1.1'), ping(client, SERVICE)]);
    expect(await web(client, '192.178.1.2')).toBe('200 192.178.1.1');
    expect(await web(client, SERVICE)).toBe('200 192.178.1.1');
    expect(await udp(client, SERVICE, 80)).toBe(`192.178.1.1 ${SERVICE} 80`);
    expect(await udp(client, '192.178.1.2', 8080)).toBe('192.178.1.1 192.178.1.2 8080');
  });

  test('as root it has no more privileges than it needs', () => {
    expect(unconfinedIn(lb4.running.pid)).toEqual([]);
  });

  test('MAC addresses and TTL stay, whichever way', async () => {
    const [atServer, atClient] = await Promise.all([
      Capture.start(server, 'eth0', 'tcp port 80'),
      Capture.start(client, 'eth0', `tcp port 80 and src host ${SERVICE}`),
    ]);
    await web(client, SERVICE);
    const [seen, answered] = await Promise.all([atServer.stop('-e', '-v'), atClient.stop('-e', '-v')]);
    const [mine, theirs] = [client.mac('eth0'), server.mac('eth0')];
    const requests = seen.filter((line) => line.includes(`${mine} > ${theirs}`));
    expect(requests.length).toBeGreaterThan(2);
    expect(requests.filter((line) => !line.includes('ttl 64'))).toEqual([]);
    expect(answered.length).toBeGreaterThan(2);
    expect(answered.filter((line) => !line.includes(`${theirs} > ${mine}`) || !line.includes('ttl 64'))).toEqual([]);
  });

  test('a megabyte of super-packets, to the service and past it', async () => {
    const get = (at: string) =>
      client.run('curl', '-sS', '-m40', '-o/dev/null', '-w%{http_code} %{size_download}', `http://${at}/content/1000000`);
    const [service, direct] = await Promise.all([get(SERVICE), get('192.178.1.2')]);
    expect([service.stdout, direct.stdout]).toEqual(['200 1000000', '200 1000000']);
  });

  test('what comes in goes out, to the byte: IPv6, VLAN, GRE, LLDP, jumbo, IP options, and what is broken', async () => {
    const captured = join(lab.directory, 'crossed.pcapng');
    const own = box.start([LB4, 'capture', '--control', socket, '-w', captured, '--snaplen', '65535']);
    await own.line(/capturing/);
    for (const [from, to, source] of [
      [client, server, HERE],
      [server, client, THERE],
    ] as const) {
      const frames = foreignFrames(source);
      const capture = await Capture.start(to, 'eth0', `ether src ${source.match(/../g)?.join(':')}`);
      await send(from, frames);
      await waitUntil(() => framesIn(capture.file).length >= frames.length, { what: `${frames.length} frames`, every: 50 });
      await capture.stop();
      expect(framesIn(capture.file).sort()).toEqual([...frames].sort());
      // lb4's own capture has each as it came and as it went, with the VLAN tag that the kernel had taken off.
      const all = () => readFileSync(captured, 'hex');
      await waitUntil(() => frames.every((frame) => all().split(frame).length > 2), { what: 'all of them to be captured', every: 50 });
    }
    expect(await own.stop('SIGINT')).toMatchObject({ code: 0 });
    expect((await run(['tshark', '-n', '-r', captured, '-Y', 'frame.comment == "crossed"'])).stdout).toContain('LLDP');
  });

  test('the kernel of the box sees nothing of it, and sends nothing', async () => {
    box.ip('addr', 'add', '192.0.2.77/32', 'dev', 'lo');
    client.ip('route', 'add', '192.0.2.77/32', 'dev', 'eth0');
    expect((await client.run('ping', '-c1', '-W1', '192.0.2.77')).code).not.toBe(0);
    expect(client.ip('neigh', 'show', 'to', '192.0.2.77')).not.toContain('lladdr');
    expect(box.sh('cat', '/proc/sys/net/ipv6/conf/eth0/disable_ipv6', '/proc/sys/net/ipv6/conf/eth1/disable_ipv6')).toBe('1\n1\n');
  });

  test('lists keep clients from a service, TCP, UDP and pings; what crosses is nobody’s, and goes on', async () => {
    const text = readFileSync(config, 'utf8');
    const reload = async (next: string) => {
      const done = lb4.running.nextLine(/"msg":"configuration reloaded"/);
      writeFileSync(`${config}.new`, next);
      renameSync(`${config}.new`, config);
      await done;
    };
    await reload(text.replaceAll(/^listen_addr/gm, 'deny = ["192.178.1.0/24"]\ndeny_action = "reset"\nlisten_addr'));
    const asked = await client.run('curl', '-sS', '-m20', `http://${SERVICE}/`);
    expect(RESET).toContain(asked.code);
    expect(await web(client, '192.178.1.2')).toBe('200 192.178.1.1');
    await ping(client, '192.178.1.2');
    expect((await client.run('ping', '-c1', '-W1', SERVICE)).code).toBe(1);
    expect((await lb4.stats()).lb4.verdicts['denied']).toBeGreaterThanOrEqual(2);
    await reload(text);
    expect(await web(client, SERVICE)).toBe('200 192.178.1.1');
  });

  test('an interface that is down, or has an address, is told, and that it is well again', async () => {
    const { running } = lb4;
    const told = (pattern: RegExp) => running.line(pattern);
    box.ip('link', 'set', 'eth1', 'down');
    box.ip('addr', 'add', '192.178.1.9/24', 'dev', 'eth0');
    await Promise.all([
      told(/the interfaces of \[inline\]: frames do not pass \(eth1 is down\)/),
      told(/there is one \(192\.178\.1\.9 at eth0\)/),
    ]);
    box.ip('addr', 'flush', 'dev', 'eth0');
    // The client goes on to know it by this one.
    const mac = server.mac('eth0');
    box.ip('link', 'del', 'eth1');
    cable(server, 'eth0', '192.178.1.2/24', box, 'eth1', undefined, JUMBO);
    server.later(`link set eth0 address ${mac}`);
    lab.settle();
    await Promise.all([
      told(/the interfaces of \[inline\]: all up again/),
      told(/addresses at the interfaces of \[inline\]: none any more/),
    ]);
    // Another interface by the same name: it is the port now, and kept from the kernel.
    await ping(client, '192.178.1.2');
    expect(await web(client, SERVICE)).toBe('200 192.178.1.1');
    expect(box.sh('nft', 'list', 'table', 'netdev', 'lb4_inline')).toContain('"eth1"');
  });

  test('rules that nft refuses leave those that are there, and lb4 keeps the kernel away', async () => {
    const table = () => box.sh('nft', 'list', 'table', 'netdev', 'lb4_inline');
    const before = table();
    const nft = `case "$*" in "-f -") cat >/dev/null; echo no room >&2; exit 1;; esac; exec ${box.sh('which', 'nft').trim()} "$@"`;
    mkdirSync(join(lab.directory, 'bin'));
    writeFileSync(join(lab.directory, 'bin/nft'), `#!/bin/sh\n${nft}\n`, { mode: 0o755 });
    const script = box.sh(LB4, 'rules', '--inline', `--config=${config}`).replace(/^PORTS='[^']*'/m, "PORTS='eth0 lo'");
    const env = `PATH=${lab.directory}/bin:${process.env['PATH']}`;
    const { code, stderr } = await box.run('env', env, 'sh', '-c', script, 'sh', 'install');
    expect([code, stderr]).toEqual([1, 'lb4 rules: nft: a table of family netdev: no room\n']);
    expect([table(), box.sh('cat', '/proc/sys/net/ipv6/conf/eth0/disable_ipv6')]).toEqual([before, '1\n']);
    expect(await web(client, SERVICE)).toBe('200 192.178.1.1');
  });

  test('one that was killed leaves the kernel away, the next goes on; lb4 rules --remove, or a stop, puts all back', async () => {
    const traces = () => [box.sh('nft', 'list', 'ruleset').trim(), box.sh('cat', '/proc/sys/net/ipv6/conf/eth0/disable_ipv6').trim()];
    await lb4.stop('SIGKILL');
    expect(traces()).not.toEqual(['', '0']);
    const removed = await box.run(LB4, 'rules', '--remove', `--config=${config}`);
    expect(removed.code, removed.stderr).toBe(0);
    expect(traces()).toEqual(['', '0']);
    lb4 = await startInline(box, config);
    expect(await web(client, SERVICE)).toBe('200 192.178.1.1');
    expect((await lb4.stop()).code).toBe(0);
    expect(traces()).toEqual(['', '0']);
  });

  test('a start says in one line what it cannot stand between', async () => {
    const start = (ports: string): Running => box.start([LB4, '--inline', `--config=${file(box, `[inline]\n${ports}`, '192.178.1.2')}`]);
    box.ip('addr', 'add', '192.178.1.9/24', 'dev', 'eth0');
    const rows = [
      ['frontends = ["eth0"]\nbackend = "eth9"', 78, /:3:11: inline\.backend: there is no interface eth9; needed: one of .*eth0/],
      [
        'frontends = ["eth0"]\nbackend = "eth1"',
        78,
        /inline\.frontends\.0: eth0 has the address 192\.178\.1\.9, .*; needed: ip address flush dev eth0/,
      ],
      ['frontends = ["lo"]\nbackend = "eth1"', 78, /inline\.frontends\.0: lo is no Ethernet interface/],
    ] as const;
    await Promise.all(
      rows.map(async ([ports, code, line]) => {
        const running = start(ports);
        expect((await running.exited).code, running.lines.join('\n')).toBe(code);
        expect(running.lines.filter((one) => line.test(one))).toHaveLength(1);
      }),
    );
  });
});

describe('MULTI', () => {
  const lab = new Lab();
  const [alice, bob, box, server] = ['alice', 'bob', 'box', 'server'].map((name) => lab.namespace(name)) as [
    Namespace,
    Namespace,
    Namespace,
    Namespace,
  ];

  beforeAll(async () => {
    cable(alice, 'eth0', '192.178.1.1/24', box, 'eth0', undefined);
    cable(bob, 'eth0', '192.178.2.2/24', box, 'eth2', undefined);
    cable(server, 'eth0', '192.178.1.3/24', box, 'eth1', undefined);
    server.later('addr add 192.178.2.3/24 dev eth0');
    alice.later('route add default via 192.178.1.3');
    bob.later('route add default via 192.178.2.3');
    server.sysctl('net.ipv4.ip_forward', '1');
    await serve(server, '192.178.1.3');
    const ports =
      '[inline]\nbackend = "eth1"\n[inline.frontends.eth0]\naddress = "192.178.1.1"\n[inline.frontends.eth2]\naddress = ["192.178.2.0/24"]';
    await startInline(box, file(box, ports, '192.178.1.3'));
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  test('each client reaches the server, the service and, through the router, the other; nobody sees frames of another’s', async () => {
    const seen = await Capture.start(bob, 'eth0', 'ip host 192.178.1.1 and not host 192.178.2.2');
    await Promise.all([ping(alice, '192.178.1.3'), ping(bob, '192.178.2.3'), ping(server, '192.178.1.1'), ping(server, '192.178.2.2')]);
    await Promise.all([ping(alice, '192.178.2.2'), ping(bob, '192.178.1.1'), ping(alice, SERVICE), ping(bob, SERVICE)]);
    expect(await Promise.all([web(alice, SERVICE), web(bob, SERVICE)])).toEqual(['200 192.178.1.1', '200 192.178.2.2']);
    expect(await Promise.all([udp(alice, SERVICE, 80), udp(bob, SERVICE, 80)])).toEqual([
      `192.178.1.1 ${SERVICE} 80`,
      `192.178.2.2 ${SERVICE} 80`,
    ]);
    expect(await seen.stop()).toEqual([]);
  });

  test('ARP asks behind one interface alone, of an address that nobody knows behind all', async () => {
    const at = await Promise.all([alice, bob].map((host) => Capture.start(host, 'eth0', 'arp[6:2] = 1')));
    await Promise.all(['192.178.2.200', '192.178.1.200'].map((ip) => server.run('ping', '-c1', '-W1', ip)));
    const [atAlice = [], atBob = []] = await Promise.all(at.map((capture) => capture.stop()));
    const asks = (lines: string[], ip: string) => lines.some((line) => line.includes(`who-has ${ip} `));
    expect([asks(atAlice, '192.178.2.200'), asks(atBob, '192.178.2.200')]).toEqual([false, true]);
    expect([asks(atAlice, '192.178.1.200'), asks(atBob, '192.178.1.200')]).toEqual([true, true]);
  });
});

/** Of each kind one, in hexadecimal, whole as on the wire. */
function foreignFrames(source: string): string[] {
  const to = '020000000099';
  const ethernet = (type: string, body: string, destination = to) => `${destination}${source}${type}${body.padEnd(92, '0')}`;
  const ipv6 = `6000000000103a40${'20010db8'.padEnd(32, '1')}${'20010db8'.padEnd(32, '2')}8000ffff${'0'.repeat(24)}`;
  const arp = `0001080006040001${source}c0b20107000000000000c0b20108`;
  const ip = (rest: string) => ethernet('0800', rest);
  return [
    ethernet('86dd', ipv6),
    ethernet('8100', `00070806${arp}`, 'ffffffffffff'),
    ethernet('8100', `e00786dd${ipv6}`),
    ethernet('88a8', `0064810000070800${'45'.padEnd(60, '0')}`),
    ethernet('88cc', '0207040200000000aa04050245000602007800000000', '0180c200000e'),
    ethernet('0026', '424203000000000080000200000000010000000080000200000000018001000014000200', '0180c2000000'),
    ethernet('88b5', '45'.repeat(60)),
    // GRE; options; a checksum that is wrong; a fragment; what is longer than it says; a TTL of 0; a first byte of nothing known.
    ip('4500002c00010000402f0000c0a80001c0a800020000080045000014'),
    ip(`4700002400010000403d0000c0a80001c0a8000294040000010101000011223344`),
    ip('450000280001000040060000c0a80001c0a800020050005000000000000000005002000000000000'),
    ip('4500001c0001200040110000c0a80001c0a80002deadbeefdeadbeef'),
    ip('4500001400010000ff3b0000c0a80001c0a80002'.padEnd(200, 'a')),
    ip('450000140001000000840000c0a80001c0a80002'),
    ip('f500001400010000ff3b0000c0a80001c0a80002'),
    ethernet('0800', `450023280001400040840000c0a80001c0a80002`.padEnd(2 * JUMBO, 'b')),
  ];
}

const SEND = `
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for line in sys.stdin.read().split():
    s.send(bytes.fromhex(line))
`;

async function send(from: Namespace, frames: readonly string[]): Promise<void> {
  const path = writeConfiguration(from, frames.join('\n'));
  const { code, stderr } = await from.run('sh', '-c', `${PYTHON} -c '${SEND}' <${path}`);
  expect(code, stderr).toBe(0);
}

/** What a capture file has (pcap-savefile(5)), in hexadecimal; of one that is being written as much as is whole. */
function framesIn(path: string): string[] {
  const bytes = readFileSync(path);
  const found: string[] = [];
  for (let at = 24; at + 16 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8);
    if (at + 16 + length > bytes.length) break;
    found.push(bytes.subarray(at + 16, at + 16 + length).toString('hex'));
    at += 16 + length;
  }
  return found;
}
