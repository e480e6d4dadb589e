/** Proxy mode: ordinary traffic of ordinary clients. */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Balancer, SLOW, startBalancer, UNTALKATIVE } from '../lab/balancer.ts';
import type { EchoReport } from '../lab/client.ts';
import { content, contentHash } from '../lab/content.ts';
import { Iperf } from '../lab/iperf.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { PATIENCE, waitUntil } from '../lab/wait.ts';

const MEGABYTE = 1_000_000;

let lab: Topology;
let balancer: Balancer;
let iperf: Iperf;

beforeAll(async () => {
  lab = new Topology({ clients: 1, servers: 2 });
  addIPv6(lab);
  await lab.startBackends();
  const six = lab.servers[1]?.program('backend', 'server2-v6', `http6=${HTTP}`);
  await six?.line(/^listening/);
  iperf = await Iperf.start(lab.servers[0]);
  const { http, echo } = lab.settings().frontends;
  const mixed = [`${serverAddress(0)}:${HTTP}`, `[fd02::12]:${HTTP}`];
  balancer = await startBalancer(
    lab.balancer,
    {
      frontends: {
        http: { ...http, backend: SLOW },
        echo: { ...echo, backend: SLOW },
        iperf: { listen: `${VIP}:${Iperf.port}`, servers: [`${serverAddress(0)}:${Iperf.port}`], backend: UNTALKATIVE },
        six: { listen: `[fd01::1]:${HTTP}`, servers: mixed, backend: SLOW },
      },
      more: '[proxy]\nworkers = 2\ngrace_period = 1',
    },
    { args: ['proxy'] },
  );
});

afterAll(async () => {
  const exit = await balancer?.stop();
  await lab?.[Symbol.asyncDispose]();
  expect(exit).toEqual({ code: 0, signal: null });
});

function addIPv6({ client, balancer: middle, servers }: Topology): void {
  middle.ip('addr', 'add', 'fd01::1/64', 'dev', 'front', 'nodad');
  middle.ip('addr', 'add', 'fd02::1/64', 'dev', 'back', 'nodad');
  client.ip('addr', 'add', 'fd01::101/64', 'dev', 'eth0', 'nodad');
  servers[1]?.ip('addr', 'add', 'fd02::12/64', 'dev', 'eth0', 'nodad');
}

/** User and system time of each thread but the main one, in hundredths of a second. */
function threadTicks(): Map<string, number> {
  const { pid } = balancer.running;
  const threads = readdirSync(`/proc/${pid}/task`).filter((thread) => thread !== String(pid));
  return new Map(
    threads.map((thread) => {
      const fields = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
      return [thread, Number(fields[11]) + Number(fields[12])];
    }),
  );
}

async function allOver(): Promise<void> {
  await balancer.settled('all connections to be over', (stats) => stats.current_connections === 0);
}

test.each(['keep-alive', 'close'])('wrk, Connection: %s: no errors, and both workers carry', async (connection) => {
  let used: number[] = [];
  const areEven = async () => {
    const before = threadTicks();
    const request = ['-d3s', '--timeout', '60s', '-H', `Connection: ${connection}`, `http://${VIP}/`];
    const { code, stdout } = await lab.client.run('wrk', '-t1', '-c32', ...request);
    used = [...threadTicks()].map(([thread, ticks]) => ticks - (before.get(thread) ?? 0)).sort((a, b) => b - a);
    expect(code).toBe(0);
    expect(stdout).not.toMatch(/Socket errors|Non-2xx/);
    expect(Number(/(\d+) requests in/.exec(stdout)?.[1])).toBeGreaterThan(50);
    await allOver();
    // Two do the work, evenly enough; what follows is the compiler and the garbage collector.
    const [first = 0, second = 0, third = 0] = used;
    return second > Math.max(first / 4, 2 * third);
  };
  // Who gets a processor of a busy machine, and when code is compiled, is a matter of luck.
  await waitUntil(areEven, { what: 'two threads to do the work' }).catch((error: Error) => {
    throw new Error(`${error.message}; ticks of each thread: ${used.join(' ')}`, { cause: error });
  });
});

test.each([
  ['up', []],
  ['down', ['--reverse']],
  ['four both ways', ['--parallel', '4', '--bidir']],
])('iperf3, %s', async (_name, options) => {
  const { code, stdout } = await iperf.run(lab.client, VIP, '--time', '2', ...options);
  const report = JSON.parse(stdout) as { error?: string; end: Record<'sum_sent' | 'sum_received', { bytes: number }> };
  expect([code, report.error]).toEqual([0, undefined]);
  expect(report.end.sum_received.bytes).toBeGreaterThan(MEGABYTE);
  await allOver();
});

test('a large file arrives as it was sent, both ways', async () => {
  const size = 200 * MEGABYTE;
  const { stdout } = await lab.client.run('sh', '-c', `curl -sS --max-time 80 http://${VIP}/content/${size} | sha256sum`);
  expect(stdout.split(' ')[0]).toBe(contentHash(size));
  const upload = lab.client.start(['curl', '-sS', '--max-time', '60', '-H', 'Expect:', '--data-binary', '@-', `http://${VIP}/`]);
  await upload.feed(content(size));
  expect(await upload.line(/^[0-9a-f]{64}$/, 2 * PATIENCE)).toBe(contentHash(size));
});

// client.ts ends its side first, then reads: the servers' answers pass a half-closed connection.
test('500 connections at once, half-closed, each with its own data back', async () => {
  const running = lab.client.program('client', 'echo', '500', '100000', `${VIP}:${ECHO}`);
  const report = JSON.parse(await running.line(/^\{/, 2 * PATIENCE)) as EchoReport;
  expect(report.errors).toEqual([]);
  expect(report.ok).toBe(500);
  // Each worker goes round by itself.
  expect(Math.abs((report.servers['server1'] ?? 0) - (report.servers['server2'] ?? 0))).toBeLessThanOrEqual(2);
  // Not from 500 ports: to two servers the kernel may connect from the same one.
  expect(report.peers).toHaveLength(500);
  await allOver();
});

test('an IPv6 frontend over an IPv4 and an IPv6 server', async () => {
  const urls = Array.from({ length: 20 }, () => `http://[fd01::1]/`);
  const { code, stdout } = await lab.client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
  expect(code).toBe(0);
  expect([...new Set(stdout.trim().split('\n'))].sort()).toEqual(['server1', 'server2-v6']);
  const size = 20 * MEGABYTE;
  const { stdout: hash } = await lab.client.run('sh', '-c', `curl -sS --max-time 80 'http://[fd01::1]/content/${size}' | sha256sum`);
  expect(hash.split(' ')[0]).toBe(contentHash(size));
});
