/** Proxy mode: servers that are killed under load, again and again. */
import { expect, test } from 'vitest';
import { startBalancer } from '../lab/balancer.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { pause } from '../lab/wait.ts';

const CLIENTS = 8;

test('kill -9 of one server after the other under load: only what was under way at the killed one fails', async () => {
  await using lab = new Topology({ servers: 3 });
  await lab.startBackends();
  const balancer = await startBalancer(lab.balancer, lab.settings({ more: '[proxy]\ngrace_period = 1' }), { args: ['proxy'] });
  const wrk = lab.client.start(['wrk', '-t1', `-c${CLIENTS}`, '-d8s', '--timeout', '60s', '-H', 'Connection: close', `http://${VIP}/`]);
  await balancer.settled('load', ({ total_connections }) => total_connections > 100);
  const end = performance.now() + 6_000;
  let kills = 0;
  while (performance.now() < end) {
    const victim = kills++ % 3;
    await lab.killBackend(victim);
    // Away for less than it takes to be found down, and for longer.
    await pause(kills % 2 === 0 ? 100 : 500);
    await lab.startBackend(victim);
    await balancer.health({ [`${serverAddress(victim)}:${HTTP}`]: true });
    await pause(300);
  }
  expect(await wrk.exited).toEqual({ code: 0, signal: null });
  const said = wrk.lines.join('\n');
  const [, connect, read, write, timeout] = /connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(said) ?? [0, 0, 0, 0, 0];
  expect([connect, timeout].map(Number), said).toEqual([0, 0]);
  expect(said).not.toMatch(/Non-2xx/);
  // A client has one request under way: so many can be at the killed server, each once.
  expect(Number(read) + Number(write), `${kills} kills\n${said}`).toBeLessThanOrEqual(kills * CLIENTS);
  const { stdout } = await lab.balancer.run('curl', '-sS', 'http://127.0.0.1:7000/metrics');
  const sum = (name: string) =>
    [...stdout.matchAll(new RegExp(`^${name}{.*} (\\d+)$`, 'gm'))].reduce((total, [, value]) => total + Number(value), 0);
  const retries = sum('lb4_server_retry_warnings_total');
  expect(retries).toBeGreaterThan(0);
  const after = await balancer.settled('rest', ({ current_connections }) => current_connections === 0);
  for (const server of Object.values(after.lb4.servers['http-out'] ?? {}))
    expect(server).toMatchObject({ current_connections: 0, load: 0 });
  expect((await balancer.stop()).code).toBe(0);
});
