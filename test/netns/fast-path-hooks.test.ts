/** What others do to the fast path's places and pins under a running lb4. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { startBalancer } from '../lab/balancer.ts';
import { contentHash } from '../lab/content.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import { ROOT } from '../lab/lab.ts';
import { Live } from '../lab/live.ts';
import { PYTHON } from '../lab/processes.ts';
import { clientAddress, ECHO, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, pinsIn, traces } from '../lab/traces.ts';
import { PATIENCE, waitUntil, within } from '../lab/wait.ts';

const why = fastPathObstacle();
const SIZE = 2_000_000;
const TC = { more: '[passthrough]\nfast_path = "tc"' };

test.skipIf(why !== undefined)('pins that somebody removes are made again, and told of: connections go on after a kill', async () => {
  await using live = await Live.start('passthrough', TC);
  const { balancer: host, client } = live.lab;
  const curl = `curl -sS --retry 9 --retry-connrefused --retry-delay 1 --limit-rate ${SIZE / 8} http://${live.vip}/content/${SIZE}`;
  const transfer = client.run('sh', '-c', `${curl} | sha256sum`);
  await waitUntil(async () => (await live.metric('lb4_fast_path_packets_total')) > 0, { what: 'the kernel to forward' });
  rmSync(pinsIn(host.name), { recursive: true });
  // It may look while they go.
  await live.balancer.running.line(/pins of the fast path were missing and are put back \(.*its flows/);
  expect(await live.metric('lb4_host_repairs_total', 'what="fast_path_pins"')).toBeGreaterThan(0);
  await live.balancer.stop('SIGKILL');
  await live.launch();
  const goOn = JSON.parse(await live.balancer.running.line(/go on/)) as { connections: number };
  expect(goOn.connections).toBeGreaterThan(0);
  expect((await transfer).stdout.split(' ')[0]).toBe(contentHash(SIZE));
  expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
});

test.skipIf(why !== undefined).each(['tc', 'xdp'])(
  '%s drops what lists deny, which is counted as ever; connections go on',
  async (hook) => {
    const more = `[passthrough]\nfast_path = "${hook}"`;
    await using live = await Live.start('passthrough', { more });
    const held = await holdConnections(live.lab.client, 5, `${live.vip}:${ECHO}`);
    const exit = async (seconds: number) =>
      (await live.lab.client.run('curl', '-sS', '--max-time', `${seconds}`, '-o/dev/null', `http://${live.vip}/`)).code;
    const denied = () => live.metric('lb4_frontend_denied_total', 'frontend="http",protocol="tcp",rule="deny"');
    await live.reload({ more, frontend: `deny = ["${clientAddress(0)}"]` });
    expect(await exit(2)).toBe(28);
    await waitUntil(async () => (await denied()) > 0, { what: 'the refusals to be entered' });
    expect(await live.metric('lb4_fast_path_dropped_total')).toBeGreaterThan(0);
    const addsUp = async () => {
      const { frames, verdicts, fast_path } = (await live.balancer.stats()).lb4;
      const sum = Object.values(verdicts).reduce((all, count) => all + count, 0);
      return sum === frames.received && verdicts['denied'] === fast_path?.dropped && verdicts['denied'] === (await denied());
    };
    await waitUntil(addsUp, { what: 'the books to agree' });
    // Counted alone: that is the workers' part.
    await live.reload({ more, frontend: `deny = ["${clientAddress(0)}"]\ndry_run = true` });
    expect(await exit(60)).toBe(0);
    expect(await othersLiveOn(held)).toEqual([]);
  },
);

test.skipIf(why !== undefined)('XDP leaves to tc what would leave by an interface that takes no redirected frames', async () => {
  await using live = await Live.start('passthrough', { more: '[passthrough]\nfast_path = "xdp"' });
  // Of a veth nobody sees it but its peer's owner.
  live.lab.setOffloads('off');
  await live.balancer.running.line(/what leaves by front goes by tc/);
  const { stdout } = await live.lab.client.run(
    'sh',
    '-c',
    `curl -sS --retry 9 --retry-connrefused --retry-delay 1 --max-time 60 http://${live.vip}/content/300000 | sha256sum`,
  );
  expect(stdout.split(' ')[0]).toBe(contentHash(300_000));
  expect(await live.metric('lb4_fast_path_packets_total')).toBeGreaterThan(100);
});

test.skipIf(why !== undefined)(
  'another fast_path in the file: a reload says that it waits, the next lb4 goes by it, and every connection goes on',
  async () => {
    await using live = await Live.start('passthrough', TC);
    const { balancer: host, client } = live.lab;
    const hold = await holdConnections(client, 10, `${live.vip}:${ECHO}`);
    const taken = () => live.metric('lb4_fast_path_packets_total');
    const isTaking = async () => {
      const before = await taken();
      await waitUntil(async () => (await taken()) > before, { what: 'the kernel to forward' });
    };
    const named = live.balancer.running.nextLine(/passthrough\.fast_path/);
    await live.reload({});
    expect(await named).toContain('changes only with a restart');
    await isTaking();

    const { running: first } = live.balancer;
    await live.launch('--takeover');
    expect(await within(first.exited, PATIENCE, 'the end of the one before')).toEqual({ code: 0, signal: null });
    expect(readdirSync(pinsIn(host.name)).filter((name) => /^(tc|xdp)-/.test(name))).toEqual([]);
    const before = await taken();
    expect(await othersLiveOn(hold)).toEqual([]);
    expect(await taken()).toBe(before);

    // Their table is in the maps still.
    live.replace(live.text(TC));
    await live.balancer.stop('SIGKILL');
    await live.launch();
    await isTaking();
    expect(await othersLiveOn(hold)).toEqual([]);
    expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });

    // And one that began outside them stays there.
    live.replace(live.text({}));
    await live.launch();
    live.replace(live.text(TC));
    await live.balancer.stop('SIGKILL');
    await live.launch();
    await live.balancer.running.line(/no fast path in the kernel: .* not in its maps/);
    expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
    expect(traces(host)).toEqual(NOTHING);
  },
);

test.skipIf(why !== undefined)(
  'programs and a qdisc of others: who has the XDP hook is named, lb4 goes by tc, and all of it stays at exit',
  async () => {
    await using lab = new Topology({ servers: 1 });
    await lab.startBackends();
    const { balancer: host, client } = lab;
    const foreign = ['xdp', 'tcx'].map((hook) => host.start([PYTHON, join(ROOT, 'test/lab/foreign.py'), hook, 'front']));
    for (const running of foreign) await running.line(/^stands$/);
    host.sh('tc', 'qdisc', 'add', 'dev', 'front', 'clsact');
    const balancer = await startBalancer(host, lab.settings({ more: '[passthrough]\nfast_path = "xdp"' }));
    await balancer.running.line(
      /does not stand at xdp of front: program (\d+) is there already, and an interface has one: bpftool prog show id \1/,
    );
    const curl = `curl -sS --retry 9 --retry-connrefused --retry-delay 1 http://${VIP}/content/300000 | sha256sum`;
    expect((await client.run('sh', '-c', curl)).stdout.split(' ')[0]).toBe(contentHash(300_000));
    expect(await balancer.metric('lb4_fast_path_packets_total')).toBeGreaterThan(10);
    expect(await balancer.stop()).toEqual({ code: 0, signal: null });
    for (const running of foreign) {
      const answer = running.nextLine(/^(stands|is gone)$/);
      running.write('?');
      expect(await answer).toBe('stands');
    }
    expect(host.sh('tc', 'qdisc', 'show', 'dev', 'front')).toContain('clsact');
  },
);
