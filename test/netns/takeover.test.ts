/** One lb4 takes over from another: nobody who is served notices. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LB4, SLOW } from '../lab/balancer.ts';
import type { LoadReport } from '../lab/client.ts';
import { unconfinedIn } from '../lab/confined.ts';
import { contentHash } from '../lab/content.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { Live, MODES } from '../lab/live.ts';
import { NotifySocket } from '../lab/notify-socket.ts';
import type { Exit, Running } from '../lab/processes.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { PATIENCE, waitUntil, within } from '../lab/wait.ts';

const TAKEOVERS = 2;
const HELD = 50;
const TRANSFERS = 4;
const SIZE = 4_000_000;
/** So long they take, whatever the machine can. */
const SECONDS = 8;
/** What is drained may last as long as the test; packets have two workers. */
const MORE = '[proxy]\ngrace_period = 600\n[passthrough]\nworkers = 2';
/** New connections a second, and more than there are of them before vitest ends the test. */
const RATE = 100;
const REQUESTS = 15_000;

/** Where others may ask it. */
const points = ({ lab }: Live) =>
  (existsSync('/run/lb4') ? readdirSync('/run/lb4') : []).filter((name) =>
    name.startsWith(`takeover-${statSync(`/run/netns/${lab.balancer.name}`).ino}-`),
  );

/** How it ended. */
const endOf = (running: Running): Promise<Exit> =>
  within(running.exited, 2 * PATIENCE, 'the end of one lb4').catch((error: Error) => {
    throw new Error(`${error.message}, which printed\n${running.lines.slice(-20).join('\n')}`, { cause: error });
  });

/** Without processes: the lb4 that runs looks at its rules every few seconds, by programs of their own. */
const lasting = (live: Live) => ({ ...traces(live.lab.balancer), processes: [] });

test.each(MODES)('%s: twice during requests, hashed transfers and connections that stay', async (mode) => {
  await using live = await Live.start(mode, { checks: SLOW, more: MORE });
  const { client, balancer: host } = live.lab;
  const hold = await holdConnections(client, HELD, `${live.vip}:7`);
  const load = client.program('client', 'load', `${RATE}`, `http://${live.vip}/`, `${PATIENCE}`, `${client.ports(REQUESTS)}`);
  await load.line(/"answers":[1-9]/);
  const curl = `curl -sS --limit-rate ${Math.round(SIZE / SECONDS)} http://${live.vip}/content/${SIZE}`;
  const first = client.ports(TRANSFERS);
  let over = 0;
  const transfers = Array.from({ length: TRANSFERS }, async (_, i) => {
    const result = await client.runFor(4 * PATIENCE, 'sh', '-c', `${curl} --local-port ${first + i} | sha256sum`);
    over++;
    return result;
  });
  const established = ['ss', '-Htn', 'state', 'established', `( sport >= :${first} and sport < :${first + TRANSFERS} )`];
  const begun = async () => over + (await client.run(...established)).stdout.split('\n').filter(Boolean).length;
  await waitUntil(async () => (await begun()) >= TRANSFERS, { what: 'every transfer to be under way', every: 50 });
  const { rules, reserved, kept } = traces(host);
  const old = [];
  for (let takeover = 0; takeover < TAKEOVERS; takeover++) {
    const last = live.balancer;
    const before = await last.stats();
    await live.launch('--takeover');
    expect(unconfinedIn(live.balancer.running.pid)).toEqual([]);
    old.push(last.running);
    const after = await live.balancer.stats();
    for (const counter of ['total_connections', 'total_bytes_tx', 'total_bytes_rx'] as const)
      expect([counter, after[counter]]).toEqual([counter, expect.toSatisfy((value: number) => value >= before[counter])]);
    if (mode !== 'proxy') expect(await endOf(last.running)).toEqual({ code: 0, signal: null });
    else await last.running.line(/"handed over"/);
    expect(traces(host)).toMatchObject({ rules, reserved, kept });
    expect([takeover, await othersLiveOn(hold)]).toEqual([takeover, []]);
    await load.nextLine(/"answers"/);
  }
  for (const { stdout, stderr } of await Promise.all(transfers)) expect([stdout.split(' ')[0], stderr]).toEqual([contentHash(SIZE), '']);
  const said = load.nextLine(/"answers"/);
  load.end();
  await endOf(load);
  await said;
  const { failed, sent, servers } = JSON.parse(load.lines.at(-1) ?? '') as LoadReport;
  expect(failed).toBe(0);
  const answers = Object.values(servers).reduce((sum, one) => sum + one.answers, 0);
  expect(answers).toBe(sent);
  const held = await report(hold);
  expect(held.filter(({ ended }) => ended !== undefined)).toEqual([]);
  hold.end();
  await endOf(hold);
  // Nothing is left for them to drain.
  for (const running of old) expect(await endOf(running)).toEqual({ code: 0, signal: null });
  // What the books say is what there was, as if it had been one process: in proxy mode what the first two counted to their end, too.
  const all = HELD + TRANSFERS + sent;
  const books = await live.balancer.settled('all of it', (stats) => stats.total_connections >= all);
  // In DSR, what a client sends late, after its connection is over, may begin one.
  if (mode !== 'dsr') expect(books.total_connections).toBe(all);
  if (mode === 'proxy') {
    const { http, echo } = books.frontends;
    const pings = held.map(({ echoed }, index) => Array.from({ length: echoed }, (_, n) => `${index}:${n};`).join('').length);
    expect(echo?.bytes_rx).toBeGreaterThanOrEqual(pings.reduce((sum, bytes) => sum + bytes, 0));
    const bodies = Object.values(servers).reduce((sum, { bytes }) => sum + bytes, TRANSFERS * SIZE);
    expect(http?.bytes_rx).toBeGreaterThanOrEqual(bodies);
    expect([http?.total_connections, echo?.total_connections]).toEqual([TRANSFERS + sent, HELD]);
    const [backend, server] = [await live.metric('lb4_backend_sessions_total'), await live.metric('lb4_server_sessions_total')];
    expect([backend, server]).toEqual([all, all]);
  }
  expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
});

test('nobody runs, another mode, another table, one that hangs: it says so, and the one that runs goes on', async () => {
  await using live = await Live.start('passthrough', { checks: SLOW });
  const { client, balancer: host } = live.lab;
  const hold = await holdConnections(client, 10, `${live.vip}:7`);
  const before = lasting(live);
  const refused = async (says: RegExp, ...flags: string[]) => {
    const running = host.start([LB4, `--config=${live.file}`, '--takeover', ...flags]);
    expect(await endOf(running)).toEqual({ code: 75, signal: null });
    expect(running.lines.filter((line) => line.startsWith('lb4: '))).toEqual([expect.stringMatching(says)]);
  };
  // One after the other: each has 5 s of patience for a greeting.
  await refused(/\(pid \d+\) runs in mode passthrough and goes on: one in mode proxy cannot take over/);
  await refused(/\(pid \d+\) runs in mode passthrough and goes on: one in mode dsr cannot take over/, '--dsr');
  await refused(/goes on: it looks after the firewall rules, and --no-rules/, '--passthrough', '--no-rules');
  live.replace(live.text({ checks: SLOW, more: '[passthrough]\nconnection_tracker_capacity = 1000' }));
  await refused(/goes on: it has room for 65536 connections, connection_tracker_capacity is 1000 now/, '--passthrough');
  live.replace(live.text({ checks: SLOW, more: '[passthrough]\nworkers = 3' }));
  await refused(/goes on: it was written by lb4 with workers = 1, it is 3 now/, '--passthrough');
  expect(lasting(live)).toEqual(before);
  expect(await othersLiveOn(hold)).toEqual([]);
  live.balancer.running.signal('SIGSTOP');
  await refused(/has not answered for 5 s: it stays as it is/, '--passthrough');
  live.balancer.running.signal('SIGCONT');
  expect(await othersLiveOn(hold)).toEqual([]);
  expect(lasting(live)).toEqual(before);
  expect(points(live)).toHaveLength(1);
  expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
  expect(points(live)).toEqual([]);
  await refused(/no lb4 runs in this network namespace that could be taken over from: start without --takeover/, '--passthrough');
  await refused(/no lb4 runs with .*live.toml that could be taken over from/);
});

test('as systemd has it: SIGUSR2 starts the next one, which says who it is now; SIGQUIT leaves connections to the next start', async () => {
  await using live = await Live.start('passthrough', { checks: SLOW });
  const { client, balancer: host } = live.lab;
  await live.balancer.stop();
  const socket = join(live.lab.directory, 'control', 'control.sock');
  live.replace(live.text({ checks: SLOW, more: `[control]\npath = "${socket}"` }));
  using systemd = new NotifySocket(join(live.lab.directory, 'notify'));
  const first = host.start([LB4, '--passthrough', `--config=${live.file}`], { env: { NOTIFY_SOCKET: systemd.path } });
  expect(await systemd.next()).toBe(`READY=1\nMAINPID=${first.pid}`);
  const hold = await holdConnections(client, 10, `${live.vip}:7`);
  const { rules, kept } = traces(host);
  const capture = host.start([LB4, 'capture', '--control', socket]);
  await capture.line(/^lb4: capturing/);
  first.signal('SIGUSR2');
  const [, pid] = /^READY=1\nMAINPID=(\d+)$/.exec(await systemd.next()) ?? [];
  await first.line(/"handed over"/);
  await waitUntil(() => !host.pids().includes(first.pid), { what: 'the first one to end' });
  // A child of one that can give nothing on.
  expect(unconfinedIn(Number(pid))).toEqual([]);
  expect(await endOf(capture)).toEqual({ code: 0, signal: null });
  expect(capture.lines.join('\n')).toContain('this lb4 stops, or another has taken over from it');
  expect(await othersLiveOn(hold)).toEqual([]);
  process.kill(Number(pid), 'SIGQUIT');
  // Its output is that of the first one, which is over with the last of them.
  expect(await endOf(first)).toEqual({ code: 0, signal: null });
  expect(first.lines.filter((line) => line.includes('connections wait for the next start'))).toHaveLength(1);
  expect(traces(host)).toMatchObject({ rules, kept });
  await live.launch();
  await live.balancer.running.line(/an lb4 that died go on/);
  expect(await othersLiveOn(hold)).toEqual([]);
  expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
});
