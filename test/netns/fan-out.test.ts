/** Ports that the kernel spreads over processes of this host, by rules of either dialect: who gets how many, what is left, and lb4 --fan-out. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { renderFanOutScript } from '../../src/rules/fan-out.ts';
import { fanOutsFor } from '../../src/rules/fan-out-config.ts';
import { LB4, QUICK } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { cable, Lab, type Namespace, ROOT } from '../lab/lab.ts';
import { PYTHON, type Running } from '../lab/processes.ts';
import { waitUntil } from '../lab/wait.ts';

const [HOST, HOST6] = ['10.95.0.1', 'fd95::1'];
/** Clients' addresses: thousands, behind one namespace. */
const [SOURCE, SOURCE6] = ['10.96.0.0', 'fd96::'];
const PORTS = [3128, 3129, 3130, 3131];
/** χ² of three degrees of freedom: one good run of a thousand is above it, and of two in a row one of a million. */
const CRITICAL = 16.27;
const MANY = 4000;

/** What the callers of fan.py print. */
interface Answered {
  /** By the port of the process. */
  readonly by: Readonly<Record<string, number>>;
  /** By the error. */
  readonly failed: Readonly<Record<string, number>>;
}

function fan(from: Namespace, ...words: string[]): Running {
  return from.start([PYTHON, '-IS', join(ROOT, 'test/lab/fan.py'), ...words]);
}

let lab: Lab;
let host: Namespace;
let client: Namespace;
/** Whoever calls from there. */
const callers = new Map<Namespace, Running>();
const processes = new Map<number, Running>();

async function startProcess(port: number, address = ''): Promise<void> {
  const running = fan(host, 'serve', `${port}`, address);
  await running.line(/^listening/);
  processes.set(port, running);
}

async function kill(port: number): Promise<void> {
  await processes.get(port)?.stop('SIGKILL');
}

beforeAll(async () => {
  lab = new Lab();
  host = lab.namespace('host');
  client = lab.namespace('client');
  cable(host, 'eth0', `${HOST}/24`, client, 'eth0', '10.95.0.2/24');
  host.later(`address add ${HOST6}/64 dev eth0 nodad`);
  client.later('address add fd95::2/64 dev eth0 nodad');
  client.later('route add local 10.96.0.0/16 dev lo');
  client.later('route add local fd96::/64 dev lo');
  host.later('route add 10.96.0.0/16 via 10.95.0.2');
  host.later('route add fd96::/64 via fd95::2');
  // Addresses of a route are none of an interface (ip-sysctl).
  client.sysctl('net.ipv6.ip_nonlocal_bind', '1');
  for (const from of [host, client]) callers.set(from, fan(from, 'call'));
  await Promise.all(PORTS.map((port) => startProcess(port)));
});

afterAll(() => lab[Symbol.asyncDispose]());

/** A file of its own, of which lb4 takes no orders. */
function file(name: string, text: string): string {
  const path = join(lab.directory, `${name}.toml`);
  writeFileSync(path, `[control]\nenabled = false\n${text}`);
  return path;
}

const EQUAL = `ports = [${PORTS.join(', ')}]`;
const WEIGHTED = 'ports = { 3128 = 1, 3129 = 2, 3130 = 3, 3131 = 4 }';
/** Each at a port of its own. */
const LISTEN = { roundrobin: 3128, random: 4002, turns: 4003, lots: 4004, source: 4005, datagrams: 4006 } as const;

const CASES = `
[fan_out.roundrobin]
listen = "${LISTEN.roundrobin}"
local = true
${EQUAL}
[fan_out.random]
listen = "${LISTEN.random}"
balance = "random"
${EQUAL}
[fan_out.turns]
listen = "${HOST}:${LISTEN.turns}"
${WEIGHTED}
[fan_out.lots]
listen = "0.0.0.0:${LISTEN.lots}"
balance = "random"
${WEIGHTED}
[fan_out.datagrams]
listen = "${LISTEN.datagrams}"
protocol = "udp"
${EQUAL}
`;
const BY_SOURCE = `[fan_out.source]\nlisten = "${LISTEN.source}"\nbalance = "source"\n${EQUAL}\n`;

/** How many connections each process got; all must have been answered. One call at a time from each place. */
async function counts(from: Namespace, to: string, port: number, count: number, source = '', protocol = 'tcp'): Promise<number[]> {
  const caller = callers.get(from);
  const answer = caller?.nextLine(/^\{/);
  caller?.write(`${protocol} ${to} ${port} ${count} ${source}`.trim());
  return countsOf(JSON.parse((await answer) ?? '') as Answered);
}

function countsOf({ by, failed }: Answered): number[] {
  expect(failed).toEqual({});
  return PORTS.map((port) => by[port] ?? 0);
}

const fromClient = (port: number, count: number) => counts(client, HOST, port, count, SOURCE);

function chiSquare(found: readonly number[], shares: readonly number[]): number {
  const [count, whole] = [found, shares].map((all) => all.reduce((sum, one) => sum + one, 0)) as [number, number];
  return found.reduce((sum, one, i) => {
    const due = (count * (shares[i] ?? 0)) / whole;
    return sum + (one - due) ** 2 / due;
  }, 0);
}

/** Whether connections are shared out as is due. */
async function expectShares(port: number, shares: readonly number[]): Promise<void> {
  const draw = async () => chiSquare(await fromClient(port, MANY), shares);
  if ((await draw()) >= CRITICAL) expect(await draw()).toBeLessThan(CRITICAL);
}

/** All rules of this host, of every tool. */
function ruleset(): string {
  const legacy = "for save in iptables-legacy-save ip6tables-legacy-save; do $save -t nat 2>/dev/null | grep -v '^[#:]'; done";
  return host.sh('sh', '-c', `nft list ruleset; ${legacy}; :`).replaceAll(/counter packets \d+ bytes \d+ /g, '');
}

const DIALECTS = [
  { name: 'nft', dialect: 'nft', iptables: 'iptables' },
  { name: 'iptables-nft', dialect: 'iptables', iptables: 'iptables-nft' },
  { name: 'iptables-legacy', dialect: 'iptables', iptables: 'iptables-legacy' },
] as const;
type Tools = (typeof DIALECTS)[number];

function rules(config: string, ...words: string[]) {
  return host.run(LB4, 'rules', '--fan-out', `--config=${config}`, ...words);
}

/** The script of a configuration, as `lb4 rules --fan-out` prints it. */
function scriptOf({ name, dialect }: Tools, config: string): string {
  const path = config.replace(/\.toml$/, `-${name}.sh`);
  writeFileSync(path, renderFanOutScript(fanOutsFor(loadConfig(config, { mode: 'fan-out' }).config), dialect));
  return path;
}

function run({ iptables }: Tools, script: string, action: string) {
  return host.run('env', `LB4_IPTABLES=${iptables}`, 'sh', script, action);
}

async function good(ran: ReturnType<typeof run>): Promise<string> {
  const { code, stdout, stderr } = await ran;
  expect({ code, stderr, wrong: stdout.split('\n').filter((line) => /^(missing|stale)/.test(line)) }).toEqual({
    code: 0,
    stderr: '',
    wrong: [],
  });
  return stdout;
}

test('a control: a quarter three times over is not a quarter each', async () => {
  const add = (port: number, how: string) =>
    host.sh('sh', '-c', `iptables-legacy -t nat -A PREROUTING -p tcp --dport 3128 ${how} -j REDIRECT --to-port ${port}`);
  for (const port of [3129, 3130, 3131]) add(port, '-m statistic --mode random --probability 0.25');
  const found = await fromClient(3128, MANY);
  expect(chiSquare(found, [1, 1, 1, 1])).toBeGreaterThan(500);
  await expectShares(3128, [27, 16, 12, 9]);
  host.sh('iptables-legacy', '-t', 'nat', '-F');
});

describe.each(DIALECTS)('$name', (tools) => {
  test('spreads, tells what is there, swaps under load without a failure, and leaves nothing', async () => {
    const before = ruleset();
    const isNft = tools.name === 'nft';
    const text = isNft ? CASES + BY_SOURCE : CASES;
    const script = scriptOf(tools, file('cases', text));
    await good(run(tools, script, 'install'));
    const stands = ruleset();
    const status = await good(run(tools, script, 'status'));
    expect(status.match(/^present process/gm)).toHaveLength(2 * PORTS.length);

    expect(await fromClient(LISTEN.roundrobin, MANY)).toEqual([1000, 1000, 1000, 1000]);
    await expectShares(LISTEN.random, [1, 1, 1, 1]);
    expect(await fromClient(LISTEN.turns, 100)).toEqual([10, 20, 30, 40]);
    await expectShares(LISTEN.lots, [1, 2, 3, 4]);
    if (isNft) {
      // No chance is in it: these addresses have these places.
      const found = await fromClient(LISTEN.source, MANY);
      expect(chiSquare(found, [1, 1, 1, 1])).toBeLessThan(CRITICAL);
      expect(await fromClient(LISTEN.source, MANY)).toEqual(found);
      const found6 = await counts(client, HOST6, LISTEN.source, 100, SOURCE6);
      expect(found6.filter((count) => count > 0).length).toBeGreaterThan(1);
      expect(await counts(client, HOST6, LISTEN.source, 100, SOURCE6)).toEqual(found6);
    }
    expect(await counts(client, HOST, LISTEN.datagrams, 100, SOURCE, 'udp')).toEqual([25, 25, 25, 25]);
    expect(await counts(client, HOST6, LISTEN.datagrams, 100, SOURCE6, 'udp')).toEqual([25, 25, 25, 25]);
    // IPv6, by a rule of its own or the same one; programs of this host; and a process by its own port.
    expect(await counts(client, HOST6, LISTEN.roundrobin, 100, SOURCE6)).toEqual([25, 25, 25, 25]);
    expect(await counts(host, '127.0.0.1', LISTEN.roundrobin, 100)).toEqual([25, 25, 25, 25]);
    expect(await counts(host, HOST, LISTEN.roundrobin, 100)).toEqual([25, 25, 25, 25]);
    expect(await fromClient(3130, 20)).toEqual([0, 0, 20, 0]);

    await good(run(tools, script, 'install'));
    expect(ruleset()).toBe(stands);

    const load = fan(client, 'load', HOST, `${LISTEN.random}`, SOURCE);
    await load.line(/^calling/);
    const other = scriptOf(tools, file('other', text.replaceAll(EQUAL, 'ports = [3129, 3131]')));
    for (const one of [other, script, other]) await good(run(tools, one, 'install'));
    load.end();
    const held = countsOf(JSON.parse(await load.line(/^\{/)) as Answered);
    expect(Math.min(...held)).toBeGreaterThan(0);
    expect(await fromClient(LISTEN.roundrobin, 100)).toEqual([0, 50, 0, 50]);

    const missing = await run(tools, script, 'status');
    expect(missing.code).toBe(3);
    expect(missing.stdout).toMatch(/^missing .*3130/m);
    await good(run(tools, script, 'remove'));
    expect(ruleset()).toBe(before);
  });
});

test('one dialect takes the place of the other, and status tells of processes that do not hear', async () => {
  const before = ruleset();
  const config = file('turns', `[fan_out.squid]\nlisten = "3128"\nports = [3129, 3199, 3198]\n`);
  await startProcess(3199, '127.0.0.1');
  const script = join(lab.directory, 'printed.sh');
  writeFileSync(script, (await rules(config, '--dialect', 'iptables')).stdout);
  await good(run(DIALECTS[1], script, 'install'));
  await good(rules(config, '--apply'));
  expect(host.sh('iptables-nft-save', '-t', 'nat')).not.toMatch(/lb4/);
  const { code, stdout } = await rules(config, '--status');
  expect(code).toBe(3);
  expect(stdout.split('\n').slice(1)).toEqual([
    'present process at port 3129/tcp',
    'missing process at port 3199/tcp, at all addresses: it listens at 127.0.0.1 alone',
    'missing process at port 3198/tcp: nobody listens',
    '',
  ]);
  const { stdout: doctor } = await host.run(LB4, 'doctor', `--config=${config}`);
  expect(
    doctor
      .split('\n')
      .filter((line) => !line.startsWith('warn  running'))
      .map((line) => line.replace(/; mend.*/, '')),
  ).toEqual([
    'ok    privileges: CAP_NET_ADMIN, CAP_NET_RAW',
    'ok    fan-out: the kernel has all rules of the file (1); nobody takes out a process that dies: no lb4 --fan-out runs',
    'fail  processes: the process at port 3199/tcp, at all addresses: it listens at 127.0.0.1 alone; its share of connections is refused',
    'fail  processes: the process at port 3198/tcp: nobody listens; its share of connections is refused',
    '',
  ]);
  // What somebody else has written into the table of lb4 stays there; ours go.
  host.sh('nft', 'add', 'rule', 'inet', 'lb4_fan_out', 'prerouting', 'tcp', 'dport', '9', 'accept');
  expect(await rules(config, '--remove')).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/table inet lb4_fan_out stays, without lb4's rules: .*not lb4's: tcp dport 9 accept\n$/) as string,
  });
  expect(host.sh('nft', 'list', 'table', 'inet', 'lb4_fan_out')).toMatch(/^(?![^]*redirect)[^]*tcp dport 9 accept/);
  host.sh('nft', 'delete', 'table', 'inet', 'lb4_fan_out');
  expect(ruleset()).toBe(before);

  // And what he adds to a table of iptables, at the last moment, too.
  await good(run(DIALECTS[1], script, 'install'));
  const late = join(lab.directory, 'late');
  mkdirSync(late);
  const add = 'iptables-nft -t nat -A PREROUTING -p tcp --dport 9 -j ACCEPT';
  writeFileSync(
    join(late, 'nft'),
    `#!/bin/sh\nPATH=\${PATH#*:}\nnft "$@"\ncode=$?\n[ "$*" != 'list table ip nat' ] || ${add}\nexit $code\n`,
    { mode: 0o755 },
  );
  await good(host.run('env', `PATH=${late}:${process.env['PATH']}`, 'LB4_IPTABLES=iptables-nft', 'sh', script, 'remove'));
  expect(host.sh('iptables-nft-save', '-t', 'nat')).toMatch(/^-A PREROUTING -p tcp .*--dport 9 -j ACCEPT$/m);
  host.sh('nft', 'delete', 'table', 'ip', 'nat');
  expect(ruleset()).toBe(before);
});

/** Where lb4 finds no nft. */
const WITHOUT_NFT = [
  'unshare',
  '-m',
  'sh',
  '-c',
  'mount --bind /dev/null "$(command -v nft)" && export LB4_IPTABLES=iptables-legacy && exec "$@"',
  'sh',
];

test.each([
  { name: 'nft', around: [] as string[], more: BY_SOURCE, idle: 'tcp dport 4007 ct state new' },
  { name: 'iptables-legacy', around: WITHOUT_NFT, more: '', idle: '--dport 4007 -m addrtype --dst-type LOCAL -m conntrack --ctstate NEW' },
])('lb4 set, $name: a process that drains gets no new connections, keeps its own, and comes back', async ({ around, more, idle }) => {
  const before = ruleset();
  const socket = join(lab.directory, 'control.sock');
  const held = `[fan_out.held]\nlisten = "4007"\nports = [3301, 3302]\n`;
  const config = join(lab.directory, 'drains.toml');
  writeFileSync(config, `[control]\npath = "${socket}"\n[fan_out.squid]\nlisten = "3128"\n${EQUAL}\n${held}${more}`);
  const servers = [3301, 3302].map((port) => host.program('backend', `${port}`, `echo=${port}`));
  await Promise.all(servers.map((server) => server.line(/^listening/)));
  const running = host.start([...around, LB4, '--fan-out', `--config=${config}`]);
  await running.line(/"ready"/);
  const ctl = (...words: string[]) => host.run(LB4, ...words, '--control', socket);
  const set = async (...words: string[]) => expect(await ctl('set', 'server', ...words)).toMatchObject({ code: 0, stderr: '' });
  const hold = () => holdConnections(client, 4, `${HOST}:4007`);
  const at = async (holding: Running) => (await report(holding)).map(({ server }) => server).sort();

  // One of two, then both: with the last rule of NAT conntrack would be at rest.
  const both = await hold();
  expect(await at(both)).toEqual(['3301', '3301', '3302', '3302']);
  await set('held/3301', 'state', 'drain');
  const other = await hold();
  expect(await at(other)).toEqual(['3302', '3302', '3302', '3302']);
  await set('held/3302', 'state', 'drain');
  await set('squid/3128', 'weight', '0');
  for (const port of [3129, 3130, 3131]) await set(`squid/${port}`, 'state', port === 3130 ? 'down' : 'drain');
  if (more !== '') for (const port of PORTS) await set(`source/${port}`, 'state', 'drain');
  expect(ruleset()).toContain(idle);
  expect(ruleset()).not.toContain('redir');
  expect((await client.run('curl', '-sS', '--max-time', '60', `http://${HOST}:4007/`)).stderr).toMatch(/refused|Couldn't connect/);
  for (const holding of [both, other]) expect(await othersLiveOn(holding)).toEqual([]);
  await set('held/3301', 'state', 'ready');
  const back = await hold();
  expect(await at(back)).toEqual(['3301', '3301', '3301', '3301']);
  for (const holding of [both, other, back]) {
    expect(await othersLiveOn(holding)).toEqual([]);
    await holding.stop('SIGKILL');
  }

  // Weights, and where clients have their places nobody else's changes.
  for (const port of [3129, 3131]) await set(`squid/${port}`, 'state', 'ready');
  await set('squid/3128', 'weight', '3');
  expect(await fromClient(3128, 100)).toEqual([60, 20, 0, 20]);
  await set('squid/3130', 'state', 'ready');
  await set('squid/3128', 'weight', '1');
  expect(await fromClient(3128, 100)).toEqual([25, 25, 25, 25]);
  if (more !== '') {
    for (const port of PORTS.filter((one) => one !== 3130)) await set(`source/${port}`, 'state', 'ready');
    expect(ruleset()).toMatch(/jhash ip saddr mod 4 seed \S+ map \{ 0 : 3128, 1 : 3129, 2 : 3128, 3 : 3131 \}/);
    expect((await fromClient(LISTEN.source, 400))[2]).toBe(0);
  }
  expect(await ctl('wait', 'squid/3130', 'drained')).toMatchObject({
    code: 5,
    stderr: expect.stringMatching(/squid\/3130 cannot be waited for: lb4 --fan-out sees no connections, .*"sport = :3130"\n$/) as string,
  });
  for (const words of [['flows'], ['kill', 'flows', '--server', 'squid/3130']])
    expect(await ctl(...words)).toMatchObject({ code: 5, stderr: expect.stringMatching(/lb4 --fan-out sees no connections/) as string });
  expect(await running.stop()).toEqual({ code: 0, signal: null });
  for (const server of servers) await server.stop();
  expect(ruleset()).toBe(before);
});

test('lb4 --fan-out: a process that dies goes out, and comes back; its rules are put back, and go at its end', async () => {
  const before = ruleset();
  const text = `[fan_out.squid]\nlisten = "3128"\nlocal = true\n${EQUAL}\n${QUICK}\n`;
  const config = file('running', text);
  const running = host.start([LB4, '--fan-out', `--config=${config}`]);
  await running.line(/"ready"/);
  // In use: the checks go past the rules, and each meets its own process.
  expect(await fromClient(3128, 100)).toEqual([25, 25, 25, 25]);

  const other = await host.run(LB4, '--fan-out', `--config=${config}`);
  expect(other.stderr + other.stdout).toMatch(/keeps a fan-out in this network namespace already/);
  expect((await rules(config, '--remove')).stderr).toMatch(/lb4 --fan-out \(pid \d+\) runs here/);

  const down = running.nextLine(/squid \/ 3130 .*server down/);
  await kill(3130);
  expect(await down).toMatch(/, at 127\.76\.66\.52:3130, where only who listens at all addresses answers/);
  await waitUntil(() => !ruleset().includes('3130'), { what: 'rules without the dead process' });
  expect(await fromClient(3128, 90)).toEqual([30, 30, 0, 30]);
  const up = running.nextLine(/squid \/ 3130 .*server up again/);
  await startProcess(3130);
  await up;
  await waitUntil(() => ruleset().includes('3130'), { what: 'rules with the process that is back' });

  // Its file is read again under load, and what somebody flushes is put back.
  const load = fan(client, 'load', HOST, '3128', SOURCE);
  await load.line(/^calling/);
  for (const ports of ['ports = [3128, 3129, 3131]', EQUAL]) {
    const taken = running.nextLine(/configuration reloaded/);
    file('running', text.replace(EQUAL, ports));
    await taken;
  }
  load.end();
  countsOf(JSON.parse(await load.line(/^\{/)) as Answered);
  const putBack = running.nextLine(/rules of the fan-out were missing and are put back/);
  host.sh('nft', 'flush', 'ruleset');
  await putBack;
  expect(await fromClient(3128, 100)).toEqual([25, 25, 25, 25]);

  // Nobody who calls notices that it is killed and started anew, nor that another one takes over, which knows what its checks had found out.
  const restarts = fan(client, 'load', HOST, '3128', SOURCE);
  await restarts.line(/^calling/);
  await running.stop('SIGKILL');
  expect((await host.run(LB4, 'doctor', `--config=${config}`)).stdout).toMatch(
    /^fail {2}killed: an lb4 --fan-out \(pid \d+\) was killed here/m,
  );
  const second = host.start([LB4, '--fan-out', `--config=${config}`]);
  await second.line(/"ready"/);
  restarts.end();
  countsOf(JSON.parse(await restarts.line(/^\{/)) as Answered);
  const down2 = second.nextLine(/squid \/ 3130 .*server down/);
  await kill(3130);
  await down2;
  await waitUntil(() => !ruleset().includes('3130'), { what: 'rules without the dead process' });
  const takeover = fan(client, 'load', HOST, '3128', SOURCE);
  await takeover.line(/^calling/);
  const third = host.start([LB4, '--fan-out', '--takeover', `--config=${config}`]);
  await third.line(/"ready"/);
  expect(await second.exited).toEqual({ code: 0, signal: null });
  takeover.end();
  expect(countsOf(JSON.parse(await takeover.line(/^\{/)) as Answered)[2]).toBe(0);
  const upAgain = third.nextLine(/squid \/ 3130 .*server up again/);
  await startProcess(3130);
  await upAgain;
  await waitUntil(() => ruleset().includes('3130'), { what: 'rules with the process that is back' });

  // At SIGQUIT the kernel goes on alone; the next start and its end leave nothing.
  expect(await third.stop('SIGQUIT')).toEqual({ code: 0, signal: null });
  expect(await fromClient(3128, 100)).toEqual([25, 25, 25, 25]);
  const next = host.start([LB4, '--fan-out', `--config=${config}`]);
  await next.line(/"ready"/);
  expect(await next.stop()).toEqual({ code: 0, signal: null });
  expect(ruleset()).toBe(before);
});

test('lb4 --fan-out on a host without nft goes by iptables', async () => {
  const before = ruleset();
  const config = file('iptables', `[fan_out.squid]\nlisten = "3128"\n${EQUAL}\n${QUICK}\n`);
  const running = host.start([...WITHOUT_NFT, LB4, '--fan-out', `--config=${config}`]);
  await running.line(/"ready"/);
  expect(await fromClient(3128, 100)).toEqual([25, 25, 25, 25]);
  expect(await counts(client, HOST6, 3128, 100, SOURCE6)).toEqual([25, 25, 25, 25]);
  expect(host.sh('nft', 'list', 'ruleset')).not.toContain('lb4');
  const down = running.nextLine(/squid \/ 3129 .*server down/);
  await kill(3129);
  await down;
  await waitUntil(() => !ruleset().includes('3129'), { what: 'rules without the dead process' });
  expect(await fromClient(3128, 90)).toEqual([30, 0, 30, 30]);
  const putBack = running.nextLine(/rules of the fan-out were missing and are put back/);
  host.sh('iptables-legacy', '-t', 'nat', '-F');
  await putBack;
  expect(await running.stop()).toEqual({ code: 0, signal: null });
  expect(ruleset()).toBe(before);
});
