/** What happens around lb4 while connections are open: they go on, and new ones are served. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { answeredBy } from '../lab/answers.ts';
import { type Balancer, configuration, LB4 } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { MemoryGroup } from '../lab/memory-group.ts';
import type { Running } from '../lab/processes.ts';
import { ECHO, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

const HOOKS = fastPathObstacle() === undefined ? ['off', 'tc', 'xdp'] : ['off'];

describe.each(HOOKS)('fast_path = %s', (fastPath) => {
  const isInKernel = fastPath !== 'off';
  const lab = new Topology({ servers: 2 });
  let balancer: Balancer;
  let held: Running;

  beforeAll(async () => {
    if (fastPath === 'xdp') lab.likeHardware();
    balancer = await lab.serve({ more: `[passthrough]\nfast_path = "${fastPath}"` });
    held = await holdConnections(lab.client, 20, `${VIP}:${ECHO}`);
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  async function allIsWell(): Promise<void> {
    expect(await othersLiveOn(held)).toEqual([]);
    await answeredBy(lab.client, VIP, 'server1', 'server2');
  }

  test('the MAC address by which clients come is another one: their answers follow', async () => {
    const inKernel = async () => (isInKernel ? await balancer.metric('lb4_fast_path_packets_total') : 1);
    await waitUntil(async () => (await inKernel()) > 0, { what: 'the fast path to take connections' });
    const before = await balancer.metric('lb4_client_ways_moved_total');
    lab.client.ip('link', 'set', 'eth0', 'address', '02:00:00:aa:bb:cc');
    await allIsWell();
    // All that have been heard since.
    expect(await balancer.metric('lb4_client_ways_moved_total')).toBeGreaterThan(before + 10);
  });

  test('the link of the clients goes down: nothing comes through, and nothing ends; it goes up: the same connections go on', async () => {
    const said = balancer.running.lines.length;
    const echoes = async () => (await report(held)).map(({ echoed }) => echoed);
    const tryNew = async () => (await lab.client.run('curl', '-sS', '--max-time', '1', `http://${VIP}/`)).code;
    lab.balancer.ip('link', 'set', 'front', 'down');
    expect(await tryNew()).not.toBe(0);
    const before = await echoes();
    expect(await tryNew()).not.toBe(0);
    expect(await echoes()).toEqual(before);
    lab.balancer.ip('link', 'set', 'front', 'up');
    await allIsWell();
    expect((await report(held)).filter(({ ended }) => ended !== undefined)).toEqual([]);
    expect(balancer.running.lines.slice(said).map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual([]);
  });

  test('the VIP leaves the host and comes back', async () => {
    lab.balancer.ip('addr', 'del', `${VIP}/24`, 'dev', 'front');
    await balancer.running.line(/an address has left this host/);
    lab.balancer.ip('addr', 'add', `${VIP}/24`, 'dev', 'front');
    await allIsWell();
  });

  test('stopped for ten seconds, and continued; with a fast path its connections do not notice', async () => {
    balancer.running.signal('SIGSTOP');
    if (isInKernel) expect(await othersLiveOn(held)).toEqual([]);
    else await sleep(10_000);
    balancer.running.signal('SIGCONT');
    await allIsWell();
  });

  // Behind the ten seconds of the last: lb4 looks at all frames for three seconds from the first that strays on, the one of the other MAC address, and not
  // again for seven (forward/way-back.ts), in which a waiting connection's few may escape it. Of a fast path it has hardly any others to look at.
  test('one connection comes by another router: its answers alone take that one', async () => {
    const moved = () => balancer.metric('lb4_client_ways_moved_total');
    await allIsWell();
    const before = await moved();
    const port = /:(\d+) +10\.71\.0\.1:7 *$/m.exec(lab.client.sh('ss', '-Htn'))?.[1];
    // Not that anybody is there: it waits until its packets are its own again.
    const other = `table netdev other { chain out { type filter hook egress device eth0 priority 0; tcp sport ${port} ether saddr set 02:00:00:aa:bb:cd; }; }`;
    lab.client.sh('nft', other);
    await waitUntil(async () => (await moved()) > before, { what: 'its answers to go there' });
    lab.client.sh('nft', 'delete table netdev other');
    await allIsWell();
    expect(await moved()).toBe(before + 2);
  });

  test.runIf(!isInKernel)('a control group that may have less memory than the tables take is told at the start', async () => {
    await using group = MemoryGroup.make(200e6);
    if (group === undefined) return;
    const file = join(lab.directory, 'too-large.toml');
    const frontends = { http: { listen: '10.71.0.101:80', servers: ['10.71.0.1:80'] } };
    writeFileSync(file, configuration({ frontends, more: '[passthrough]\nconnection_tracker_capacity = 1000000' }));
    const other = lab.client.start(group.command([LB4, '--passthrough', `--config=${file}`]));
    await other.line(/take 367 MB, and .* has 200 MB at most.*connection_tracker_capacity/);
    await other.line(/"msg":"ready"/);
    expect(await other.stop('SIGTERM')).toEqual({ code: 0, signal: null });
    await allIsWell();
  });
});
