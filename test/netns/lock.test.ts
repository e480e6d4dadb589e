/** One lb4 in packet mode a network namespace; no other user may take the lock, or keep lb4 from it. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { configuration, LB4, launch, startBalancer, writeConfiguration } from '../lab/balancer.ts';
import type { Namespace } from '../lab/lab.ts';
import { HTTP, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { PATIENCE, within } from '../lab/wait.ts';

const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];

function stateOf({ name }: Namespace): string {
  return `/run/lb4/netns-${statSync(`/run/netns/${name}`).ino}`;
}

test('a second lb4 is refused, with the pid of the first; after kill -9 the next one starts; in the end nothing is left', async () => {
  await using lab = new Topology({ servers: 1 });
  const { balancer: namespace } = lab;
  const start = () => startBalancer(namespace, lab.settings(), { healthy: false });
  const first = await start();
  const second = launch(namespace, configuration(lab.settings()));
  expect((await within(second.exited, PATIENCE, 'the end of the second')).code).toBe(1);
  expect(second.lines.join('\n')).toContain(`another lb4 (pid ${first.running.pid}) forwards packets in this network namespace already`);
  const file = writeConfiguration(namespace, configuration(lab.settings()));
  const removal = await namespace.run(LB4, 'rules', '--remove', `--config=${file}`);
  expect(removal.stderr).toBe(
    `lb4: rules: an lb4 (pid ${first.running.pid}) runs here and would put them back: stop it, which removes them\n`,
  );
  expect(removal.code).toBe(1);
  await first.stop('SIGKILL');
  expect(readdirSync(stateOf(namespace))).toContain('lock');
  const third = await start();
  expect(await third.stop()).toEqual({ code: 0, signal: null });
  expect(existsSync(stateOf(namespace))).toBe(false);
});

test('a second container with a /run of its own: the table in /dev/shm is locked, too, and nothing of the first one’s is touched', async () => {
  await using lab = new Topology({ servers: 1 });
  const { balancer: namespace } = lab;
  const settings = { ...lab.settings(), more: '[passthrough]\nconnection_tracker_capacity = 1000' };
  const file = writeConfiguration(namespace, configuration(settings));
  // The table has no room there.
  const start = () => {
    const command = `mount -t tmpfs -o size=4m none /run && exec ${LB4} --passthrough --config=${file}`;
    return namespace.start(['unshare', '--mount', 'sh', '-c', command]);
  };
  const first = start();
  await first.line(/"msg":"ready"/);
  const before = traces(namespace);
  expect(before.kept).toEqual([expect.stringMatching(/^\/dev\/shm\/lb4\/kept-/)]);
  const second = start();
  expect((await within(second.exited, PATIENCE, 'the end of the second')).code).toBe(1);
  expect(second.lines.filter((line) => /^lb4: |"level":"error"/.test(line))).toEqual([
    expect.stringMatching(
      /another lb4, whose lock is not to be seen here, forwards packets .* by \/dev\/shm\/lb4\/kept-[0-9]+\/table: containers/,
    ),
  ]);
  expect({ ...traces(namespace), processes: [] }).toEqual({ ...before, processes: [] });
  await first.stop('SIGKILL');
  const third = start();
  await third.line(/go on/);
  await third.stop('SIGTERM');
  expect(traces(namespace).kept).toEqual([]);
});

test('after kill -9 proxy mode removes what it finds, and serves the same frontends; `lb4 rules --remove` leaves no lock file either', async () => {
  await using lab = new Topology({ servers: 1 });
  const { balancer: namespace } = lab;
  await lab.startBackends();
  // No other mode takes it, and whoever removes need not say so.
  const backend = 'dsr = "gue"\nhealth_check = "gue"';
  const forDsr = writeConfiguration(namespace, configuration({ frontends: { http: { ...lab.settings().frontends['http'], backend } } }));
  for (const clean of ['rules', 'proxy']) {
    const first = await startBalancer(namespace, lab.settings(), { healthy: false });
    await first.stop('SIGKILL');
    expect(readdirSync(stateOf(namespace))).toContain('lock');
    if (clean === 'rules') namespace.sh(LB4, 'rules', '--remove', `--config=${forDsr}`);
    else {
      const proxy = await startBalancer(namespace, lab.settings(), { args: ['proxy'] });
      await proxy.running.line(/was killed here: the firewall rules that it left are removed/);
      const { code } = await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}:${HTTP}/`);
      expect(code).toBe(0);
      await proxy.stop();
    }
    expect(existsSync(stateOf(namespace)), clean).toBe(false);
  }
});

test('doctor without a mode looks at the one that runs here', async () => {
  await using lab = new Topology({ servers: 1 });
  const { balancer: namespace } = lab;
  const balancer = await startBalancer(namespace, lab.settings(), { args: ['--dsr'], healthy: false });
  const file = writeConfiguration(namespace, configuration(lab.settings()));
  const { stdout } = await namespace.run(LB4, 'doctor', '--json', `--config=${file}`);
  expect(JSON.parse(stdout)).toMatchObject({ mode: 'dsr' });
  await balancer.stop();
});

test('another user can neither take the lock before lb4 does nor reach it after', async () => {
  await using lab = new Topology({ servers: 1 });
  const { balancer: namespace } = lab;
  const squat = "require('net').createServer().listen('\\0lb4-packet-mode', () => console.log('squatting'))";
  const squatter = namespace.start([...NOBODY, process.execPath, '-e', squat]);
  await squatter.line(/squatting/);
  const balancer = await startBalancer(namespace, lab.settings(), { healthy: false });
  const lock = `${stateOf(namespace)}/lock`;
  for (const attempt of [`: <${lock}`, `: >>${lock}`, `ls ${stateOf(namespace)}`, 'touch /run/lb4/mine', `mv /run/lb4 /run/other`]) {
    const { code, stderr } = await namespace.run(...NOBODY, 'sh', '-c', attempt);
    expect(`${code} ${stderr}`, attempt).toMatch(/^[12] .*Permission denied/);
  }
  expect(await balancer.stop()).toEqual({ code: 0, signal: null });
});

test.each([
  [
    "another user's directory",
    'mkdir -m 777 /run/lb4 && chown nobody /run/lb4',
    /\/run\/lb4 belongs to user 65534, not to root: another lb4 may run as that user; stop it, or remove the directory/,
  ],
  ['a symbolic link', 'mkdir /run/mine && ln -s mine /run/lb4', /\/run\/lb4 must be a directory .* no link: remove it/],
  ['a file', 'touch /run/lb4', /\/run\/lb4 must be a directory .* no link: remove it/],
])('%s in the place of its own is refused', async (_, setup, says) => {
  await using lab = new Topology({ servers: 1 });
  const file = writeConfiguration(lab.balancer, configuration(lab.settings()));
  // A /run of its own: the machine's is everybody's.
  const script = `mount -t tmpfs tmpfs /run && ${setup} && exec ${LB4} --passthrough --config=${file}`;
  const { code, stderr } = await lab.balancer.run('unshare', '--mount', 'sh', '-c', script);
  expect(code).toBe(1);
  expect(stderr).toMatch(says);
});

test('a directory that anybody may enter, as an older lb4 made it, is closed', async () => {
  await using lab = new Topology({ servers: 1 });
  const file = writeConfiguration(lab.balancer, configuration(lab.settings()));
  const script = `mount -t tmpfs tmpfs /run && mkdir -m 755 /run/lb4 && exec ${LB4} --passthrough --config=${file}`;
  const running = lab.balancer.start(['unshare', '--mount', 'sh', '-c', script]);
  await running.line(/"msg":"ready"/);
  const mode = await lab.balancer.run('nsenter', `--mount=/proc/${running.pid}/ns/mnt`, 'stat', '-c', '%a', '/run/lb4');
  expect(mode.stdout).toBe('700\n');
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});

test('rm -rf /run/lb4 under a running lb4: locked again with its notes, told once, no second lb4 starts, and nothing is left in the end', async () => {
  await using lab = new Topology({ servers: 1 });
  const file = writeConfiguration(lab.balancer, configuration(lab.settings()));
  const running = lab.balancer.start([
    'unshare',
    '--mount',
    'sh',
    '-c',
    `mount -t tmpfs tmpfs /run && exec ${LB4} --passthrough --config=${file}`,
  ]);
  await running.line(/"msg":"ready"/);
  const inside = (...command: string[]) => lab.balancer.run('nsenter', `--mount=/proc/${running.pid}/ns/mnt`, ...command);
  const kept = async () => (await inside('sh', '-c', 'cd /run/lb4/netns-* && stat -c %a . && tail -n +1 *')).stdout;
  const before = await kept();
  expect(before).toMatch(/==> lock <==[^]*==> reserved-ports <==\n33768-61000/);
  await inside('rm', '-rf', '/run/lb4');
  const reloaded = running.nextLine(/"configuration reloaded"/);
  running.signal('SIGHUP');
  await reloaded;
  expect(await kept()).toBe(before);
  expect(running.lines.filter((line) => /the lock and notes in \/run\/lb4 were missing and are put back/.test(line))).toHaveLength(1);
  const { code, stderr } = await inside(LB4, '--passthrough', `--config=${file}`);
  expect(code, stderr).toBe(1);
  expect(stderr).toContain('forwards packets in this network namespace already');
  // Too late for the guard to look: what is to be undone is known all the same.
  await inside('rm', '-rf', '/run/lb4');
  expect(await running.stop()).toEqual({ code: 0, signal: null });
  expect(traces(lab.balancer)).toEqual(NOTHING);
});
