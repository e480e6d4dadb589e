/** Proxy mode: limits, queues, timeouts, and too few descriptors. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { RESET } from '../lab/answers.ts';
import { Balancer, configuration, type Frontend, LB4, STATS_PORT, startBalancer, writeConfiguration } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import type { Namespace } from '../lab/lab.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { pause, waitUntil } from '../lab/wait.ts';

/** Seldom, and without an end: what passes must not change who is chosen. */
const CALM = 'health_check_interval = 60\nhealth_check_fall = 100';

/** Seconds: what a timeout of one second or less ends has ended by then, on a busy machine too. */
const SOON = 15;

/** Seconds: a timer of Node.js begins with the whole millisecond that it is in. */
const EARLY = 0.001;

interface Answer {
  /** 000: none. */
  readonly status: string;
  /** curl's: 0, or one of RESET. */
  readonly code: number;
  /** Seconds. */
  readonly time: number;
  readonly server: string;
  /** Requests that the server had at a time so far. */
  readonly most: number;
}

const FORMAT = '%{http_code} %{exitcode} %{time_total} %header{x-server} %header{x-most}\n';

/** `count` requests at once, each over a connection of its own; in the order in which they ended. */
async function requests(client: Namespace, count: number, path: string): Promise<Answer[]> {
  const parallel = ['-Z', '--parallel-immediate', '--parallel-max', `${count}`, '-H', 'Connection: close'];
  const { stdout } = await client.run(
    'curl',
    '-s',
    '-m',
    '20',
    ...parallel,
    '-o',
    '/dev/null',
    '-w',
    FORMAT,
    `http://${VIP}${path}?[1-${count}]`,
  );
  return stdout
    .trim()
    .split('\n')
    .map((line) => {
      const [status = '', code, time, server = '', most] = line.split(' ');
      return { status, code: Number(code), time: Number(time), server, most: Number(most) };
    });
}

const count = (answers: readonly Answer[], status: string): number => answers.filter((answer) => answer.status === status).length;

const highest = (answers: readonly Answer[]): number => Math.max(...answers.map(({ most }) => most));

/** A frontend on VIP:80 over the first servers. */
async function start(lab: Topology, more: Partial<Frontend> = {}): Promise<Balancer> {
  const servers = lab.servers.map((_, index) => `${serverAddress(index)}:${HTTP}`);
  const http = { listen: `${VIP}:${HTTP}`, servers, ...more };
  return startBalancer(lab.balancer, { frontends: { http }, more: '[proxy]\nworkers = 2\ngrace_period = 1' }, { args: ['proxy'] });
}

/** Drops what comes for a server's HTTP port, as a firewall does. */
function blackhole(server: Namespace | undefined): void {
  server?.sh('nft', 'add table ip lab; add chain ip lab input { type filter hook input priority 0; }');
  server?.sh('nft', `add rule ip lab input tcp dport ${HTTP} drop`);
}

// ---- connecting

test('a server that does not answer SYNs beside a good one: each request is answered, connect_timeout later at most', async () => {
  await using lab = new Topology({ servers: 2 });
  await lab.startBackends();
  const balancer = await start(lab, { backend: `${CALM}\nconnect_timeout = 0.5` });
  blackhole(lab.servers[0]);
  const answers = await requests(lab.client, 20, '/');
  expect(answers.map(({ status, server }) => `${status} ${server}`)).toEqual(Array(20).fill('200 server2'));
  // Half of them went there first: a second after that the kernel would have sent its SYN again, and waited for minutes.
  const late = answers.filter(({ time }) => time >= 0.5 - EARLY);
  expect(late.length).toBeGreaterThanOrEqual(9);
  expect(Math.max(...answers.map(({ time }) => time))).toBeLessThan(SOON);
  const { total_connections } = await balancer.settled('rest', ({ current_connections }) => current_connections === 0);
  expect(total_connections).toBe(20);
  expect((await balancer.stop()).code).toBe(0);
});

test('no server answers: a reset after the first and `retries` more', async () => {
  await using lab = new Topology({ servers: 3 });
  await lab.startBackends();
  const balancer = await start(lab, { backend: `${CALM}\nconnect_timeout = 0.5\nretries = 1` });
  lab.servers.forEach(blackhole);
  for (const { code, time } of await requests(lab.client, 6, '/')) {
    expect(code).toBe(56);
    expect(time).toBeGreaterThanOrEqual(1 - 2 * EARLY);
    expect(time).toBeLessThan(SOON);
  }
  await balancer.settled('rest', ({ current_connections }) => current_connections === 0);
  expect((await balancer.stop()).code).toBe(0);
});

// ---- limits and queues

test('maxconn = 1 for each server: 20 clients at once are served in turn', async () => {
  await using lab = new Topology({ servers: 2 });
  await lab.startBackends();
  const balancer = await start(lab, { backend: CALM, server: 'maxconn = 1' });
  const answers = await requests(lab.client, 20, '/wait/50');
  expect(count(answers, '200')).toBe(20);
  expect(highest(answers)).toBe(1);
  expect(new Set(answers.map(({ server }) => server)).size).toBe(2);
  expect((await balancer.stop()).code).toBe(0);
});

test('queue_timeout: who waited so long is reset; the one that is served is not', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const balancer = await start(lab, { backend: `${CALM}\nqueue_timeout = 0.5`, server: 'maxconn = 1' });
  const answers = await requests(lab.client, 5, '/wait/1500');
  expect(count(answers, '200')).toBe(1);
  for (const { code, time } of answers.filter(({ status }) => status !== '200')) {
    expect(code).toBe(56);
    expect(time).toBeGreaterThanOrEqual(0.5);
    expect(time).toBeLessThan(SOON);
  }
  expect((await balancer.stop()).code).toBe(0);
});

test('max_queue: so many wait, the others are reset at once', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const balancer = await start(lab, { backend: `${CALM}\nmax_queue = 3`, server: 'maxconn = 1' });
  const answers = await requests(lab.client, 10, '/wait/500');
  expect(count(answers, '200')).toBe(4);
  // They come first.
  for (const { code } of answers.slice(0, 6)) expect(RESET).toContain(code);
  expect(highest(answers.slice(6))).toBe(1);
  expect((await balancer.stop()).code).toBe(0);
});

test('a frontend’s maxconn = 5: never more at the servers, all are served', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const balancer = await start(lab, { backend: CALM, frontend: 'maxconn = 5' });
  const answers = await requests(lab.client, 40, '/wait/100');
  expect(count(answers, '200')).toBe(40);
  expect(highest(answers)).toBe(5);
  expect((await balancer.stop()).code).toBe(0);
});

// ---- silence

test.each([
  ['client_timeout', { frontend: 'client_timeout = 1' }],
  ['server_timeout', { backend: `${CALM}\nserver_timeout = 1` }],
])('%s ends a silent connection by a reset, and leaves a long one-way download alone', async (_key, lines) => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const balancer = await start(lab, { backend: CALM, ...lines, servers: [`${serverAddress(0)}:${ECHO}`] });
  const began = performance.now();
  const { stdout, stderr } = await lab.client.run('bash', '-c', `exec 3<>/dev/tcp/${VIP}/${HTTP}; cat <&3`);
  const silent = performance.now() - began;
  expect(stdout).toMatch(/^server1 /);
  expect(stderr).toMatch(/reset/);
  expect(silent).toBeGreaterThanOrEqual(1000);
  expect(silent).toBeLessThan(1000 * SOON);
  expect((await balancer.stop()).code).toBe(0);

  const other = await start(lab, { backend: CALM, ...lines });
  const size = 4_000_000; // 2.4 s
  const { stdout: got } = await lab.client.run(
    'curl',
    '-sS',
    '-o',
    '/dev/null',
    '-w',
    '%{size_download} %{time_total}',
    `http://${VIP}/drip/${size}`,
  );
  expect(Number(got.split(' ')[0])).toBe(size);
  expect(Number(got.split(' ')[1])).toBeGreaterThan(2);
  expect((await other.stop()).code).toBe(0);
});

// ---- descriptors

/** User and system time of all threads, in hundredths of a second. */
function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

/** lb4 that may have so many descriptors, all its servers up. */
async function startWith(lab: Topology, descriptors: number): Promise<Balancer> {
  const file = writeConfiguration(lab.balancer, configuration(lab.settings({ more: '[proxy]\nworkers = 2\ngrace_period = 1' })));
  const running = lab.balancer.start(['prlimit', `--nofile=${descriptors}`, LB4, `--config=${file}`]);
  await running.line(/"msg":"ready"/);
  const balancer = new Balancer(lab.balancer, running, `http://127.0.0.1:${STATS_PORT}/stats`);
  await expectHealthy(balancer);
  return balancer;
}

async function expectHealthy(balancer: Balancer): Promise<void> {
  await balancer.health(
    Object.fromEntries([0, 1].flatMap((index) => [HTTP, ECHO].map((port) => [`${serverAddress(index)}:${port}`, true]))),
  );
  expect(balancer.running.lines.filter((line) => line.includes('server down'))).toEqual([]);
}

test('more clients than descriptors: they wait and are served when others leave; checks and statistics go on', async () => {
  await using lab = new Topology({ servers: 2 });
  await lab.startBackends();
  const balancer = await startWith(lab, 160);
  const first = await holdConnections(lab.client, 35, `${VIP}:${ECHO}`);
  const second = lab.client.program('client', 'hold', '35', `${VIP}:${ECHO}`);
  await balancer.running.line(/ulimit -n/);
  await balancer.settled('as many as there may be', (stats) => stats.current_connections >= 40);
  await pause(1_000);
  // Half of the descriptors are kept back, two make a connection.
  expect((await balancer.stats()).current_connections).toBe(40);
  expect(await othersLiveOn(first)).toEqual([]);
  expect((await report(second)).filter(({ ended }) => ended !== undefined)).toEqual([]);
  first.end();
  await second.line(/^holding/);
  expect(await othersLiveOn(second)).toEqual([]);
  second.end();
  expect((await requests(lab.client, 20, '/')).map(({ status }) => status)).toEqual(Array(20).fill('200'));
  await expectHealthy(balancer);
  // Another test's lb4 may have the control socket.
  const warnings = balancer.running.lines.filter((line) => line.includes('"level":"warn"') && !line.includes('control:'));
  expect(warnings.length, warnings.join('\n')).toBeLessThanOrEqual(8);
  expect(warnings.every((line) => line.includes('ulimit'))).toBe(true);
  expect((await balancer.stop()).code).toBe(0);
});

test('not one descriptor left (EMFILE): it says so, blames no server, keeps its listeners, and serves again', async () => {
  await using lab = new Topology({ servers: 2 });
  await lab.startBackends();
  const balancer = await startWith(lab, 160);
  const { pid } = balancer.running;
  const held = await holdConnections(lab.client, 10, `${VIP}:${ECHO}`);
  // Lower than any that is free: nothing can be opened any more.
  lab.balancer.sh('prlimit', `--pid=${pid}`, '--nofile=3:160');
  const answers = requests(lab.client, 20, '/');
  await balancer.running.line(/no connection can be accepted/);
  // Clients knock all the time: a worker that only asks again and again would take a whole processor, 200 ticks.
  const before = cpuTicks(pid);
  await pause(2_000);
  expect(cpuTicks(pid) - before).toBeLessThan(100);
  expect(await othersLiveOn(held)).toEqual([]);
  lab.balancer.sh('prlimit', `--pid=${pid}`, '--nofile=160:160');
  // They waited in the kernel.
  expect((await answers).map(({ status }) => status)).toEqual(Array(20).fill('200'));
  const urls = Array.from({ length: 20 }, () => `http://${VIP}/`);
  const again = () => lab.client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
  await waitUntil(async () => (await again()).code === 0, { what: 'answers again' });
  await expectHealthy(balancer);
  const said = balancer.running.lines.filter((line) => /no resources|no connection can be accepted/.test(line));
  expect(said.length, said.join('\n')).toBeLessThanOrEqual(12);
  held.end();
  expect((await balancer.stop()).code).toBe(0);
});
