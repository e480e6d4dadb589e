/** Pings: of an address whose pings go to servers, and of one that lb4 answers for while it is served. */
import { expect, test } from 'vitest';
import { startBalancer } from '../lab/balancer.ts';
import type { Namespace } from '../lab/lab.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { waitUntil } from '../lab/wait.ts';

/** Whose pings go to the servers. */
const PINGED = '10.71.0.2';
const SERVERS = [0, 1].map(serverAddress);

const settings = {
  frontends: {
    http: { listen: `${VIP}:${HTTP}`, servers: SERVERS.map((ip) => `${ip}:${HTTP}`), frontend: 'icmp_echo = "balancer"' },
    ping: {
      listen: PINGED,
      servers: SERVERS.map((ip) => `${ip}:${HTTP}`),
      frontend: 'protocol = "icmp"',
      backend: 'balance = "roundrobin"\nhealth_check = "none"',
    },
  },
};

/** How many come back of so many. */
async function pings(from: Namespace, to: string, count: number, ...more: string[]): Promise<number> {
  const { stdout } = await from.run('ping', '-n', '-q', '-c', String(count), '-i', '0.01', '-W', '1', ...more, to);
  return Number(/ (\d+) received/.exec(stdout)?.[1]);
}

/** One that a busy machine loses is sent again, with all others. */
const arrive = (from: Namespace, to: string, count: number, ...more: string[]) =>
  waitUntil(async () => (await pings(from, to, count, ...more)) === count, { what: `${count} pings of ${to} to come back` });

/** Pings that a host's own kernel was asked for. */
async function asked(host: Namespace): Promise<number> {
  const [names = [], values = []] = (await host.run('cat', '/proc/net/snmp')).stdout
    .split('\n')
    .filter((line) => line.startsWith('Icmp:'))
    .map((line) => line.split(' '));
  return Number(values[names.indexOf('InEchos')]);
}

test('pings reach servers and come back, are answered by lb4 while a server is up, and leave those of the host alone', async () => {
  await using lab = new Topology({ clients: 2, servers: 2 });
  const { balancer: host, clients, servers } = lab;
  host.sh('ip', 'address', 'add', `${PINGED}/24`, 'dev', 'front');
  await lab.startBackends();
  const balancer = await startBalancer(host, settings, { healthy: false });
  await balancer.health(Object.fromEntries(SERVERS.map((ip) => [`${ip}:${HTTP}`, true])));

  await Promise.all(clients.map((client) => arrive(client, PINGED, 100)));
  expect((await Promise.all(servers.map(asked))).every((count) => count >= 100)).toBe(true);
  await arrive(clients[0], PINGED, 3, '-s', '4000');
  await arrive(clients[0], VIP, 3, '-s', '4000');
  expect(await balancer.verdict('echoAnswered')).toBeGreaterThanOrEqual(3);
  // All of it without the kernel, which answers for other addresses as ever.
  expect(await asked(host)).toBe(0);
  await arrive(servers[0], '10.72.0.1', 1);
  for (const source of [PINGED, '10.72.0.1']) await arrive(host, SERVERS[0], 1, '-I', source);

  for (const i of [0, 1]) await lab.killBackend(i);
  await balancer.health(Object.fromEntries(SERVERS.map((ip) => [`${ip}:${HTTP}`, false])));
  // From a change of health to the next plan it takes a moment.
  await waitUntil(async () => (await pings(clients[0], VIP, 3)) === 0, { what: 'pings of the VIP to stay unanswered' });
  await arrive(clients[0], PINGED, 3);
  expect(await balancer.stop()).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
});
