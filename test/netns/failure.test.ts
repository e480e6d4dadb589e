/** Servers that die, vanish, or were never there. */
import { expect, test } from 'vitest';
import { answeredBy } from '../lab/answers.ts';
import { startBalancer } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

test('a server whose link goes down: others live on and take over', async () => {
  await using lab = new Topology();
  const balancer = await lab.serve();
  const held = await holdConnections(lab.client, 30, `${VIP}:${ECHO}`);
  lab.servers[1]?.ip('link', 'set', 'eth0', 'down');
  await balancer.health({ [`${serverAddress(1)}:${HTTP}`]: false });
  expect(await othersLiveOn(held, 'server2')).toEqual([]);
  await answeredBy(lab.client, VIP, 'server1', 'server3');
  // Back again: the connections it had go on where they were.
  lab.servers[1]?.ip('link', 'set', 'eth0', 'up');
  lab.servers[1]?.ip('route', 'replace', '10.71.0.0/24', 'via', '10.72.0.1');
  await balancer.health({ [`${serverAddress(1)}:${HTTP}`]: true });
  expect(await othersLiveOn(held, '')).toEqual([]);
  expect((await balancer.stop()).code).toBe(0);
});

test('no server is up: a client is refused at once', async () => {
  await using lab = new Topology({ servers: 2 });
  const balancer = await lab.serve();
  await lab.killBackend(0);
  await lab.killBackend(1);
  await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: false, [`${serverAddress(1)}:${HTTP}`]: false });
  const refused = async () => {
    const { code, stderr } = await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`);
    // 28 would be the end of its patience.
    expect(code).toBe(7);
    expect(stderr).toMatch(/refused|Couldn't connect/i);
    return (await balancer.verdict('resetNoServer')) > 0;
  };
  // The first may still be a dead server's own refusal: from a change of health to the next plan it takes a moment.
  await waitUntil(refused, { what: 'lb4 to refuse a client' });
  expect((await balancer.stats()).current_connections).toBe(0);
  expect((await balancer.stop()).code).toBe(0);
});

test('400 servers where the kernel has little room for filters: a coarse filter does, and every change of health is survived', async () => {
  await using lab = new Topology({ servers: 1 });
  lab.balancer.sysctl('net.core.optmem_max', '20480'); // what many hosts have
  await lab.startBackends();
  const dead = Array.from({ length: 400 }, (_, index) => `${serverAddress(0)}:${20_000 + index}`);
  const servers = [`${serverAddress(0)}:${HTTP}`, ...dead];
  const balancer = await startBalancer(lab.balancer, { frontends: { http: { listen: `${VIP}:${HTTP}`, servers } } }, { healthy: false });
  await balancer.health(Object.fromEntries(servers.map((server) => [server, server.endsWith(`:${HTTP}`)])));
  await answeredBy(lab.client, VIP, 'server1');
  await lab.killBackend(0);
  await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: false });
  await lab.startBackend(0);
  await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: true });
  await answeredBy(lab.client, VIP, 'server1');
  expect((await balancer.stop()).code).toBe(0);
});
