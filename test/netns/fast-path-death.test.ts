/** kill -9 with the fast path on: established connections do not even wait. */
import { closeSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { native } from '../../src/io/native.ts';
import { LB4 } from '../lab/balancer.ts';
import { Live } from '../lab/live.ts';
import { NOTHING, pinsIn, traces } from '../lab/traces.ts';
import { Transfers } from '../lab/transfers.ts';
import { pause, waitUntil } from '../lab/wait.ts';

const TRANSFERS = 10;
/** Of which the servers give 60,000 a second: nobody runs for 30 s of these 40. */
const SIZE = 2_400_000;
const AWAY_MS = 30_000;
/** Bytes that each gets while nobody runs: more than can have been on their way. */
const MEANWHILE = 600_000;
const TC = { more: '[passthrough]\nfast_path = "tc"' };

const why = fastPathObstacle();

// All at once, since they wait.
describe.skipIf(why !== undefined).concurrent('ten transfers, and nobody runs for 30 s', () => {
  test.each([
    ['passthrough', 1],
    ['passthrough', 2],
    ['dsr', 1],
  ] as const)('%s, workers = %d', async (mode, workers) => {
    await using live = await Live.start(mode, { more: `${TC.more}\nworkers = ${workers}` });
    const { client, balancer: host } = live.lab;
    const transfers = await Transfers.start(client, TRANSFERS, `http://${live.vip}/paced/${SIZE}`);
    const isTaken = async () => (await live.metric('lb4_fast_path_packets_total')) > 10 * TRANSFERS;
    await waitUntil(isTaken, { what: 'the kernel to forward' });
    await transfers.stalled('with lb4');
    await live.balancer.stop('SIGKILL');
    const away = pause(AWAY_MS);
    await transfers.goOn(MEANWHILE, 'without');
    await away;
    await transfers.stalled('then');
    await live.launch();
    const goOn = JSON.parse(await live.balancer.running.line(/go on/)) as { connections: number };
    expect(goOn.connections).toBeGreaterThanOrEqual(TRANSFERS);
    await transfers.arrive(SIZE);
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
});

test.skipIf(why !== undefined)('killed for good: `lb4 rules --remove` leaves none of it', async () => {
  await using live = await Live.start('passthrough', TC);
  const { balancer: host } = live.lab;
  await live.balancer.stop('SIGKILL');
  const [table, pins] = traces(host).kept;
  expect(pins).toBe(pinsIn(host.name));
  // Whoever cleans up /run.
  for (const path of [table, `/run/lb4/netns-${statSync(`/run/netns/${host.name}`).ino}/lock`]) rmSync(path, { recursive: true });
  const { stdout } = await host.run(LB4, 'doctor', '--passthrough', `--config=${live.file}`);
  expect(stdout).toMatch(/^fail {2}killed: a fast path is pinned here that belongs to no lb4: .*lb4 rules --remove/m);
  expect((await host.run(LB4, 'rules', '--remove', `--config=${live.file}`)).code).toBe(0);
  expect(traces(host)).toEqual(NOTHING);
});

/** The interfaces of links that are pinned; 0: it is detached. */
const linksIn = (namespace: string) => {
  const names = readdirSync(pinsIn(namespace)).filter((name) => name.startsWith('tc-'));
  return names.map((name) => {
    const link = native().openPinned(`${pinsIn(namespace)}/${name}`);
    const ifindex = native().linkedInterface(link);
    closeSync(link);
    return ifindex;
  });
};

test.skipIf(why !== undefined)('the next lb4 sees no bpffs: programs of the dead one do not stand beside it', async () => {
  await using live = await Live.start('passthrough', TC);
  const { balancer: host, client } = live.lab;
  await live.balancer.stop('SIGKILL');
  const standing = () => linksIn(host.name).filter((ifindex) => ifindex !== 0);
  expect(standing().length).toBeGreaterThan(1);
  writeFileSync(live.file, live.text({ more: '[passthrough]\nfast_path = "auto"' }));
  // As a container has it, or `ip netns exec`.
  const command = 'mount -t tmpfs none /sys/fs/bpf; exec "$@"';
  const next = host.start(['unshare', '--mount', 'sh', '-ec', command, 'sh', LB4, '--passthrough', `--config=${live.file}`]);
  await next.line(/no fast path in the kernel/);
  await next.line(/"msg":"ready"/);
  expect(standing()).toEqual([]);
  expect((await client.run('curl', '-sS', '--max-time', '60', `http://${live.vip}/`)).stdout).toMatch(/^server/);
  expect(await next.stop()).toEqual({ code: 0, signal: null });
  // What it could not see, and does nothing any more.
  expect(traces(host)).toEqual({ ...NOTHING, kept: [pinsIn(host.name)] });
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
