/** Proxy mode: what it needs, what it leaves, how it ends. */
import { chownSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Balancer, configuration, type Frontend, launch, STATS_PORT, startBalancer } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import type { Namespace } from '../lab/lab.ts';
import { launchAsNobody, NOBODY } from '../lab/nobody.ts';
import type { Running } from '../lab/processes.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { PATIENCE, waitUntil, within } from '../lab/wait.ts';

const PROXY = { args: ['proxy'] };

/** lb4 over the lab's servers, with so many seconds of grace. */
function start(lab: Topology, grace: number): Promise<Balancer> {
  return startBalancer(lab.balancer, lab.settings({ more: `[proxy]\ngrace_period = ${grace}` }), PROXY);
}

async function ask(client: Namespace): Promise<{ code: number; stdout: string; stderr: string }> {
  return client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`);
}

async function healthz(namespace: Namespace): Promise<string> {
  return (await namespace.run('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', `http://127.0.0.1:${STATS_PORT}/healthz`)).stdout;
}

/** Waits until every held connection has ended. */
async function ends(held: Running): Promise<void> {
  await waitUntil(async () => (await report(held)).every(({ ended }) => ended !== undefined), { what: 'all to end', every: 50 });
}

/** By the client's kernel: a program that writes as the reset comes may see no more than the end. */
async function expectResets(client: Namespace, held: Running): Promise<void> {
  await ends(held);
  const resets = /TcpEstabResets\s+(\d+)/.exec(client.sh('nstat', '-asz', 'TcpEstabResets'))?.[1];
  expect(Number(resets)).toBe((await report(held)).length);
}

test('kill -9 and a restart at once on the same port: it serves, and has left nothing', async () => {
  await using lab = new Topology({ servers: 2 });
  await lab.startBackends();
  const first = await start(lab, 1);
  const held = await holdConnections(lab.client, 50, `${VIP}:${ECHO}`);
  expect(traces(lab.balancer)).toEqual({ ...NOTHING, processes: [first.running.pid] });
  await first.stop('SIGKILL');
  const second = await start(lab, 1);
  await ends(held);
  expect((await ask(lab.client)).stdout).toMatch(/^server/);
  expect(await second.stop()).toEqual({ code: 0, signal: null });
  // The first's connections are in no one's way: its own closed them.
  const third = await start(lab, 1);
  expect(await third.stop()).toEqual({ code: 0, signal: null });
  expect(traces(lab.balancer)).toEqual(NOTHING);
});

test.concurrent.each(['SIGTERM', 'SIGINT'] as const)(
  '%s: new connections are refused, running ones go on to their end, exit 0',
  async (signal) => {
    await using lab = new Topology({ servers: 2 });
    await lab.startBackends();
    const balancer = await start(lab, 30);
    const { running } = balancer;
    const held = await holdConnections(lab.client, 20, `${VIP}:${ECHO}`);
    const download = lab.client.start(['curl', '-sS', '-o', '/dev/null', '-w', '%{size_download}', `http://${VIP}/drip/3000000`]);
    // Not what the kernel has taken in: that lb4 has not accepted yet, and would be reset.
    await balancer.settled('curl', ({ current_connections }) => current_connections === 21);
    expect(await healthz(lab.balancer)).toBe('200');
    running.signal(signal);
    await running.line(/"msg":"stopping"/);
    await waitUntil(async () => (await ask(lab.client)).code === 7, { what: 'a new connection to be refused' });
    expect(await healthz(lab.balancer)).toBe('503');
    expect(await othersLiveOn(held)).toEqual([]);
    expect([(await download.exited).code, download.lines.join('')]).toEqual([0, '3000000']);
    expect(await othersLiveOn(held)).toEqual([]);
    expect(running.exit).toBeUndefined();
    held.end();
    expect(await within(running.exited, PATIENCE, 'the end of lb4')).toEqual({ code: 0, signal: null });
    expect(traces(lab.balancer)).toEqual(NOTHING);
  },
);

test.concurrent.each([
  ['SIGTERM', 'SIGTERM'],
  ['SIGINT', 'SIGTERM'],
  ['SIGINT', 'SIGINT'],
] as const)('%s, then %s: the grace period ends at once, by resets, exit 0', async (one, other) => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const { running } = await start(lab, 600);
  const held = await holdConnections(lab.client, 20, `${VIP}:${ECHO}`);
  running.signal(one);
  await running.line(/"msg":"stopping"/);
  expect(await othersLiveOn(held)).toEqual([]);
  running.signal(other);
  expect(await within(running.exited, PATIENCE, 'the end of lb4')).toEqual({ code: 0, signal: null });
  await expectResets(lab.client, held);
});

test.concurrent('the grace period over: resets, exit 0', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  // Longer than a look at the connections takes beside the other tests of this file.
  const { running } = await start(lab, 6);
  const held = await holdConnections(lab.client, 20, `${VIP}:${ECHO}`);
  running.signal('SIGTERM');
  await running.line(/"connections":20,"seconds":6,"msg":"waiting for connections to end/);
  expect(await othersLiveOn(held)).toEqual([]);
  expect(await within(running.exited, PATIENCE, 'the end of lb4')).toEqual({ code: 0, signal: null });
  await expectResets(lab.client, held);
});

// ---- what it needs

test('ports from 1024 on need no privilege', async () => {
  await using lab = new Topology({ servers: 2 });
  await lab.startBackends();
  const servers = [0, 1].map((index) => `${serverAddress(index)}:${HTTP}`);
  const place = join(lab.directory, 'control');
  mkdirSync(place);
  chownSync(place, NOBODY, NOBODY);
  const more = `[control]\npath = "${place}/control.sock"\ngroup = "root"`;
  const running = launchAsNobody(lab.balancer, { frontends: { http: { listen: `${VIP}:8080`, servers } }, more });
  await running.line(/"level":"warn".*lb4's user may give .*control\.sock\S* to a group of its own alone: .*SupplementaryGroups=root/);
  await running.line(/"msg":"ready"/);
  expect(readdirSync(place)).toEqual([]);
  expect(lab.balancer.sh('cat', `/proc/${running.pid}/status`)).toMatch(/^Uid:\s+65534\s[^]*^CapEff:\s+0{16}$/m);
  const balancer = new Balancer(lab.balancer, running, `http://127.0.0.1:${STATS_PORT}/stats`);
  await balancer.health(Object.fromEntries(servers.map((server) => [server, true])));
  const { stdout } = await lab.client.run('wrk', '-t1', '-c8', '-d1s', '-H', 'Connection: close', `http://${VIP}:8080/`);
  expect(stdout).not.toMatch(/Socket errors|Non-2xx/);
  expect(await balancer.stop()).toEqual({ code: 0, signal: null });
  expect(running.lines.filter((line) => /"level":"(warn|error)"/.test(line) && !line.includes('control:'))).toEqual([]);
});

/** That lb4 ends with `code` and one line that matches. */
async function expectRefusal(running: Running, code: number, line: RegExp): Promise<void> {
  expect([await within(running.exited, PATIENCE, 'the end of lb4'), running.lines]).toEqual([
    { code, signal: null },
    [expect.stringMatching(line)],
  ]);
}

test('port 80 without CAP_NET_BIND_SERVICE: exit 77 and the capability’s name', async () => {
  await using lab = new Topology({ servers: 1 });
  const running = launchAsNobody(lab.balancer, lab.settings());
  await expectRefusal(running, 77, /^lb4: .*10\.71\.0\.1 port 80.*CAP_NET_BIND_SERVICE/);
});

test('a port that is in use: exit 1 with the place in the file, the address and the port; the statistics port likewise', async () => {
  await using lab = new Topology({ servers: 1 });
  const squatter = lab.balancer.program('backend', 'squatter', `http=${HTTP}`);
  await squatter.line(/^listening/);
  await expectRefusal(
    launch(lab.balancer, configuration(lab.settings()), 'proxy'),
    1,
    /^lb4: .*\.toml:2:15: frontends\.http\.listen_addr: .*10\.71\.0\.1 port 80\): Address already in use; ss -ltnp/,
  );
  const other = lab.balancer.program('backend', 'other', `http=${STATS_PORT}`);
  await other.line(/^listening/);
  const { echo } = lab.settings().frontends as { echo: Frontend };
  const taken = launch(lab.balancer, configuration({ frontends: { echo } }), 'proxy');
  await expectRefusal(taken, 1, /^lb4: .*\.toml:\d+:8: stats\.port: .*address already in use .*:7000; ss -ltnp/);
});

test('an address that is not this host’s: exit 78 with the interfaces and addresses there are', async () => {
  await using lab = new Topology({ servers: 1 });
  lab.balancer.ip('addr', 'add', 'fd01::1/64', 'dev', 'front', 'nodad');
  const settings = { frontends: { web: { listen: '10.99.0.1:80', servers: [`${serverAddress(0)}:${HTTP}`] } } };
  const running = launch(lab.balancer, configuration(settings), 'proxy');
  await expectRefusal(running, 78, /^lb4: .*10\.99\.0\.1 port 80.*front 10\.71\.0\.1.*front fd01::1.*back 10\.72\.0\.1/);
});
