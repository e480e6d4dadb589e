/**
 * nat = "destination" by both hooks of the fast path, with two workers: the kernel alone carries both directions of TCP and UDP, while nobody runs,
 * too; pings pass beside them. Then a client's affinity, over a kill -9 and a takeover.
 */
import { expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { type Balancer, type Settings, SLOW, startBalancer } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import type { Namespace } from '../lab/lab.ts';
import { ECHO, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { serveUdp, UdpClients } from '../lab/udp.ts';
import { waitUntil } from '../lab/wait.ts';

const why = fastPathObstacle();
const WHO = 9000;
/** Whose pings go to the servers. */
const PINGED = '10.71.0.2';
const CLIENTS = Array.from({ length: 10 }, (_, i) => i);

function settings(hook: string): Settings {
  const over = (listen: string, port: number, protocol: string, checks: string) => ({
    listen,
    servers: [0, 1].map((index) => `${serverAddress(index)}:${port}`),
    frontend: `protocol = "${protocol}"`,
    backend: `${checks}\nnat = "destination"\nbalance = "roundrobin"`,
  });
  const unchecked = 'health_check = "none"';
  return {
    frontends: {
      echo: over(`${VIP}:${ECHO}`, ECHO, 'tcp', SLOW),
      who: over(`${VIP}:${WHO}`, WHO, 'udp', unchecked),
      kept: over(`${VIP}:${WHO + 1}`, WHO, 'udp', `${unchecked}\naffinity = 600`),
      ping: over(PINGED, ECHO, 'icmp', unchecked),
    },
    more: `[passthrough]\nworkers = 2\nfast_path = "${hook}"`,
  };
}

/** Whose servers are not checked are up without a word. */
async function start(host: Namespace, hook: string, ...args: string[]): Promise<Balancer> {
  const balancer = await startBalancer(host, settings(hook), { args, healthy: false });
  await balancer.health(Object.fromEntries([0, 1].map((index) => [`${serverAddress(index)}:${ECHO}`, true])));
  return balancer;
}

/** The server of each of `numbers`, in its own words. */
async function namesOf(clients: UdpClients, port: number, numbers: readonly number[] = CLIENTS): Promise<string[]> {
  const names: string[] = [];
  for (const number of numbers) names.push((await clients.ask(number, `${VIP}:${port}`, 'who')).join());
  return names;
}

/** All come back; one that a busy machine loses is sent again, with all others. */
async function pings(client: Namespace): Promise<void> {
  const all = async () =>
    (await client.run('ping', '-n', '-q', '-c', '20', '-i', '0.01', '-W', '1', PINGED)).stdout.includes('20 received');
  await waitUntil(all, { what: 'all pings to come back' });
}

/** Frames that came to the workers, and packets that the kernel has taken. */
async function seen(balancer: Balancer): Promise<[up: number, kernel: number]> {
  const { lb4 } = await balancer.stats();
  const up = lb4.workers.reduce((sum, { frames }) => sum + frames.received, 0);
  return [up, await balancer.metric('lb4_fast_path_packets_total')];
}

test.skipIf(why !== undefined).each(['tc', 'xdp'])('by %s: TCP, UDP and pings, while nobody runs as well, and affinity', async (hook) => {
  await using lab = new Topology({ servers: 2 });
  if (hook === 'xdp') lab.likeHardware();
  const { balancer: host, client, servers } = lab;
  host.ip('address', 'add', `${PINGED}/24`, 'dev', 'front');
  await Promise.all([lab.startBackends(), ...servers.map((server, i) => serveUdp(server, `server${i + 1}`, WHO))]);
  let balancer = await start(host, hook);
  const held = await holdConnections(client, 20, `${VIP}:${ECHO}`);
  const clients = new UdpClients(client);
  const names = await namesOf(clients, WHO);
  expect(new Set(names).size).toBe(2);
  // A client has one server by all its sockets.
  const [mine] = await namesOf(clients, WHO + 1, [100]);
  await pings(client);
  // By now both sides of each have spoken often enough.
  for (let i = 0; i < 3; i++) await namesOf(clients, WHO);
  await othersLiveOn(held);

  const before = await seen(balancer);
  for (let i = 0; i < 5; i++) expect(await namesOf(clients, WHO)).toEqual(names);
  expect(await othersLiveOn(held, '', { times: 20 })).toEqual([]);
  const after = await seen(balancer);
  const [up, kernel] = after.map((count, i) => count - (before[i] ?? 0)) as [number, number];
  // Both directions of 100 questions, and of 20 pings of each connection.
  expect(kernel).toBeGreaterThan(2 * (5 * CLIENTS.length + 20 * 20));
  expect(up).toBeLessThan(20);

  await balancer.stop('SIGKILL');
  expect(await othersLiveOn(held, '', { times: 20 })).toEqual([]);
  expect(await namesOf(clients, WHO)).toEqual(names);
  for (const args of [[], ['--takeover']]) {
    balancer = await start(host, hook, ...args);
    expect(await namesOf(clients, WHO)).toEqual(names);
    const fresh = CLIENTS.map((i) => 200 + 100 * args.length + i);
    expect(new Set(await namesOf(clients, WHO + 1, fresh))).toEqual(new Set([mine]));
    expect(await othersLiveOn(held)).toEqual([]);
    await pings(client);
  }
  expect((await balancer.stats()).lb4.verdicts).toMatchObject({ resetUnknown: 0, resetClash: 0 });
  expect(await balancer.stop()).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
});
