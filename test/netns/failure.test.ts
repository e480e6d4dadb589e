/** Servers that die, vanish, or were never there. */
import { expect, test } from 'vitest';
import type { HoldReport } from '../lab/client.ts';
import type { Namespace } from '../lab/lab.ts';
import type { Running } from '../lab/processes.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

const FIRST = `${serverAddress(0)}:${ECHO}`;

async function report(running: Running): Promise<HoldReport> {
  const answer = running.nextLine(/^\[/);
  running.write('report');
  return JSON.parse(await answer) as HoldReport;
}

async function holdConnections(client: Namespace, count: number): Promise<Running> {
  const running = client.program('client', 'hold', `${count}`, `${VIP}:${ECHO}`);
  await running.line(/^holding/);
  return running;
}

/** Every connection that is not at `lost` goes on: it is answered three more times. */
async function othersLiveOn(running: Running, lost: string): Promise<void> {
  const before = await report(running);
  await waitUntil(
    async () => {
      const now = await report(running);
      return now.every(({ server, echoed }, index) => server === lost || echoed >= (before[index]?.echoed ?? 0) + 3);
    },
    { what: `the connections that are not at ${lost} to go on`, timeout: 5_000, every: 50 },
  );
  const dead = (await report(running)).filter(({ server, ended }) => server !== lost && ended !== undefined);
  expect(dead).toEqual([]);
}

async function answersOnlyFrom(lab: Topology, servers: string[]): Promise<void> {
  const urls = Array.from({ length: 60 }, () => `http://${VIP}/`);
  const { code, stdout } = await lab.client.run('curl', '-sS', '--max-time', '20', '-H', 'Connection: close', ...urls);
  expect(code).toBe(0);
  expect([...new Set(stdout.trim().split('\n'))].sort()).toEqual(servers);
}

test('a server killed mid-transfer: its clients are told, others live on, others take over, it comes back', async () => {
  await using lab = new Topology();
  const balancer = await lab.serve();
  const held = await holdConnections(lab.client, 30);
  const drips = Array.from({ length: 12 }, () =>
    lab.client.start([
      'curl',
      '-sS',
      '--max-time',
      '20',
      '-o',
      '/dev/null',
      '-w',
      '%{http_code} %{size_download} %header{x-server}\n',
      `http://${VIP}/drip/2000000`,
    ]),
  );
  // Each in full flow: a twentieth of them all has come.
  await balancer.settled('12 downloads', ({ frontends: { http } }) => http?.current_connections === 12 && http.bytes_rx > 1_200_000);
  await lab.killBackend(0);
  const results = await Promise.all(drips.map(async (drip) => ({ exit: await drip.exited, said: drip.lines.join(' ') })));
  for (const { exit, said } of results) {
    // 18, 56: the transfer ended early, and curl knew at once.
    if (said.includes('server1')) expect([18, 56]).toContain(exit.code);
    else expect([exit.code, said]).toEqual([0, expect.stringMatching(/^200 2000000 server[23]$/)]);
  }
  expect(results.some(({ exit }) => exit.code === 0)).toBe(true);
  await balancer.health({ [FIRST]: false, [`${serverAddress(0)}:${HTTP}`]: false });
  await othersLiveOn(held, 'server1');
  await answersOnlyFrom(lab, ['server2', 'server3']);
  await lab.startBackend(0);
  await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: true });
  await answersOnlyFrom(lab, ['server1', 'server2', 'server3']);
  await othersLiveOn(held, 'server1');
  expect((await balancer.stop()).code).toBe(0);
});

test('a server whose link goes down: others live on and take over', async () => {
  await using lab = new Topology();
  const balancer = await lab.serve();
  const held = await holdConnections(lab.client, 30);
  lab.servers[1]?.ip('link', 'set', 'eth0', 'down');
  await balancer.health({ [`${serverAddress(1)}:${HTTP}`]: false });
  await othersLiveOn(held, 'server2');
  await answersOnlyFrom(lab, ['server1', 'server3']);
  // Back again: the connections it had go on where they were.
  lab.servers[1]?.ip('link', 'set', 'eth0', 'up');
  lab.servers[1]?.ip('route', 'replace', '10.71.0.0/24', 'via', '10.72.0.1');
  await balancer.health({ [`${serverAddress(1)}:${HTTP}`]: true });
  await othersLiveOn(held, '');
  expect((await balancer.stop()).code).toBe(0);
});

test('no server is up: a client is refused at once', async () => {
  await using lab = new Topology({ servers: 2 });
  const balancer = await lab.serve();
  await lab.killBackend(0);
  await lab.killBackend(1);
  await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: false, [`${serverAddress(1)}:${HTTP}`]: false });
  const began = performance.now();
  const { code, stderr } = await lab.client.run('curl', '-sS', `http://${VIP}/`);
  expect(code).toBe(7);
  expect(stderr).toMatch(/refused|Couldn't connect/i);
  expect(performance.now() - began).toBeLessThan(1_000);
  expect(await balancer.verdict('resetNoServer')).toBeGreaterThanOrEqual(1);
  expect((await balancer.stats()).current_connections).toBe(0);
  expect((await balancer.stop()).code).toBe(0);
});
