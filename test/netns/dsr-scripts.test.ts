/**
 * The script for DSR servers, on a server whose answers take another way than its requests:
 *
 *     client .2 ── 10.81.0.0/24 ── router ── 10.83.0.0/24 ── .10 balancer (VIP)
 *                                     └───── 10.82.0.0/24 ── .11 server
 *
 * The balancer is an nft rule here: packets to the VIP go on to the server's address (or, for l2, to its MAC address).
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { tcp } from '../../src/flow/tcp.ts';
import { renderServerScript } from '../../src/rules/render.ts';
import type { Dialect, ServerRulesInput } from '../../src/rules/types.ts';
import { Capture } from '../lab/capture.ts';
import { contentHash } from '../lab/content.ts';
import { cable, Lab, type Namespace } from '../lab/lab.ts';
import type { RunResult } from '../lab/processes.ts';
import { PATIENCE } from '../lab/wait.ts';

const VIP = '10.83.0.10';
const SERVER = '10.82.0.11';
const CLIENT = '10.81.0.2';
const nat: ServerRulesInput = {
  server: SERVER,
  rewrites: [
    { port: 80, vip: VIP, protocol: tcp },
    { port: 7, vip: VIP, protocol: tcp },
    { port: 443, vip: '10.83.0.99', protocol: tcp },
  ],
  loopback: [],
};
const gue: ServerRulesInput = {
  server: SERVER,
  rewrites: [],
  loopback: [],
  tunnels: [VIP, '2001:db8::80'].map((vip) => ({ vip, port: 19_523, overhead: 40 })),
};
const l2: ServerRulesInput = { server: SERVER, rewrites: [], loopback: [VIP, '10.83.0.99'] };

let lab: Lab;
let client: Namespace;
let router: Namespace;
let balancer: Namespace;
let server: Namespace;

beforeEach(() => {
  lab = new Lab();
  client = lab.namespace('client');
  router = lab.namespace('router');
  balancer = lab.namespace('balancer');
  server = lab.namespace('server');
  for (const forwarding of [router, balancer]) forwarding.sysctl('net.ipv4.ip_forward', '1');
  cable(router, 'clients', '10.81.0.1/24', client, 'eth0', `${CLIENT}/24`);
  cable(router, 'servers', '10.82.0.1/24', server, 'eth0', `${SERVER}/24`);
  cable(router, 'balancers', '10.83.0.1/24', balancer, 'eth0', `${VIP}/24`);
  client.ip('route', 'add', 'default', 'via', '10.81.0.1');
  server.ip('route', 'add', 'default', 'via', '10.82.0.1');
  balancer.ip('route', 'add', 'default', 'via', '10.83.0.1');
});

afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

/** A shell command on the server. Throws when it fails. */
function sh(command: string): string {
  return server.sh('sh', '-c', command);
}

function script(input: ServerRulesInput, ...words: string[]): Promise<RunResult> {
  const file = join(lab.directory, 'server.sh');
  writeFileSync(file, renderServerScript(input));
  return server.run('sh', file, ...words);
}

async function ok(input: ServerRulesInput, ...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await script(input, ...words);
  expect(stderr + code, words.join(' ')).toBe('0');
  return stdout;
}

/** Everything that must come back byte for byte. Packet counters are nobody's. */
function snapshot(): string {
  return sh(`nft list ruleset
    for c in iptables-nft-save iptables-legacy-save; do $c 2>/dev/null | sed '/^# /d; s/\\[[0-9:]*\\]//'; done
    for d in lo eth0 eth1; do tc qdisc show dev $d; tc filter show dev $d; tc filter show dev $d ingress; tc class show dev $d; done 2>/dev/null
    cd /proc/sys/net/ipv4 && grep . conf/*/arp_* conf/*/rp_filter ip_local_*
    ip -4 address; ip -6 address show dev lo; ip -4 route show table all; ip -4 rule
    ls /sys/fs/bpf/tc/globals 2>/dev/null | grep $(printf %x $(readlink /proc/self/ns/net | tr -dc 0-9))
    ls -R /run/lb4/netns-$(readlink /proc/self/ns/net | tr -dc 0-9) 2>/dev/null || :`);
}

async function startServer(): Promise<void> {
  await server.program('backend', 'server', 'http=80', 'echo=7').line(/^listening/);
}

/** The balancer's half of DSR. */
function forward(): void {
  balancer.sh(
    'nft',
    `table ip fake { chain pre { type filter hook prerouting priority -300; ip daddr ${VIP} tcp dport { 80, 7 } ip daddr set ${SERVER}; }; }`,
  );
}

function fetchFrom(namespace: Namespace, ...args: string[]): Promise<RunResult> {
  return namespace.run('curl', '-sS', '--max-time', '60', ...args);
}

describe.each<Dialect | undefined>([undefined, 'nft'])('dialect %s', (dialect) => {
  const input = { ...nat, dialect };

  test('a connection through a balancer: answers bear the VIP, health checks do not', async () => {
    await startServer();
    forward();
    expect((await fetchFrom(client, '--max-time', '1', `http://${VIP}/`)).code).not.toBe(0);
    await ok(input, 'install');
    const wire = await Capture.start(client, 'eth0', 'tcp');
    const checks = await Capture.start(balancer, 'eth0', 'tcp');
    expect(await fetchFrom(client, `http://${VIP}/`)).toMatchObject({ code: 0, stdout: 'server\n' });
    const check = await fetchFrom(balancer, '--interface', VIP, '--local-port', '32768-33767', `http://${SERVER}/`);
    expect(check).toMatchObject({ code: 0, stdout: 'server\n' });
    // The server reaches its own address as before.
    expect(await fetchFrom(server, `http://${SERVER}/`)).toMatchObject({ code: 0, stdout: 'server\n' });
    const answers = (await wire.stop()).filter((line) => line.includes(`> ${CLIENT}.`));
    expect(answers.length).toBeGreaterThan(3);
    expect(answers.every((line) => line.includes(`IP ${VIP}.80 > `))).toBe(true);
    const seen = await checks.stop();
    expect(seen.filter((line) => line.includes(`> ${CLIENT}.`))).toEqual([]);
    expect(seen.some((line) => new RegExp(`IP ${SERVER}\\.80 > ${VIP}\\.(32[789]|33)`).test(line))).toBe(true);
  });

  test('what the kernel says for a closed port bears the VIP, too; other ports keep the address', async () => {
    forward();
    await ok(input, 'install');
    const wire = await Capture.start(client, 'eth0', 'tcp');
    await fetchFrom(client, '--max-time', '1', `http://${SERVER}/`);
    await fetchFrom(client, `http://${SERVER}:81/`);
    const answers = (await wire.stop()).filter((line) => line.includes('Flags [R.]'));
    expect([...new Set(answers.map((line) => /IP (\S+) >/.exec(line)?.[1]))]).toEqual([`${VIP}.80`, `${SERVER}.81`]);
  });

  test.each(['on', 'off'] as const)('16 MB whole, offloads %s', async (state) => {
    const bytes = 16 << 20;
    await startServer();
    forward();
    await ok(input, 'install');
    for (const [namespace, device] of [
      [server, 'eth0'],
      [router, 'servers'],
      [router, 'clients'],
      [client, 'eth0'],
    ] as const) {
      namespace.offloads(device, state);
    }
    const wire = await Capture.start(router, 'servers', `tcp and ( src host ${VIP} or src host ${SERVER} )`);
    const file = join(lab.directory, 'received');
    expect((await fetchFrom(client, '-o', file, `http://${VIP}/content/${bytes}`)).stderr).toBe('');
    expect(client.sh('sha256sum', file).split(' ')[0]).toBe(contentHash(bytes));
    if (state === 'on') {
      expect(Math.max(...(await wire.lengths()))).toBeGreaterThan(1500); // a super-packet, or this shows nothing
      return;
    }
    const { packets, bad } = await wire.checksums();
    expect(packets).toBeGreaterThan(bytes / 1500);
    expect(bad).toEqual([]);
    expect((await wire.stop()).every((line) => line.includes(`IP ${VIP}.80 > `))).toBe(true);
  });

  test('500 connections at once, with connection tracking on the server', async () => {
    await startServer();
    forward();
    server.sh('nft', 'table ip own { chain in { type filter hook input priority 0; ct state invalid drop; }; }');
    await ok(input, 'install');
    const running = client.program('client', 'echo', '500', '2000', `${VIP}:7`);
    const report = JSON.parse(await running.line(/^\{/, 2 * PATIENCE)) as { ok: number; errors: string[] };
    expect(report.errors).toEqual([]);
    expect(report.ok).toBe(500);
  });
});

describe('installing and removing', () => {
  const mixed: ServerRulesInput = { ...nat, loopback: ['10.83.0.50'] };

  test.each([
    ['nat', nat, ''],
    ['l2', l2, ''],
    ['both', mixed, ''],
    ['nat beside own rules', nat, 'nft add table ip filter; iptables -t nat -A POSTROUTING -p udp -j ACCEPT'],
    [
      'nat beside an own qdisc with classes',
      nat,
      'tc qdisc add dev eth0 root handle 1: htb default 1; tc class add dev eth0 parent 1: classid 1:1 htb rate 1gbit',
    ],
    ['nat beside an own qdisc without', nat, 'tc qdisc add dev eth0 root tbf rate 1gbit burst 1mb latency 50ms'],
    [
      'gue beside nat, and beside own filters',
      { ...gue, rewrites: nat.rewrites },
      'tc qdisc add dev eth0 clsact; tc filter add dev eth0 ingress pref 7 protocol ip u32 match ip src 192.0.2.1/32 classid 1:1',
    ],
    ['l2 beside own addresses', l2, 'ip address add 10.99.0.1/32 dev lo; ip address add 10.83.0.99/32 dev lo'],
    ['l2 with ARP tuned', l2, 'sysctl -qw net.ipv4.conf.all.arp_ignore=2 net.ipv4.conf.eth0.arp_announce=1'],
  ])('%s: twice, shown, removed twice, byte for byte', async (_, input, setup) => {
    if (setup !== '') sh(setup);
    const before = snapshot();
    await ok(input, 'install');
    const installed = snapshot();
    expect(installed).not.toBe(before);
    await ok(input, 'install');
    expect(snapshot()).toBe(installed);
    const shown = (await ok(input, 'status')).trim().split('\n');
    expect(shown.filter((line) => !/^(present|counter) /.test(line))).toEqual([]);
    await ok(input, 'remove');
    expect(snapshot()).toBe(before);
    await ok(input, 'remove');
    expect(snapshot()).toBe(before);
    expect((await script(input, 'status')).code).toBe(3);
  });

  test('--dry-run says what would be done and changes nothing', async () => {
    const before = snapshot();
    expect(await ok(mixed, 'install', '--dry-run')).toMatch(/ip saddr set 10\.83\.0\.10[^]*ip address add 10\.83\.0\.50\/32 dev lo/);
    expect(snapshot()).toBe(before);
    await ok(mixed, 'install');
    const installed = snapshot();
    expect(await ok(mixed, 'remove', '--dry-run')).toMatch(/ip address del [^]*arp_ignore = 0[^]*nft delete table/);
    expect(snapshot()).toBe(installed);
  });

  test('another configuration replaces the first', async () => {
    const before = snapshot();
    await ok(mixed, 'install');
    const fewer = { ...nat, rewrites: nat.rewrites.slice(0, 1) };
    const { code, stdout } = await script(fewer, 'status');
    expect({ code, stale: stdout.match(/^stale .*$/gm) }).toEqual({
      code: 0,
      stale: ['stale nft keep 10.83.0.99', `stale nft ${SERVER}:7>${VIP}`, `stale nft ${SERVER}:443>10.83.0.99`, 'stale lo 10.83.0.50'],
    });
    await ok(fewer, 'install');
    expect(await ok(fewer, 'status')).toBe(`present nft keep ${VIP}\npresent nft ${SERVER}:80>${VIP}\n`);
    expect(sh('ip address show dev lo; cat /proc/sys/net/ipv4/conf/all/arp_ignore')).toMatch(/^(?![^]*10\.83)[^]*\n0\n$/);
    await ok(l2, 'install');
    expect(sh('nft list ruleset')).toBe('');
    await ok(gue, 'install');
    await ok(l2, 'install');
    expect(sh('nft list ruleset; tc qdisc show dev eth0 clsact')).toBe('');
    await ok(nat, 'remove');
    expect(snapshot()).toBe(before);
  });

  test('mends what a user took away, and keeps what a user changed', async () => {
    await ok(mixed, 'install');
    sh('nft flush chain ip lb4 dsr; ip address del 10.83.0.50/32 dev lo');
    const { code, stdout } = await script(mixed, 'status');
    expect({ code, missing: stdout.match(/^missing /gm)?.length }).toEqual({ code: 3, missing: 6 });
    await ok(mixed, 'install');
    expect(await ok(mixed, 'status')).not.toContain('missing');
    sh('sysctl -qw net.ipv4.conf.all.arp_ignore=3');
    await ok(mixed, 'remove');
    expect(sh('cat /proc/sys/net/ipv4/conf/all/arp_ignore /proc/sys/net/ipv4/conf/all/arp_announce')).toBe('3\n0\n');
  });

  test('LB4_MTU is noted: later installs and status go by it, until it is taken back, or all is removed', async () => {
    const before = snapshot();
    const told = async (mtu: string | undefined, action: string) => {
      const file = join(lab.directory, 'server.sh');
      writeFileSync(file, renderServerScript(gue));
      const { code, stdout, stderr } = await server.run('env', ...(mtu === undefined ? [] : [`LB4_MTU=${mtu}`]), 'sh', file, action);
      return [code, ...stdout.split('\n').filter((line) => /mtu|mss 10/.test(line)), ...(stderr === '' ? [] : [stderr])];
    };
    const noted = [0, 'present mtu 1450', `present mss ${VIP} 1370`];
    for (const mtu of ['1450', undefined]) {
      expect(await told(mtu, 'install')).toEqual([0]);
      expect(await told(undefined, 'status')).toEqual(noted);
    }
    expect(await told('1400', 'status')).toEqual([
      3,
      'stale mtu 1450',
      'missing mtu 1400',
      `stale mss ${VIP} 1370`,
      `missing mss ${VIP} 1320`,
    ]);
    expect(await told('', 'install')).toEqual([0]);
    expect(await told(undefined, 'status')).toEqual([0, `present mss ${VIP} 1420`]);
    expect(await told('1450', 'install')).toEqual([0]);
    expect(await told(undefined, 'remove')).toEqual([0]);
    expect(snapshot()).toBe(before);
    for (const mtu of ['575', '65536', '1450b', '-1', '100000'])
      expect(await told(mtu, 'install')).toEqual([
        2,
        expect.stringMatching(/^lb4 rules: LB4_MTU=\S+; allowed: bytes, 576 to 65535, or nothing/),
      ]);
    expect(snapshot()).toBe(before);
  });

  test("somebody else's table of that name is left alone", async () => {
    sh("nft 'table ip lb4 { chain mine { tcp dport 22 accept; }; }'");
    const before = snapshot();
    expect(await script(nat, 'install')).toMatchObject({ code: 1, stderr: expect.stringContaining("not lb4's") as string });
    expect((await script(nat, 'remove')).code).toBe(1);
    expect(snapshot()).toBe(before);
  });

  test.each([
    ['another host', { ...nat, server: '10.82.0.12' }, 1, /^lb4 rules: 10\.82\.0\.12 is not an address of this host.*\n$/],
    ['iptables', { ...nat, dialect: 'iptables' as const }, 77, /^lb4 rules: iptables cannot do this.*\n$/],
  ])('%s is refused in one line, and nothing is changed', async (_, input, code, stderr) => {
    const before = snapshot();
    expect(await script(input, 'install')).toMatchObject({ code, stderr: expect.stringMatching(stderr) as string });
    expect(snapshot()).toBe(before);
  });

  test('tc without act_nat is refused in one line, and nothing is changed', async ({ skip }) => {
    const probe = await server.run('tc', 'actions', 'add', 'action', 'nat', 'egress', '192.0.2.1', '192.0.2.2');
    skip(probe.code === 0, 'this kernel has act_nat: test/kernel has the tests');
    const before = snapshot();
    const refused = await script({ ...nat, dialect: 'tc' }, 'install');
    expect(refused).toMatchObject({ code: 77, stderr: expect.stringMatching(/^lb4 rules: this kernel has no act_nat.*\n$/) as string });
    expect(snapshot()).toBe(before);
  });

  test('strict rp_filter on a second interface gives a warning', async () => {
    cable(server, 'eth1', '10.83.0.77/24', lab.namespace('other'), 'eth0', '10.83.0.78/24');
    expect((await script(nat, 'install')).stderr).toBe('');
    server.sysctl('net.ipv4.conf.eth1.rp_filter', '1');
    expect((await script(nat, 'install')).stderr).toMatch(/^(lb4 rules: warning: rp_filter is strict; .*eth1\.rp_filter=2\n){2}$/);
  });
});

test('l2: the server takes packets for the VIP by its MAC address, and answers no ARP request for it', async () => {
  const bridge = lab.bridge('switch');
  const [near, real] = [lab.namespace('near'), lab.namespace('real')];
  bridge(near, 'eth0', '10.84.0.2/24');
  bridge(real, 'eth0', '10.84.0.11/24');
  const file = join(lab.directory, 'l2.sh');
  writeFileSync(file, renderServerScript({ server: '10.84.0.11', rewrites: [], loopback: ['10.84.0.10'] }));
  real.sh('sh', file, 'install');
  await real.program('backend', 'server', 'http=80').line(/^listening/);
  // No ARP answer, no connection: nobody else has the VIP here.
  expect((await fetchFrom(near, '--max-time', '2', 'http://10.84.0.10/')).code).not.toBe(0);
  near.ip('neigh', 'replace', '10.84.0.10', 'lladdr', real.mac('eth0'), 'dev', 'eth0');
  expect(await fetchFrom(near, 'http://10.84.0.10/')).toMatchObject({ code: 0, stdout: 'server\n' });
  // The server asks for neighbours by its own address, never by the VIP.
  const arp = await Capture.start(near, 'eth0', 'arp');
  real.ip('neigh', 'flush', 'dev', 'eth0');
  await fetchFrom(near, 'http://10.84.0.10/');
  expect((await arp.stop()).filter((line) => line.includes('tell 10.84.0.10,'))).toEqual([]);
  real.sh('sh', file, 'remove'); // leaves no state for the next namespace with this one's inode number
  expect(real.ip('address', 'show', 'dev', 'lo')).not.toContain('10.84.0.10');
});

test('the templates and the filled-in script pass shellcheck', () => {
  const file = join(lab.directory, 'server.sh');
  writeFileSync(file, renderServerScript({ ...nat, loopback: [VIP], dialect: 'tc' }));
  const templates = ['dsr-server.sh', 'common.sh', 'tunnel.sh'].map((name) => join(import.meta.dirname, '../../iptables', name));
  expect(server.sh('shellcheck', '-s', 'sh', ...templates, file)).toBe('');
});

test('the template runs beside common.sh, and says that it is one', async () => {
  const template = join(import.meta.dirname, '../../iptables/dsr-server.sh');
  expect(await server.run('sh', template, 'status')).toMatchObject({ code: 2, stderr: expect.stringContaining('template') as string });
});
