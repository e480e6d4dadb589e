/** kill -9: the connections do not notice. */
import { readdirSync, rmSync, truncateSync } from 'node:fs';
import { expect, test } from 'vitest';
import { LB4, STATS_PORT } from '../lab/balancer.ts';
import { contentHash } from '../lab/content.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { Live } from '../lab/live.ts';
import { NOTHING, traces } from '../lab/traces.ts';

const KILLS = 10;
const HELD = 1000;
const TRANSFERS = 20;
const SIZE = 20_000_000;
/** So long they take, whatever the machine can: longer than the kills. */
const SECONDS = 30;
/** Milliseconds of the whole: on a busy machine a transfer waits longer each time that nobody forwards. */
const LIMIT = 300_000;

test.each(['passthrough', 'dsr'] as const)(
  '%s: killed ten times during hashed transfers and a thousand connections',
  async (mode) => {
    // In DSR, what a client sends late, after its connection is over, may begin one: it has the time of several retransmissions.
    const timeouts = (fin: number) => `[passthrough.timeouts]\ntime_wait = 1\nfin = ${fin}`;
    await using live = await Live.start(mode, { more: timeouts(mode === 'dsr' ? 30 : 5) });
    const { client, balancer: host } = live.lab;
    const hold = await holdConnections(client, HELD, `${live.vip}:7`, 500);
    const curl = `curl -sS --limit-rate ${Math.round(SIZE / SECONDS)} http://${live.vip}/content/${SIZE}`;
    const transfers = Array.from({ length: TRANSFERS }, () => client.runFor(LIMIT, 'sh', '-c', `${curl} | sha256sum`));
    await live.balancer.settled('everything to be under way', (stats) => stats.total_connections === HELD + TRANSFERS);
    for (let kill = 0; kill < KILLS; kill++) {
      const rules = traces(host).rules;
      await live.balancer.stop('SIGKILL');
      // While nobody forwards, the kernel must not answer for anybody.
      expect(traces(host).rules).toEqual(rules);
      await live.launch();
      const said = await live.balancer.running.line(/go on/);
      expect(JSON.parse(said)).toMatchObject({ level: 'info', connections: expect.any(Number) as number });
      // A connection may be silent for a minute on a busy machine: TCP doubles its patience each time that nobody forwards.
      expect([kill, await othersLiveOn(hold, '', { times: 2, timeout: 300_000 })]).toEqual([kill, []]);
    }
    for (const { stdout, stderr } of await Promise.all(transfers)) expect([stdout.split(' ')[0], stderr]).toEqual([contentHash(SIZE), '']);
    expect((await report(hold)).filter(({ ended }) => ended !== undefined)).toEqual([]);
    // What the books say is what there is, as if it had been one process.
    const { total_connections: total } = await live.balancer.settled('the held ones alone', (stats) => stats.current_connections === HELD);
    expect(total).toBe(HELD + TRANSFERS);
    // A reset that a full ring loses on a busy machine nobody sends again.
    await live.reload({ more: `${timeouts(5)}\nestablished = 10` });
    hold.end();
    await hold.exited;
    await live.balancer.settled('every port to come back', ({ lb4 }) => lb4.flows === 0);
    if (mode === 'passthrough') expect(await live.metric('lb4_port_pool_ports_in_use')).toBe(0);
    expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
    expect(traces(host)).toEqual(NOTHING);
  },
  LIMIT,
);

test('a server that left the file while nobody ran: its connections go on, as after a reload', async () => {
  await using live = await Live.start('passthrough');
  const hold = await holdConnections(live.lab.client, 10, `${live.vip}:7`);
  await live.balancer.stop('SIGKILL');
  live.replace(live.text({ servers: [1], backend: 'drain_timeout = 600' }));
  await live.launch();
  expect(await othersLiveOn(hold)).toEqual([]);
  const servers = new Set((await report(hold)).map(({ server }) => server));
  expect(servers).toEqual(new Set(['server1', 'server2']));
  hold.end();
  await hold.exited;
  // The last one gone, so is the server.
  await live.balancer.settled('server1 to be gone', ({ backends }) => Object.keys(backends['echo-out'].servers).length === 1);
});

test('a table that cannot be followed is told in one line, and another one begins', async () => {
  await using live = await Live.start('passthrough');
  const expectRefused = async (reason: unknown) => {
    await live.launch();
    const lines = live.balancer.running.lines.filter((line) => line.includes('cannot be followed'));
    expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([{ level: 'warn', reason }]);
    expect((await live.lab.client.run('curl', '-sS', '--max-time', '60', `http://${live.vip}/`)).stdout).toMatch(/^server/);
  };
  await live.balancer.stop('SIGKILL');
  live.replace(live.text({ more: '[passthrough]\nconnection_tracker_capacity = 1000' }));
  await expectRefused('it has room for 65536 connections, connection_tracker_capacity is 1000 now');
  await live.balancer.stop('SIGKILL');
  // As whoever was killed while it was made leaves it.
  for (const directory of traces(live.lab.balancer).kept) truncateSync(`${directory}/table`);
  await expectRefused(expect.stringMatching(/./));
});

test.each([
  ['lb4 rules --remove', (file: string) => [LB4, 'rules', '--remove', `--config=${file}`]],
  ['proxy mode', (file: string) => [LB4, `--config=${file}`]],
])('killed, and never to come back: %s leaves no connections behind', async (name, command) => {
  await using live = await Live.start('passthrough');
  const { balancer: host } = live.lab;
  await live.balancer.stop('SIGKILL');
  expect(traces(host).kept).not.toEqual([]);
  const doctor = await host.run(LB4, 'doctor', '--passthrough', `--config=${live.file}`);
  expect([doctor.code === 0, doctor.stdout]).toEqual([
    false,
    expect.stringMatching(/killed.*was killed here and nobody has taken its place/),
  ]);
  const running = host.start(command(live.file));
  await Promise.race([running.exited, running.line(/"msg":"ready"/)]);
  await running.stop('SIGTERM');
  const says = running.lines.some((line) => /\(pid \d+\) was killed here: its connections, .*, end now$/.test(line));
  expect(says).toBe(name.startsWith('lb4 rules'));
  expect(traces(host)).toEqual(NOTHING);
});

test('killed, and the next start fails: the one after it goes on', async () => {
  await using live = await Live.start('passthrough');
  const { client, balancer: host } = live.lab;
  const hold = await holdConnections(client, 10, `${live.vip}:7`);
  await live.balancer.stop('SIGKILL');
  const { rules, kept, reserved } = traces(host);
  const listen = `require('node:net').createServer().listen(${STATS_PORT}, '127.0.0.1', () => console.log('listening'))`;
  const other = host.start([process.execPath, '-e', listen]);
  await other.line(/listening/);
  const failing = host.start([LB4, '--passthrough', `--config=${live.file}`]);
  expect((await failing.exited).code).toBe(1);
  expect(failing.lines.join('\n')).toMatch(/connections wait for the next start.*\n.*EADDRINUSE/s);
  await other.stop('SIGTERM');
  expect(traces(host)).toMatchObject({ rules, kept, reserved });
  await live.launch();
  expect(await othersLiveOn(hold)).toEqual([]);
  expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
});

test('killed, its lock taken away, and proxy mode starts: no connections are left behind', async () => {
  await using live = await Live.start('passthrough');
  const { balancer: host } = live.lab;
  await live.balancer.stop('SIGKILL');
  for (const directory of traces(host).kept) rmSync(`${directory.replace('kept-', 'netns-')}/lock`, { force: true });
  const running = host.start([LB4, `--config=${live.file}`]);
  await running.line(/"msg":"ready"/);
  expect(traces(host).kept).toEqual([]);
  await running.stop('SIGTERM');
});

test('a table that somebody takes away is told, and packets pass', async () => {
  await using live = await Live.start('passthrough');
  const { balancer: host, client } = live.lab;
  for (const directory of traces(host).kept) rmSync(directory, { recursive: true });
  const said = await live.balancer.running.line(/the table that outlives lb4: it is gone/);
  expect(said).toMatch(/"level":"error".*connections end if lb4 is killed.*lb4 forwards all the same/);
  expect(await live.metric('lb4_host_missing', 'what="kept_table"')).toBe(1);
  expect((await host.run('curl', '-sS', `http://127.0.0.1:${STATS_PORT}/healthz`)).stdout).toContain('"ok"');
  expect((await client.run('curl', '-sS', '--max-time', '60', `http://${live.vip}/`)).stdout).toMatch(/^server/);
  // What is written after that goes, too.
  await live.reload({ servers: [1] });
  expect(traces(host).kept).not.toEqual([]);
  expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
});

test('a frontend that changed its backend before the kill: its old connections still come back', async () => {
  await using live = await Live.start('passthrough');
  const { client, balancer: host } = live.lab;
  const hold = await holdConnections(client, 10, `${live.vip}:7`);
  const other = live
    .text({})
    .replaceAll('echo-out', 'echo-other')
    .replace(/(echo-other.servers\]\n)server1.*\n/, '$1');
  const done = live.balancer.running.nextLine(/"msg":"configuration reloaded"/);
  live.replace(other);
  await done;
  const { rules } = traces(host);
  for (let kill = 0; kill < 2; kill++) {
    await live.balancer.stop('SIGKILL');
    await live.launch();
    expect(traces(host).rules).toEqual(rules);
    expect(await othersLiveOn(hold, `${kill}`)).toEqual([]);
  }
});

test('without a tmpfs it forwards all the same, and says what that costs', async () => {
  await using live = await Live.start('passthrough');
  await live.balancer.stop();
  const hidden = `mount -t ramfs none /dev/shm && mount --bind ${live.lab.directory} /run && exec ${LB4} --passthrough --config=${live.file}`;
  const running = live.lab.balancer.start(['unshare', '--mount', 'sh', '-c', hidden]);
  const said = await running.line(/will not survive/);
  expect(JSON.parse(said)).toMatchObject({ level: 'info', reason: 'there is no tmpfs at /run or /dev/shm' });
  await running.line(/"msg":"ready"/);
  expect((await live.lab.client.run('curl', '-sS', '--max-time', '60', `http://${live.vip}/`)).stdout).toMatch(/^server/);
  await running.stop('SIGTERM');
});

/** Has lb4 run with file systems of its own. */
const within = (live: Live, mounts: string) =>
  live.lab.balancer.start(['unshare', '--mount', 'sh', '-c', `${mounts} && exec ${LB4} --passthrough --config=${live.file}`]);

test('a small /run is left alone: the table goes to /dev/shm with all the rest, or dies with the process where that is small, too', async () => {
  await using live = await Live.start('passthrough', { more: '[passthrough]\nconnection_tracker_capacity = 262144' });
  await live.balancer.stop();
  const small = (root: string) => `mount -t tmpfs -o size=100m none ${root}`;
  const first = within(live, `${small('/run')} && ${small('/dev/shm')}`);
  const { reason } = JSON.parse(await first.line(/will not survive/)) as { reason: string };
  expect(reason).toMatch(/^the table takes \d+ MB, half or more of what is free \(\/run 105 MB, \/dev\/shm 105 MB\)$/);
  await first.line(/"msg":"ready"/);
  await first.stop('SIGTERM');
  const second = within(live, `${small('/run')} && mount -t tmpfs -o size=1g none /dev/shm`);
  await second.line(/"msg":"ready"/);
  const seen = (path: string) => readdirSync(`/proc/${second.pid}/root${path}`);
  const [directory = ''] = seen('/dev/shm/lb4');
  expect(seen(`/dev/shm/lb4/${directory}`).sort()).toEqual(['members.json', 'returns.json', 'table']);
  expect(seen('/run/lb4').filter((name) => name.startsWith('kept-'))).toEqual([]);
  await second.stop('SIGTERM');
});

test('affinity: clients stay with their server over a reload with another scheduler and over a kill, until the file asks for none', async () => {
  await using live = await Live.start('passthrough', { backend: 'balance = "roundrobin"\naffinity = 600' });
  const urls = Array.from({ length: 6 }, () => `http://${live.vip}/`);
  const servers = async () => {
    const { stdout } = await live.lab.client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
    return [...new Set(stdout.trim().split('\n'))].sort();
  };
  const first = await servers();
  expect(first).toHaveLength(1);
  await live.reload({ backend: 'balance = "leastconn"\naffinity = 600' });
  expect(await servers()).toEqual(first);
  await live.balancer.stop('SIGKILL');
  await live.launch();
  expect(await servers()).toEqual(first);
  await live.reload({ backend: 'balance = "roundrobin"' });
  expect(await servers()).toEqual(['server1', 'server2']);
});
