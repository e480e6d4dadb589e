/** Proxy mode: those who do not read are waited for, and lb4's memory does not grow by what they leave lying. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type Balancer, startBalancer } from '../lab/balancer.ts';
import { contentHash } from '../lab/content.ts';
import type { SlowReport } from '../lab/slow.ts';
import { HTTP, Topology, VIP } from '../lab/topology.ts';
import { PATIENCE, pause } from '../lab/wait.ts';

const MEGABYTE = 1_000_000;
const CONNECTIONS = 50;
const SIZE = 20 * MEGABYTE;
/**
 * What the buffers of a connection may cost: twice the high-water mark of 128 KB and a read of 64 KB, with room for the collector.
 * Without back-pressure it would be 20 MB. Beside them, what V8 has not collected yet.
 */
const ALLOWED = CONNECTIONS * MEGABYTE + 32 * MEGABYTE;

async function start(lab: Topology): Promise<Balancer> {
  await lab.startBackends();
  const balancer = await startBalancer(lab.balancer, lab.settings({ more: '[proxy]\nworkers = 2\ngrace_period = 1' }), { args: ['proxy'] });
  // What it needs for serving at all: code, both threads' heaps.
  await lab.client.run('wrk', '-t1', `-c${CONNECTIONS}`, '-d1s', `http://${VIP}/content/100000`);
  return balancer;
}

/** Bytes, by a line of /proc/PID/status. */
function memory({ running }: Balancer, line: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
  return Number(new RegExp(`^${line}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024;
}

/** Waits until the connections stand and no byte passes any more. */
async function stalled(balancer: Balancer): Promise<number> {
  let last = -1;
  const { total_bytes_rx, total_bytes_tx } = await balancer.settled('the bytes to stand still', (stats) => {
    const all = stats.total_bytes_rx + stats.total_bytes_tx;
    const same = all === last && stats.current_connections === CONNECTIONS;
    last = all;
    return same;
  });
  return total_bytes_rx + total_bytes_tx;
}

const inMegabytes = (bytes: number): string => `${(bytes / MEGABYTE).toFixed(0)} MB`;

async function expectBounded(balancer: Balancer, what: string, before: number, carried: number): Promise<void> {
  const all = (await stalled(balancer)) - carried;
  await pause(500);
  const [now, peak] = [memory(balancer, 'VmRSS'), memory(balancer, 'VmHWM')];
  const figures = `${what}: VmRSS ${inMegabytes(before)} before, ${inMegabytes(now)} when all stand still after ${inMegabytes(all)}, VmHWM ${inMegabytes(peak)}`;
  console.log(figures);
  // Most of it lies unread, on the way or not yet sent: else nothing was tried.
  expect(all, figures).toBeLessThan((CONNECTIONS * SIZE) / 2);
  expect(peak - before, figures).toBeLessThan(ALLOWED);
}

const carriedBy = async (balancer: Balancer): Promise<number> => {
  const { total_bytes_rx, total_bytes_tx } = await balancer.settled('rest', (stats) => stats.current_connections === 0);
  return total_bytes_rx + total_bytes_tx;
};

test('50 clients that ask for 20 MB each and do not read: memory stays bounded, then all arrives', async () => {
  await using lab = new Topology({ servers: 2 });
  const balancer = await start(lab);
  const [before, carried] = [memory(balancer, 'VmRSS'), await carriedBy(balancer)];
  const slow = lab.client.program('slow', `${CONNECTIONS}`, `${SIZE}`, `${VIP}:${HTTP}`);
  await slow.line(/^asked/);
  await expectBounded(balancer, 'slow clients', before, carried);
  slow.write('read');
  const { ok, errors } = JSON.parse(await slow.line(/^\{/, 2 * PATIENCE)) as SlowReport;
  expect(errors).toEqual([]);
  expect(ok).toBe(CONNECTIONS);
  expect((await balancer.stop()).code).toBe(0);
});

test('servers that do not read 50 uploads of 20 MB each: memory stays bounded, then all arrives', async () => {
  await using lab = new Topology({ servers: 2 });
  const balancer = await start(lab);
  const [before, carried] = [memory(balancer, 'VmRSS'), await carriedBy(balancer)];
  const file = `${lab.directory}/upload`;
  await lab.client.run('sh', '-c', `curl -sS http://${VIP}/content/${SIZE} >${file}`);
  // No server reads before it is told.
  const options = ['-sS', '--max-time', '90', '-Z', '--parallel-immediate', '--parallel-max', `${CONNECTIONS}`, '-H', 'Expect:'];
  const uploads = lab.client.start(['curl', ...options, '--data-binary', `@${file}`, `http://${VIP}/late?[1-${CONNECTIONS}]`]);
  await expectBounded(balancer, 'slow servers', before, carried);
  for (const server of lab.servers) await server.run('curl', '-sS', '-X', 'PUT', `http://127.0.0.1:${HTTP}/late`);
  expect((await uploads.exited).code).toBe(0);
  expect(uploads.lines.filter((line) => /^[0-9a-f]{64}$/.test(line))).toEqual(Array.from({ length: CONNECTIONS }, () => contentHash(SIZE)));
  expect((await balancer.stop()).code).toBe(0);
});
