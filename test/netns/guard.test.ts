/** What lb4 has put on the host, while others take it away: noticed, put back, told in one line, counted. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { answeredBy } from '../lab/answers.ts';
import { Balancer, configuration, LB4, STATS_PORT, writeConfiguration } from '../lab/balancer.ts';
import { VIP as DSR_VIP, DsrTopology } from '../lab/dsr-topology.ts';
import { wrapTools } from '../lab/tools.ts';
import { serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { waitUntil } from '../lab/wait.ts';

const RESERVED = 'net.ipv4.ip_local_reserved_ports';
const STATS = `http://127.0.0.1:${STATS_PORT}`;

interface Health {
  readonly code: number;
  readonly body: { readonly status: string; readonly reasons?: readonly string[] };
}

async function healthOf({ balancer }: Topology): Promise<Health> {
  const { stdout } = await balancer.run('curl', '-sS', '--max-time', '60', '-w', '\n%{http_code}', `${STATS}/healthz`);
  const [body = '', code] = stdout.split('\n').filter(Boolean);
  return { code: Number(code), body: JSON.parse(body) as Health['body'] };
}

async function metricsOf({ balancer }: Topology, what: string): Promise<{ repairs: number; missing: number }> {
  const { stdout } = await balancer.run('curl', '-sS', '--max-time', '60', `${STATS}/metrics`);
  const value = (name: string) =>
    Number(
      stdout
        .split('\n')
        .find((line) => line.startsWith(`${name}{what="${what}"} `))
        ?.split(' ')[1],
    );
  return { repairs: value('lb4_host_repairs_total'), missing: value('lb4_host_missing') };
}

async function served({ client }: Topology): Promise<void> {
  expect((await client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`)).stdout).toMatch(/^server/);
}

describe('rules and reserved ports in passthrough', () => {
  let lab: Topology;
  let balancer: Balancer;
  let before: string[];

  beforeAll(async () => {
    lab = new Topology({ servers: 2 });
    balancer = await lab.serve();
    before = traces(lab.balancer).rules;
  });
  afterAll(async () => {
    await lab[Symbol.asyncDispose]();
  });

  const count = (pattern: RegExp) => balancer.running.lines.filter((line) => pattern.test(line)).length;

  test('iptables -t raw -F: put back by itself within seconds, told in one line, counted, and traffic passes again', async () => {
    await served(lab);
    const told = balancer.running.nextLine(
      /firewall rules were missing and are put back .*a restart of the firewall does this.*operations\.md/,
    );
    lab.balancer.sh('iptables', '-t', 'raw', '-F');
    await told;
    expect(traces(lab.balancer).rules).toEqual(before);
    await served(lab);
    expect(await metricsOf(lab, 'rules')).toEqual({ repairs: 1, missing: 0 });
    expect(await healthOf(lab)).toMatchObject({ code: 200, body: { status: 'ok' } });
    expect(count(/firewall rules/)).toBe(1);
  });

  test.each([
    ['one rule is deleted', 'rules', () => lab.balancer.sh('sh', '-c', `iptables -t raw -D ${before[0]?.slice(3)}`)],
    ['a rule is doubled', 'rules', () => lab.balancer.sh('sh', '-c', `iptables -t raw ${before[0]}`)],
    [
      'an ACCEPT comes above them',
      'rules',
      () => lab.balancer.sh('iptables', '-t', 'raw', '-I', 'PREROUTING', '-p', 'tcp', '-j', 'ACCEPT'),
    ],
    ['nft flush ruleset', 'rules', () => lab.balancer.sh('nft', 'flush', 'ruleset')],
    ['the table lb4_untracked is deleted', 'rules', () => lab.balancer.sh('nft', 'delete', 'table', 'ip', 'lb4_untracked')],
    ['the reserved ports are emptied', 'reserved_ports', () => lab.balancer.sysctl(RESERVED, '')],
    ['the reserved ports are narrowed', 'reserved_ports', () => lab.balancer.sysctl(RESERVED, '1000,33768-60000')],
  ])('SIGHUP repairs at once: %s', async (_, what, spoil) => {
    const { repairs } = await metricsOf(lab, what);
    spoil();
    const reloaded = balancer.running.nextLine(/"configuration reloaded"/);
    balancer.running.signal('SIGHUP');
    await reloaded;
    expect(traces(lab.balancer).rules.filter((rule) => rule.endsWith('-j DROP'))).toEqual(before);
    expect(traces(lab.balancer).reserved).toMatch(/33768-61000$/);
    expect(lab.balancer.sh('nft', 'list', 'table', 'ip', 'lb4_untracked').match(/notrack comment "lb4 /g)).toHaveLength(2);
    expect(await metricsOf(lab, what)).toEqual({ repairs: repairs + 1, missing: 0 });
  });

  test('in the end it leaves nothing but the list that somebody else wrote last', async () => {
    expect(await balancer.stop()).toEqual({ code: 0, signal: null });
    expect(traces(lab.balancer)).toEqual({ ...NOTHING, reserved: '1000,33768-60000' });
  });
});

test.concurrent('by iptables-legacy, what cannot be put back: told once, /healthz says 503 and why, and all is well when it can again', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const { wrapper, broken } = wrapTools(lab);
  const file = writeConfiguration(lab.balancer, configuration(lab.settings()));
  const running = lab.balancer.start([LB4, '--passthrough', `--config=${file}`], { env: { LB4_IPTABLES: wrapper } });
  await running.line(/"msg":"ready"/);
  writeFileSync(broken, '');
  lab.balancer.sh('iptables-legacy', '-t', 'raw', '-F');
  running.signal('SIGHUP');
  await running.line(/firewall rules: missing .*cannot be put back: .*xtables lock/);
  expect(await healthOf(lab)).toMatchObject({
    code: 503,
    body: { status: 'broken', reasons: [expect.stringMatching(/^firewall rules: missing -.*, and 3 more: .*xtables lock/)] },
  });
  expect((await metricsOf(lab, 'rules')).missing).toBe(4);
  const again = running.nextLine(/"configuration reloaded"/);
  running.signal('SIGHUP');
  await again;
  expect(running.lines.filter((line) => /xtables lock/.test(line))).toHaveLength(1);
  rmSync(broken);
  await running.line(/firewall rules were missing and are put back/);
  expect(await healthOf(lab)).toMatchObject({ code: 200, body: { status: 'ok' } });
  expect(await metricsOf(lab, 'rules')).toEqual({ repairs: 1, missing: 0 });
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});

test.concurrent('rules of a server that is gone cannot be taken away: one that dies leaves rotation all the same, and they go later', async () => {
  await using lab = new Topology({ servers: 3 });
  await lab.startBackends();
  const { wrapper, broken } = wrapTools(lab);
  const { http } = lab.settings().frontends;
  const text = (servers: readonly string[]) => configuration({ frontends: { http: { listen: `${VIP}:80`, servers } } });
  const all = http?.servers ?? [];
  const file = writeConfiguration(lab.balancer, text(all));
  const running = lab.balancer.start([LB4, '--passthrough', `--config=${file}`], { env: { LB4_IPTABLES: wrapper } });
  await running.line(/"msg":"ready"/);
  const balancer = new Balancer(lab.balancer, running, `${STATS}/stats`);
  await balancer.health(Object.fromEntries(all.map((server) => [server, true])));
  writeFileSync(broken, '');
  writeFileSync(file, text(all.slice(1)));
  running.signal('SIGHUP');
  await running.line(/firewall rules: missing \(stale .*cannot be put back: .*xtables lock/);
  await lab.killBackend(1);
  await balancer.health({ [all[1]]: false });
  await answeredBy(lab.client, VIP, 'server3');
  rmSync(broken);
  await running.line(/firewall rules were missing and are put back \(stale /);
  expect(lab.balancer.sh('iptables-legacy-save', '-t', 'raw')).not.toContain('10.72.0.11/');
  expect(running.lines.filter((line) => /could not apply|xtables lock/.test(line))).toHaveLength(1);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});

test.concurrent.each([
  { what: 'the form input, its rules in raw', flush: ['raw'], bridged: true },
  { what: 'the form input, its rules in mangle', flush: ['mangle'], bridged: true },
  { what: 'the form input, both', flush: ['raw', 'mangle'], bridged: true },
  { what: 'DSR', flush: ['raw'], bridged: false },
])('$what: flushed, put back by itself, and traffic passes again', async ({ flush, bridged }) => {
  await using lab = bridged ? new Topology({ servers: 2, bridged }) : new DsrTopology();
  const { balancer } = lab;
  if (bridged) balancer.sysctl('net.bridge.bridge-nf-call-iptables', '1');
  let vip = VIP;
  let running: Balancer;
  if (lab instanceof DsrTopology) {
    vip = DSR_VIP;
    await lab.startServers();
    lab.rules(lab.settings('nat'), 'install');
    running = await lab.serve(lab.settings('nat'));
  } else running = await lab.serve();
  const before = traces(balancer).rules;
  expect(before.some((rule) => rule.includes('-j CT --notrack'))).toBe(bridged);
  const told = running.running.nextLine(/firewall rules were missing and are put back/);
  for (const table of flush) balancer.sh('iptables', '-t', table, '-F');
  await told;
  expect(traces(balancer).rules).toEqual(before);
  expect((await lab.client.run('curl', '-sS', '--max-time', '60', `http://${vip}/`)).stdout).toMatch(/^server/);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});

test('while a tool of the firewall hangs, a server that dies leaves rotation, and comes back', async () => {
  await using lab = new Topology({ servers: 2 });
  await lab.startBackends();
  const { wrapper, hanging } = wrapTools(lab);
  const file = writeConfiguration(lab.balancer, configuration(lab.settings()));
  const running = lab.balancer.start([LB4, '--passthrough', `--config=${file}`], { env: { LB4_IPTABLES: wrapper } });
  await running.line(/"msg":"ready"/);
  const balancer = new Balancer(lab.balancer, running, `${STATS}/stats`);
  const servers = [0, 1].map((index) => `${serverAddress(index)}:80`) as [string, string];
  await balancer.health({ [servers[0]]: true, [servers[1]]: true });
  // A look may hang for ten seconds: both changes are to come within one.
  const isAlive = (pid: number) => existsSync(`/proc/${pid}`);
  const withinOne = async () => {
    writeFileSync(hanging, '');
    const pid = await waitUntil(() => Number(readFileSync(hanging, 'utf8')) || undefined, { what: 'a tool to hang' });
    await lab.killBackend(0);
    await balancer.health({ [servers[0]]: false });
    await answeredBy(lab.client, VIP, 'server2');
    await lab.startBackend(0);
    await balancer.health({ [servers[0]]: true });
    return isAlive(pid);
  };
  let isWithin = false;
  for (let tries = 0; tries < 5 && !isWithin; tries++) isWithin = await withinOne();
  expect(isWithin).toBe(true);
  rmSync(hanging);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});
