/** Floods of SYNs, slow ones and at 300,000 a second as far as the machine can, with ordinary clients beside them: everybody gets through, and stays. */
import { describe, expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { type Balancer, LARGE_RING, type Settings, startBalancer } from '../lab/balancer.ts';
import type { EchoReport } from '../lab/client.ts';
import { type Flood, floodEnd, startFlood } from '../lab/flood.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import type { Running } from '../lab/processes.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

/** Where there can be one. */
const FAST_PATHS = fastPathObstacle() === undefined ? ['off', 'xdp'] : ['off'];
/** Source ports that a server has. */
const PORTS = 27_233;
const IPERF = 5201;
/** The port of a frontend that may have few connections at a time. */
const FEW = 81;
/** SYNs are taken in at once, however many there are: what is looked at are the bounds behind that. */
const AT_ONCE = '[passthrough]\nsyn_flood_from = 0';
/** At full speed a handshake has a quarter of a second before its place is another one's; where other tests run beside it, many take longer. */
const TRIES = 30;
/** Checks that a machine may be late for that is busy with a flood. */
const PATIENT = 'health_check_interval = 40\nhealth_check_timeout = 30';

/**
 * Requests by connections of their own, one after the other until the flood ends, one at least. Returns how many. In a fast flood
 * thousands of SYNs come within one handshake where client, lb4 and server share two processors: one that has made way is reset
 * when its ACK comes, so each request is tried up to `tries` times.
 */
async function requestsBeside(flood: Running, lab: Topology, tries = 1, port = HTTP): Promise<number> {
  let requests = 0;
  do {
    requests++;
    let seen = { code: -1, stderr: '' };
    for (let i = 0; i < tries && seen.code !== 0; i++)
      seen = await lab.client.run('curl', '-sS', '--max-time', '60', '-o', '/dev/null', `http://${VIP}:${port}/`);
    expect([seen.code, seen.stderr]).toEqual([0, '']);
  } while (flood.exit === undefined);
  await floodEnd(flood);
  return requests;
}

async function echoes(lab: Topology): Promise<void> {
  const running = lab.client.program('client', 'echo', '20', '1000', `${VIP}:${ECHO}`, `${lab.client.ports(20)}`);
  const { ok, errors } = JSON.parse(await running.line(/^\{/)) as EchoReport;
  expect([ok, errors]).toEqual([20, []]);
}

async function serve(lab: Topology, more: Partial<Settings> = {}): Promise<Balancer> {
  const listening = lab.servers[0].start(['iperf3', '-s', '--forceflush', '-p', `${IPERF}`]);
  await Promise.all([lab.startBackends(), listening.line(/Server listening/)]);
  const { http, echo } = lab.settings().frontends;
  const iperf = { listen: `${VIP}:${IPERF}`, servers: [`${serverAddress(0)}:${IPERF}`] };
  const few = { listen: `${VIP}:${FEW}`, servers: [`${serverAddress(0)}:${HTTP}`], frontend: 'maxconn = 20' };
  const frontends = Object.entries({ http, echo, iperf, few }).map(([name, frontend]) => [name, { ...frontend, backend: PATIENT }]);
  return startBalancer(lab.balancer, { frontends: Object.fromEntries(frontends), ring: LARGE_RING, ...more });
}

/** iperf3 is deaf for a moment when somebody, a health check say, has connected and said nothing. */
async function startTransfer(lab: Topology): Promise<Running> {
  const start = () => lab.client.start(['iperf3', '-c', VIP, '-p', `${IPERF}`, '-b', '20M', '-t', '60', '--forceflush']);
  let running = start();
  const carries = async () => {
    if (running.exit !== undefined) running = start();
    return running.lines.some((line) => line.includes('bits/sec'));
  };
  await waitUntil(carries, { what: 'a transfer', every: 100 });
  return running;
}

/**
 * Floods until lb4 has let `count` connections begin, with requests beside it: of what a busy machine is sent, its ring loses most.
 * Returns how many requests.
 */
async function floodUntil(lab: Topology, balancer: Balancer, count: number, flood: Omit<Flood, 'port'>): Promise<number> {
  let requests = 0;
  do requests += await requestsBeside(await startFlood(lab, { port: HTTP, ...flood }), lab, TRIES);
  while ((await balancer.verdict('opened')) < count);
  return requests;
}

describe.each([1, 3])('%i servers', (servers) => {
  test('300,000 a second, then 1,000; a transfer and another frontend beside it', async () => {
    await using lab = new Topology({ servers });
    const balancer = await serve(lab, { more: AT_ONCE });
    const transfer = await startTransfer(lab);
    const held = await holdConnections(lab.client, 20, `${VIP}:${ECHO}`);
    const carried = () => transfer.lines.filter((line) => line.includes('bits/sec') && !/ 0\.00 Bytes/.test(line)).length;
    const before = carried();
    await floodUntil(lab, balancer, servers * PORTS, { rate: 300_000, seconds: 3 });
    const slow = await startFlood(lab, { port: HTTP, rate: 1_000, seconds: 3 });
    await Promise.all([requestsBeside(slow, lab), echoes(lab)]);
    // The transfer has not waited for their end.
    expect(carried()).toBeGreaterThan(before);
    expect(await othersLiveOn(held)).toEqual([]);
    // One report of iperf3's that is all of the time behind the floods.
    await transfer.nextLine(/bits\/sec/);
    expect(await transfer.nextLine(/bits\/sec/)).not.toMatch(/ 0\.00 Bytes/);
    await transfer.stop('SIGINT');
    expect(await balancer.metric('lb4_half_open_evicted_total')).toBeGreaterThan(0);
  });
});

test('a reset behind each SYN, 3,000 a second for longer than there are ports', async () => {
  await using lab = new Topology({ servers: 1 });
  const balancer = await serve(lab, { more: AT_ONCE });
  const steps = ['syn', 'rst'] as const;
  // What 3,000 a second come to in the timeout `closed`.
  const before = await floodUntil(lab, balancer, PORTS, { rate: 20_000, seconds: 3, steps });
  const requests = before + (await requestsBeside(await startFlood(lab, { port: HTTP, rate: 3_000, seconds: 3, steps }), lab));
  expect((await balancer.stats()).frontends['http']?.total_connections).toBe(requests);
});

test('a small table that is full of half-open connections takes new ones, and leaves the established alone', async () => {
  await using lab = new Topology({ servers: 2 });
  const balancer = await serve(lab, { more: `${AT_ONCE}\nconnection_tracker_capacity = 500` });
  const held = await holdConnections(lab.client, 100, `${VIP}:${ECHO}`);
  // Of 250 places each is one's own for 0.8 s: a handshake takes longer than at full speed where all else runs beside it.
  const flood = await startFlood(lab, { port: HTTP, rate: 300, seconds: 6 });
  await balancer.settled('many half-open connections', ({ lb4 }) => lb4.flows > 220);
  await Promise.all([requestsBeside(flood, lab), echoes(lab)]);
  expect(await othersLiveOn(held)).toEqual([]);
  expect(await balancer.metric('lb4_half_open_evicted_total')).toBeGreaterThan(0);
});

test.each(FAST_PATHS)(
  'SYNs that come once open nothing while they flood, with fast_path = "%s"; clients get through, a second later, and it is told once',
  async (fastPath) => {
    await using lab = new Topology({ servers: 1 });
    const balancer = await serve(lab, {
      more: `[passthrough]\nfast_path = "${fastPath}"\nsyn_flood_from = 500\n[passthrough.timeouts]\nsyn = 16`,
    });
    const held = await holdConnections(lab.client, 20, `${VIP}:${ECHO}`);
    const flood = await startFlood(lab, { port: HTTP, rate: 5_000, seconds: 6 });
    expect(await balancer.running.line(/SYNs flood/)).toMatch(/"half_open":\d+,"most_of":"http"/);
    expect(await balancer.metric('lb4_syn_floods')).toBe(1);
    const requests = await requestsBeside(flood, lab);
    expect(requests).toBeGreaterThan(1);
    expect(await othersLiveOn(held)).toEqual([]);
    expect(await balancer.verdict('dropFirstSyn')).toBeGreaterThan(5_000);
    if (fastPath !== 'off') expect(await balancer.metric('lb4_fast_path_dropped_total')).toBeGreaterThan(5_000);
    // Before it was told of, and those few that the sketch takes for others: of 30,000.
    expect(await balancer.verdict('opened')).toBeLessThan(10_000);
    await balancer.running.line(/flood of SYNs is over/);
    expect(balancer.running.lines.filter((line) => line.includes('SYNs'))).toHaveLength(2);
    // And where they fill a limit that is far below that, for its frontend alone.
    const told = balancer.running.nextLine(/SYNs fill the limit/);
    const fill = await startFlood(lab, { port: FEW, rate: 500, seconds: 4 });
    expect(await told).toMatch(/frontend.*few/);
    expect(await requestsBeside(fill, lab, 1, FEW)).toBeGreaterThan(0);
    expect(await balancer.metric('lb4_half_open_connections')).toBeLessThanOrEqual(20);
  },
);
