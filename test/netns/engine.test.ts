/** The engine on real packets: what it tells of servers, reloading under load, and when a reload is done. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Order, Report } from '../lab/engine.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { injectPoll } from '../lab/packet-worker.ts';
import type { Running } from '../lab/processes.ts';
import { ECHO, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

const CLOSED = 9;
const DEAF = 10;

let lab: Topology;
let engine: Running;

beforeEach(async () => {
  lab = new Topology({ servers: 2 });
  await lab.startBackends();
  // The kernel must not answer for the VIP.
  for (const ports of ['1:1023', '33768:61000'])
    lab.balancer.sh('iptables', '-t', 'raw', '-A', 'PREROUTING', '-d', VIP, '-p', 'tcp', '--dport', ports, '-j', 'DROP');
  lab.servers[0]?.sh('iptables', '-A', 'INPUT', '-p', 'tcp', '--dport', `${DEAF}`, '-j', 'DROP');
  engine = lab.balancer.program('engine');
});

afterEach(async () => {
  engine.end();
  await engine.exited;
  await lab[Symbol.asyncDispose]();
  expect(engine.exit).toEqual({ code: 0, signal: null });
});

const at = (index: number, server: number, port = ECHO, drains = false) => ({ index, ip: serverAddress(server), port, drains });

async function order(frontends: Order['frontends']): Promise<void> {
  const done = engine.nextLine(/^(ready|configured)$/);
  engine.write(JSON.stringify({ vip: VIP, frontends } satisfies Order));
  await done;
}

async function counters(): Promise<Report> {
  const answer = engine.nextLine(/^\{/);
  engine.write('report');
  return JSON.parse(await answer) as Report;
}

test('a refused handshake and a repeated SYN are told, a good connection is not', async () => {
  await order([
    { port: ECHO, servers: [at(0, 0)] },
    { port: CLOSED, servers: [at(1, 0, CLOSED)] },
    { port: DEAF, servers: [at(2, 0, DEAF)] },
  ]);
  const hold = await holdConnections(lab.client, 5, `${VIP}:${ECHO}`);
  const repeated = lab.client.retransmitted();
  expect((await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}:${CLOSED}/`)).code).toBe(7);
  await engine.line(/^signal 1 the server reset a handshake$/);
  expect((await lab.client.run('curl', '-sS', '--max-time', '3', `http://${VIP}:${DEAF}/`)).code).toBe(28);
  await engine.line(/^signal 2 a SYN was retransmitted$/);
  // On a busy machine one of theirs may have been sent again.
  if (repeated === 0) expect(engine.lines.filter((line) => line.startsWith('signal 0'))).toEqual([]);
  expect(await othersLiveOn(hold)).toEqual([]);
  await hold.stop('SIGKILL');
});

test('hundreds of reloads do not disturb connections; ports and loads are counted; what drains lives on, what is gone ends', async () => {
  const both = [{ port: ECHO, servers: [at(0, 0), at(1, 1)] }];
  await order(both);
  const hold = await holdConnections(lab.client, 40, `${VIP}:${ECHO}`);
  const first = await counters();
  expect(first[0].load + first[1].load).toBe(40);
  for (const index of [0, 1]) {
    expect(first[index]).toMatchObject({ ports: first[index].load, current: first[index].load, portCapacity: 27_233 });
    expect(first[index].load).toBeGreaterThan(5);
  }

  for (let i = 0; i < 300; i++) {
    const passing = { port: 1000 + (i % 20), servers: [at(2 + (i % 7), i % 2, 2000 + i)] };
    await order([{ port: ECHO, servers: [at(0, 0), at(1, 1, ECHO, i % 2 === 0)] }, passing]);
  }
  expect(await othersLiveOn(hold)).toEqual([]);

  await order([{ port: ECHO, draining: true, servers: [at(0, 0), at(1, 1, ECHO, true)] }]);
  expect(await othersLiveOn(hold)).toEqual([]);
  expect((await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}:${ECHO}/`)).code).toBe(7);

  await order([{ port: ECHO, servers: [at(0, 0)] }]);
  expect(await othersLiveOn(hold, 'server2')).toEqual([]);
  await waitUntil(async () => (await report(hold)).every(({ server, ended }) => server !== 'server2' || ended !== undefined), {
    what: 'the connections of the server that is gone to end',
    every: 50,
  });
  expect((await counters())[0].load).toBe(first[0].load);

  // Its index comes back for the same server: from 0.
  await order(both);
  expect((await counters())[1]).toMatchObject({ total: 0, load: 0, ports: 0, portCapacity: 27_233 });
  await hold.stop('SIGKILL');
});

test('new settings are in force when they are answered, however late the worker is', async () => {
  await order([{ port: ECHO, servers: [at(0, 0)] }]);
  const strace = await injectPoll(lab.balancer, engine.pid, 'delay_exit=1000000');
  await strace.line(/DELAYED/);
  await order([{ port: ECHO, servers: [at(1, 1)] }]);
  const hold = await holdConnections(lab.client, 1, `${VIP}:${ECHO}`);
  expect((await report(hold)).map(({ server }) => server)).toEqual(['server2']);
  await hold.stop('SIGKILL');
});

test('settings are answered when the worker dies before it has seen them, and after that', async () => {
  const frontends = [{ port: ECHO, servers: [at(0, 0)] }];
  await order(frontends);
  const strace = await injectPoll(lab.balancer, engine.pid, 'delay_exit=100000:when=1', 'error=EIO:delay_exit=1000000:when=2+');
  await strace.line(/DELAYED/);
  await order(frontends);
  await engine.line(/^failed .*poll/);
  await order(frontends);
});
