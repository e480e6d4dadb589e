/** Hot reload, in every mode: what runs goes on, what is new takes part, what is wrong changes nothing. */
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { HASTY, Live, MODES, PATIENT, type Wanted } from '../lab/live.ts';
import { ECHO, type Topology } from '../lab/topology.ts';
import { PATIENCE, pause, waitUntil, within } from '../lab/wait.ts';

async function answering(live: Live, requests = 40): Promise<string[]> {
  const urls = Array.from({ length: requests }, () => `http://${live.vip}/`);
  const { code, stdout, stderr } = await live.lab.client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
  expect(code, stderr).toBe(0);
  return [...new Set(stdout.trim().split('\n'))].sort();
}

// All at the same time: wrk takes whatever processors there are, and be it a third of them.
test.concurrent.each(MODES)('%s: a reload every 200 ms for 30 s under load: no request fails', async (mode) => {
  await using live = await Live.start(mode);
  const held = await holdConnections(live.lab.client, 20, `${live.vip}:${ECHO}`);
  const wrk = live.lab.client.start(['wrk', '-t1', '-c8', '-d30s', '--timeout', '60s', '-H', 'Connection: close', `http://${live.vip}/`]);
  // A weight changes, a frontend comes, a server goes, a scheduler changes: and all of it back again.
  const turns: Wanted[] = [
    { weights: [3, 1] },
    { frontends: mode === 'dsr' ? ['http', 'echo'] : ['http', 'echo', 'extra'] },
    { servers: [0], backend: 'drain_timeout = 60' },
    { backend: `balance = "${mode === 'dsr' ? 'source' : 'leastconn'}"` },
    {},
  ];
  let turn = 0;
  while (wrk.exit === undefined) {
    live.replace(live.text(turns[turn++ % turns.length]));
    await pause(200);
  }
  const said = wrk.lines.join('\n');
  expect(wrk.exit, said).toEqual({ code: 0, signal: null });
  expect(said).not.toMatch(/Socket errors|Non-2xx/);
  // How many is a matter of speed, too.
  expect(Number(/(\d+) requests in/.exec(said)?.[1])).toBeGreaterThan(200);
  // On a busy machine several changes are taken over as one.
  const reloads = await live.metric('lb4_config_reloads_total', 'result="success"');
  process.stdout.write(`${mode}: ${turn} changes of the file, ${reloads} reloads, ${/\d+ requests in/.exec(said)?.[0]}\n`);
  expect(reloads).toBeGreaterThan(3);
  expect(await live.metric('lb4_config_reloads_total', 'result="failure"')).toBe(0);
  await live.reload({ backend: '# the end' });
  expect(await othersLiveOn(held)).toEqual([]);
  // In proxy mode it would wait for them.
  held.end();
  expect((await live.balancer.stop()).code).toBe(0);
});

describe.each(MODES)('%s', (mode) => {
  // In passthrough with every driver: end-to-end-life.test.ts.
  test.skipIf(mode === 'passthrough')(
    'a removed server drains: its connections go on, new ones go elsewhere, the end of the drain ends them',
    async () => {
      await using live = await Live.start(mode, { backend: PATIENT });
      const held = await holdConnections(live.lab.client, 20, `${live.vip}:${ECHO}`);
      const before = await report(held);
      expect(new Set(before.map(({ server }) => server))).toEqual(new Set(['server1', 'server2']));
      await live.reload({ servers: [1], backend: PATIENT });
      expect(await othersLiveOn(held)).toEqual([]);
      expect(await answering(live)).toEqual(['server2']);
      // Who leaves has as long as stood in the file while he was there.
      await live.reload({ backend: HASTY });
      expect(await othersLiveOn(held)).toEqual([]);
      await live.reload({ servers: [1], backend: HASTY });
      await waitUntil(async () => (await report(held)).every(({ server, ended }) => server === 'server2' || ended !== undefined), {
        what: 'the connections of the removed server to end',
        every: 100,
      });
      for (const says of ['server leaves the file: it drains', 'server is out of time'])
        await live.balancer.running.line(new RegExp(`"server":"echo-out / server1 / .*"msg":"${says}`));
      expect(await othersLiveOn(held, 'server1')).toEqual([]);
      await live.reload({ backend: HASTY });
      await live.balancer.health({ [`${live.addresses[0]}:80`]: true });
      expect(await answering(live)).toEqual(['server1', 'server2']);
    },
  );

  test('a removed frontend lets its connections go on and takes no new ones', async () => {
    await using live = await Live.start(mode);
    const held = await holdConnections(live.lab.client, 10, `${live.vip}:${ECHO}`);
    await live.reload({ frontends: ['http'] });
    expect(await othersLiveOn(held)).toEqual([]);
    const { code } = await live.lab.client.run('timeout', '3', 'bash', '-c', `exec 3<>/dev/tcp/${live.vip}/${ECHO}`);
    expect(code).not.toBe(0);
    expect(await answering(live)).toEqual(['server1', 'server2']);
    // And back: the connections that were left over are counted where they were.
    await live.reload({});
    expect(await othersLiveOn(held)).toEqual([]);
    expect((await live.balancer.stats()).frontends['echo']?.current_connections).toBe(10);
  });

  test('a bad file changes nothing, says what is wrong, and raises a metric', async () => {
    await using live = await Live.start(mode);
    const held = await holdConnections(live.lab.client, 10, `${live.vip}:${ECHO}`);
    const complaint = live.balancer.running.nextLine(/live\.toml:\d+:\d+:.*balance/);
    const refusal = live.balancer.running.nextLine(/reload failed/);
    live.replace(live.text({ servers: [1], backend: 'balance = "maglef"' }));
    expect(await complaint).toContain('maglev');
    await refusal;
    expect(await live.metric('lb4_config_reloads_total', 'result="failure"')).toBe(1);
    expect(await live.metric('lb4_config_last_reload_successful')).toBe(0);
    expect(await answering(live)).toEqual(['server1', 'server2']);
    expect(await othersLiveOn(held)).toEqual([]);
    await live.reload({ servers: [0] });
    expect(await live.metric('lb4_config_last_reload_successful')).toBe(1);
    expect(await answering(live)).toEqual(['server1']);
  });

  test('a file that this host cannot serve changes nothing either', async () => {
    await using live = await Live.start(mode);
    const refusal = live.balancer.running.nextLine(/reload failed/);
    live.replace(live.text({ servers: [0] }).replace(`${live.vip}:${ECHO}`, `10.99.0.1:${ECHO}`));
    await refusal;
    expect(live.balancer.running.lines.join('\n')).toContain('10.99.0.1');
    expect(await answering(live)).toEqual(['server1', 'server2']);
    await live.reload({ servers: [1] });
    expect(await answering(live)).toEqual(['server2']);
  });
});

test.each(MODES)('%s: SIGTERM in the middle of a reload ends it', async (mode) => {
  await using live = await Live.start(mode);
  const { running } = live.balancer;
  live.replace(live.text({ servers: [0] }));
  running.signal('SIGHUP');
  running.signal('SIGTERM');
  expect(await within(running.exited, PATIENCE, 'the end of lb4')).toEqual({ code: 0, signal: null });
});

test('an address that leaves this host takes only its own frontend along', async () => {
  await using live = await Live.start('passthrough', { frontends: ['http'] });
  const { balancer } = live.lab;
  balancer.ip('addr', 'add', '10.71.0.200/24', 'dev', 'front');
  await live.reload({
    frontends: ['http'],
    more:
      live
        .text({ frontends: ['echo'] })
        .replace(`${live.vip}:7`, '10.71.0.200:7')
        .split('[stats]')[0] ?? '',
  });
  balancer.ip('addr', 'del', '10.71.0.200/24', 'dev', 'front');
  await (live.lab as Topology).killBackend(0);
  await waitUntil(async () => (await answering(live, 20).catch(() => [])).join() === 'server2', {
    what: 'the dead server to be left alone',
    every: 100,
  });
  expect((await live.balancer.stop()).code).toBe(0);
});

test('two servers of one name drain, one after the other: /metrics stays what Prometheus can read', async () => {
  await using live = await Live.start('passthrough');
  const [first, second] = live.addresses as [string, string];
  const moved = live.text({ servers: [0] }).replaceAll(`${first}:`, `${second}:`);
  for (const text of [live.text({ servers: [0] }), moved, live.text({ servers: [] })]) {
    // Connections that keep what leaves with the next text from being gone.
    await holdConnections(live.lab.client, 4, `${live.vip}:${ECHO}`);
    const done = live.balancer.running.nextLine(/"msg":"configuration reloaded"/);
    live.replace(text);
    await done;
  }
  expect(await live.metric('lb4_server_current_sessions', `server="server1 (${first}:${ECHO})"`)).toBeGreaterThan(0);
  const check = `curl -sS http://127.0.0.1:7000/metrics | promtool check metrics`;
  expect(await live.lab.balancer.run('sh', '-c', check)).toMatchObject({ code: 0 });
});

describe('how a file changes', () => {
  const one = { servers: [0] };

  test('SIGHUP, also where nothing was written', async () => {
    await using live = await Live.start('passthrough');
    const done = live.balancer.running.nextLine(/"msg":"configuration reloaded"/);
    live.balancer.running.signal('SIGHUP');
    await done;
    expect(await answering(live)).toEqual(['server1', 'server2']);
  });

  test('written in place, in pieces', async () => {
    await using live = await Live.start('passthrough');
    const text = live.text(one);
    writeFileSync(live.file, text.slice(0, 100));
    await pause(300);
    appendFileSync(live.file, text.slice(100));
    await waitUntil(async () => (await answering(live, 20)).join() === 'server1', { what: 'the new file to be used', every: 100 });
  });

  test('a ConfigMap: a symlink to a directory is swapped', async () => {
    await using live = await Live.start('passthrough');
    await live.balancer.stop();
    const mount = join(dirname(live.file), 'mount');
    const fill = (version: string, text: string) => {
      mkdirSync(join(mount, version), { recursive: true });
      writeFileSync(join(mount, version, 'lb4.toml'), text);
    };
    fill('..v1', live.text({}));
    symlinkSync('..v1', join(mount, '..data'));
    symlinkSync('..data/lb4.toml', join(mount, 'lb4.toml'));
    rmSync(live.file);
    symlinkSync('mount/lb4.toml', live.file);
    await live.launch();
    const done = live.balancer.running.nextLine(/"msg":"configuration reloaded"/);
    fill('..v2', live.text(one));
    symlinkSync('..v2', join(mount, '..new'));
    renameSync(join(mount, '..new'), join(mount, '..data'));
    await done;
    rmSync(join(mount, '..v1'), { recursive: true });
    expect(await answering(live)).toEqual(['server1']);
    expect(readFileSync(live.file, 'utf8')).toBe(live.text(one));
  });

  test('the statistics port can move, and stays where it was when it cannot', async () => {
    await using live = await Live.start('passthrough');
    const squatter = live.lab.balancer.program('backend', 'squatter', 'http=7001');
    await squatter.line(/^listening/);
    const at = (port: number) => live.text({}).replace('port = "7000"', `port = "${port}"`);
    const refusal = live.balancer.running.nextLine(/reload failed/);
    live.replace(at(7001));
    await refusal;
    expect((await live.balancer.stats()).total_connections).toBe(0);
    const done = live.balancer.running.nextLine(/"msg":"configuration reloaded"/);
    live.replace(at(7002));
    await done;
    expect((await live.lab.balancer.run('curl', '-sS', 'http://127.0.0.1:7002/stats')).stdout).toContain('total_connections');
    expect((await live.lab.balancer.run('curl', '-sS', 'http://127.0.0.1:7000/stats')).code).toBe(7);
  });

  test('keys that need a restart are named', async () => {
    await using live = await Live.start('passthrough');
    const named = live.balancer.running.nextLine(/passthrough\.ring_slots/);
    live.replace(live.text({}).replace(/ring_slots = \d+/, 'ring_slots = 128'));
    expect(await named).toContain('restart');
  });
});

test("GLB's forwarding table is watched as the file that names it: a state swaps its rows, a mistake in it changes nothing", async () => {
  await using live = await Live.start('passthrough', { frontends: ['echo'] });
  const json = join(live.lab.directory, 'forwarding_table.json');
  const write = (states: readonly string[]) => {
    const backends = live.addresses.map((ip, i) => ({ ip, state: states[i] }));
    const keys = { hash_key: '12345678901234561234567890123456', seed: '34567890123456783456789012345678' };
    writeFileSync(
      `${json}.new`,
      JSON.stringify({ tables: [{ name: 'web', ...keys, binds: [{ ip: live.vip, proto: 'tcp', port: 80 }], backends }] }),
    );
    renameSync(`${json}.new`, json);
  };
  const taken = () => live.balancer.running.nextLine(/"msg":"configuration reloaded"/);
  write(['active', 'active']);
  await live.reload({ frontends: ['echo'], more: `[glb]\nforwarding_table = "${json}"\n` });
  // One client is in one row.
  const [first, ...others] = await answering(live);
  expect(others).toEqual([]);
  const place = first === 'server1' ? 0 : 1;
  const drained = taken();
  write(['active', 'active'].with(place, 'draining'));
  await drained;
  expect(await answering(live)).toEqual([place === 0 ? 'server2' : 'server1']);
  const refusal = live.balancer.running.nextLine(/reload failed/);
  write(['active', 'actve']);
  await refusal;
  expect(live.balancer.running.lines.join('\n')).toMatch(
    /forwarding_table\.json:1:\d+: tables\[0\]\.backends\[1\]\.state: \\"actve\\" is not good/,
  );
  expect(await answering(live)).toEqual([place === 0 ? 'server2' : 'server1']);
  const mended = taken();
  write(['active', 'active']);
  await mended;
  expect(await answering(live)).toEqual([first]);
  expect(live.balancer.running.lines.join('\n')).not.toContain('without a thread of its own');
});
