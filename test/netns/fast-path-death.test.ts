/** kill -9 with the fast path on: established connections do not even wait. */
import { expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { LB4 } from '../lab/balancer.ts';
import { contentHash } from '../lab/content.ts';
import { Live } from '../lab/live.ts';
import { NOTHING, pinsIn, traces } from '../lab/traces.ts';
import { waitUntil } from '../lab/wait.ts';

const TRANSFERS = 10;
const SIZE = 5_000_000;
/** So long they take, whatever the machine can. */
const SECONDS = 12;
const TC = { more: '[passthrough]\nfast_path = "tc"' };

const why = fastPathObstacle();

test.skipIf(why !== undefined).each([
  ['passthrough', 1],
  ['passthrough', 2],
  ['dsr', 1],
] as const)('%s, workers = %d: ten transfers come to their end while nobody runs', async (mode, workers) => {
  await using live = await Live.start(mode, { more: `${TC.more}\nworkers = ${workers}` });
  const { client, balancer: host } = live.lab;
  const curl = `curl -sS --limit-rate ${Math.round(SIZE / SECONDS)} http://${live.vip}/content/${SIZE}`;
  const transfers = Array.from({ length: TRANSFERS }, () => client.run('sh', '-c', `${curl} | sha256sum`));
  await live.balancer.settled('all to be established', (stats) => stats.total_connections === TRANSFERS);
  const isTaken = async () => (await live.metric('lb4_fast_path_packets_total')) > 10 * TRANSFERS;
  await waitUntil(isTaken, { what: 'the kernel to forward' });
  await live.balancer.stop('SIGKILL');
  // Nobody is there until the last byte has come.
  for (const { stdout, stderr } of await Promise.all(transfers)) expect([stdout.split(' ')[0], stderr]).toEqual([contentHash(SIZE), '']);
  await live.launch();
  expect(JSON.parse(await live.balancer.running.line(/go on/))).toMatchObject({ connections: expect.any(Number) as number });
  // What has passed meanwhile stands in the books; servers' headers and what was sent twice come on top.
  if (mode === 'passthrough') {
    const { total_bytes_rx: received } = await live.balancer.settled('the books', (stats) => stats.total_bytes_rx >= TRANSFERS * SIZE);
    expect(received).toBeLessThan(1.1 * TRANSFERS * SIZE);
  }
  const { stdout } = await client.run('curl', '-sS', '--max-time', '60', `http://${live.vip}/`);
  expect(stdout).toMatch(/^server/);
  expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
});

test.skipIf(why !== undefined)('killed for good: `lb4 rules --remove` leaves none of it', async () => {
  await using live = await Live.start('passthrough', TC);
  const { balancer: host } = live.lab;
  await live.balancer.stop('SIGKILL');
  expect(traces(host).kept).toHaveLength(2);
  expect((await host.run(LB4, 'rules', '--remove', `--config=${live.file}`)).code).toBe(0);
  expect(traces(host)).toEqual(NOTHING);
});

test.skipIf(why !== undefined)('a program that somebody detaches is put back, and told of', async () => {
  await using live = await Live.start('passthrough', TC);
  const { balancer: host, client } = live.lab;
  const [{ ifindex }] = JSON.parse(host.ip('-j', 'link', 'show', 'front')) as [{ ifindex: number }];
  host.sh('bpftool', 'link', 'detach', 'pinned', `${pinsIn(host.name)}/tc-${ifindex}`);
  await live.balancer.running.line(/fast path.*tc of front/);
  await waitUntil(async () => (await live.metric('lb4_host_repairs_total', 'what="fast_path"')) === 1, { what: 'it to stand there again' });
  const before = await live.metric('lb4_fast_path_packets_total');
  expect((await client.run('curl', '-sS', '--max-time', '60', `http://${live.vip}/content/100000`)).code).toBe(0);
  expect(await live.metric('lb4_fast_path_packets_total')).toBeGreaterThan(before);
});
