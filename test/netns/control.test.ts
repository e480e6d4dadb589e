/** What operators do all day, with the commands that they have, under traffic: drain and wait, why, who, end it, weight, reload, config. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Status } from '../../src/control/listing.ts';
import type { Explanation, FlowList, Killed, Reloaded } from '../../src/control/orders.ts';
import { LB4 } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { MODES } from '../lab/live.ts';
import { Operated, wantedIn } from '../lab/operated.ts';
import { ECHO } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

const HELD = 20;

describe.each(MODES)('%s', (mode) => {
  test('drain and wait, who is on it, end that, and all of it back', async () => {
    const world = await Operated.start(mode);
    await using live = world.live;
    const held = await holdConnections(live.lab.client, HELD, `${live.vip}:${ECHO}`);
    expect(statSync(world.socket).mode & 0o777).toBe(0o600);
    // Each has been checked once, then.
    const status = () => world.get<Status>('/v1/status');
    await waitUntil(async () => (await status()).servers.unknown === 0, { what: 'the first checks', every: 100 });
    expect(await status()).toMatchObject({ mode, frontends: 2, servers: { up: 4 }, host: [] });
    expect(await world.answering()).toEqual(['server1', 'server2']);

    for (const server of ['http-out/server1', 'echo-out/server1'])
      expect((await world.run('set', 'server', server, 'state', 'drain')).code).toBe(0);
    expect(await world.answering()).toEqual(['server2']);
    expect(await othersLiveOn(held)).toEqual([]);
    expect(await world.server('echo-out/server1')).toMatchObject({ state: 'drain', set: { state: 'drain' } });
    const {
      servers: [why],
    } = await world.get<{ servers: Explanation[] }>('/v1/server?server=echo-out/server1');
    expect(why).toMatchObject({ state: 'drain', reasons: expect.arrayContaining(['set by control: drain']) as string[] });
    expect(why?.checks[0]).toMatchObject({ outcome: 'pass' });
    expect((await world.run('wait', 'http-out/server1', 'drained', '--timeout', '60')).code).toBe(0);
    const late = await world.run('wait', 'echo-out/server1', 'drained', '--timeout', '0.1');
    expect(late).toMatchObject({ code: 124, stderr: expect.stringMatching(/has not drained .* connections left: \d+/) as string });

    const there = (await report(held)).filter(({ server }) => server === 'server1').length;
    expect(there).toBeGreaterThan(0);
    const { flows } = await world.get<FlowList>('/v1/flows?server=echo-out/server1');
    expect(flows).toHaveLength(there);
    expect(flows[0]).toMatchObject({
      protocol: 'tcp',
      frontend: 'echo',
      server: 'echo-out/server1',
      state: 'established',
      to: `${live.vip}:${ECHO}`,
    });
    const [one] = flows;
    expect((await world.get<FlowList>(`/v1/flows?client=${one?.client}`)).flows).toHaveLength(1);
    expect(await world.get<FlowList>('/v1/flows?frontend=echo&limit=1')).toMatchObject({ flows: [{}], more: true });

    const captured = await world.run('capture', '--client', one?.client ?? '', '--count', '4');
    if (mode === 'proxy')
      expect(captured).toMatchObject({ code: 5, stderr: expect.stringContaining('connections, not packets') as string });
    else {
      const lines = captured.stdout.trim().split('\n');
      expect(lines).toHaveLength(4);
      expect(lines.filter((line) => line.endsWith('  forwarded; frontend echo; server echo-out/server1'))).toEqual(lines);
      // What has come in one batch is told before what leaves of it: an acknowledgement and the data behind it may be one.
      const [first, ...others] = lines.map((line) => line.split(' ')[1]);
      expect([first, new Set(others)]).toEqual(['in', new Set(['in', 'out'])]);
    }

    const killed = await world.run('kill', 'flows', '--server', 'echo-out/server1', '--json');
    expect(JSON.parse(killed.stdout) as Killed).toEqual({ killed: there, reset: there });
    await waitUntil(async () => (await report(held)).every(({ server, ended }) => server !== 'server1' || ended !== undefined), {
      what: 'connections of server1 to be reset',
    });
    expect(await othersLiveOn(held, 'server1')).toEqual([]);
    expect((await world.run('wait', 'echo-out/server1', 'drained', '--timeout', '60')).code).toBe(0);
    await live.balancer.running.line(/"server":"echo-out \/ server1 \/ .*has drained/);

    // A reload keeps it, unless the file names something else for that server.
    await world.reload({ weights: [1, 3] });
    expect(await world.answering()).toEqual(['server2']);
    for (const server of ['http-out/server1', 'echo-out/server1'])
      expect((await world.run('set', 'server', server, 'state', 'ready')).code).toBe(0);
    expect(await world.answering()).toEqual(['server1', 'server2']);
    held.end();
    await world.end();
  });

  // Of the mode itself there is nothing in it.
  test.skipIf(mode === 'dsr')('down, weights, a file that is wrong and one that is right, what is in effect', async () => {
    const world = await Operated.start(mode);
    await using live = world.live;
    expect((await world.run('set', 'server', 'http-out/server2', 'state', 'down')).stdout).toContain('http-out/server2 is set: down');
    expect(await world.answering()).toEqual(['server1']);
    expect((await world.run('set', 'server', 'http-out/server1', 'weight', '0')).code).toBe(0);
    expect((await live.lab.client.run('curl', '-sS', '--max-time', '60', `http://${live.vip}/`)).code).not.toBe(0);
    expect((await world.run('set', 'server', 'http-out/server1', 'weight', '7')).code).toBe(0);
    expect(await world.server('http-out/server1')).toMatchObject({ weight: 7, set: { weight: 7 } });
    const listed = await world.run('list');
    expect(listed.stdout).toMatch(/-> {2}http-out\/server1 .* 7 .*weight 7 by control/);
    expect(listed.stdout).toMatch(/-> {2}http-out\/server2 .* down .*down by control/);

    const strange = await world.run('set', 'server', 'http-out/sevrer1', 'weight', '5');
    expect(strange).toMatchObject({ code: 4, stderr: expect.stringContaining('did you mean "http-out/server1"?') as string });
    expect((await world.run('set', 'server', 'http-out/server1', 'weight', '70000')).code).toBe(2);
    expect((await world.run('wait', 'http-out/server1', 'drained')).code).toBe(5);

    live.replace(`${live.text(wantedIn(live, {}))}\n[passthrough.timeouts]\nsyn = "long"\n`);
    const refused = await world.run('reload');
    expect(refused).toMatchObject({
      code: 5,
      stderr: expect.stringMatching(/live\.toml:\d+:\d+: passthrough\.timeouts\.syn: .*\n.*all stays as it is/) as string,
    });
    expect(await world.server('http-out/server1')).toMatchObject({ weight: 7 });
    // Another weight in the file for one of them.
    await world.reload({ weights: [4, 1] });
    expect(await world.server('http-out/server1')).toMatchObject({ weight: 4, set: null });
    expect(await world.server('http-out/server2')).toMatchObject({ state: 'down', set: { state: 'down' } });
    expect(await world.get<Reloaded>('/v1/reload', '-X', 'POST')).toMatchObject({ taken: true, changes: [], errors: [] });

    const flag = mode === 'proxy' ? [] : [`--${mode}`];
    const file = join(live.lab.directory, 'now.toml');
    const script = `${LB4} config --control ${world.socket} >${file} && ${LB4} check --strict ${flag.join(' ')} ${file}`;
    expect(await live.lab.balancer.run('bash', '-c', script)).toMatchObject({ code: 0, stderr: '' });
    expect((await live.balancer.stop()).code).toBe(0);
    expect((await world.run('status')).code).toBe(3);
    expect(live.balancer.running.lines.join('\n')).toMatch(/"set":\["http-out\/server2: down"\].*is forgotten/);
    await live.launch();
    await waitUntil(() => existsSync(world.socket), { what: 'the socket' });
    expect(await world.server('http-out/server2')).toMatchObject({ state: expect.not.stringContaining('down') as string, set: null });
    expect(await world.answering()).toEqual(['server1', 'server2']);
    await world.end();
  });
});
