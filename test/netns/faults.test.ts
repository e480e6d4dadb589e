/** What happens around lb4 while connections are open: they go on, and new ones are served. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { answeredBy } from '../lab/answers.ts';
import type { Balancer } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import type { Running } from '../lab/processes.ts';
import { ECHO, Topology, VIP } from '../lab/topology.ts';

const lab = new Topology({ servers: 2 });
let balancer: Balancer;
let held: Running;

beforeAll(async () => {
  balancer = await lab.serve();
  held = await holdConnections(lab.client, 20, `${VIP}:${ECHO}`);
});
afterAll(() => lab[Symbol.asyncDispose]());

async function allIsWell(): Promise<void> {
  expect(await othersLiveOn(held)).toEqual([]);
  await answeredBy(lab.client, VIP, 'server1', 'server2');
}

test('the MAC address by which clients come is another one: their answers follow', async () => {
  const before = await balancer.metric('lb4_client_ways_moved_total');
  lab.client.ip('link', 'set', 'eth0', 'address', '02:00:00:aa:bb:cc');
  await allIsWell();
  expect(await balancer.metric('lb4_client_ways_moved_total')).toBe(before + 1);
});

test('the link of the clients goes down and up', async () => {
  const link = 'front';
  lab.balancer.ip('link', 'set', link, 'down');
  lab.balancer.ip('link', 'set', link, 'up');
  await allIsWell();
});

test('stopped for ten seconds, and continued', async () => {
  balancer.running.signal('SIGSTOP');
  await sleep(10_000);
  balancer.running.signal('SIGCONT');
  await allIsWell();
});
