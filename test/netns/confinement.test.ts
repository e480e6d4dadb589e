/** What a balancer that root starts may do, and what others may do with what it makes. */
import { chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { answeredBy } from '../lab/answers.ts';
import { configuration, LB4, QUICK, STATS_PORT, writeConfiguration } from '../lab/balancer.ts';
import { CONFINED, setsIn, threadsOf, unconfinedIn } from '../lab/confined.ts';
import type { Running } from '../lab/processes.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { waitUntil } from '../lab/wait.ts';

/** A program in the place of another one, which it starts in the end: it leaves its rights in `file`. */
function witness(lab: Topology, name: string, program: string) {
  const [path, file] = ['', '.status'].map((end) => join(lab.directory, `${name}${end}`)) as [string, string];
  writeFileSync(path, `#!/bin/sh\ncat /proc/self/status >'${file}.new' && mv '${file}.new' '${file}'\nexec ${program} "$@"\n`);
  chmodSync(path, 0o755);
  return { path, sets: () => setsIn(readFileSync(file, 'utf8')), isThere: () => existsSync(file) };
}

const hasBpf = fastPathObstacle() === undefined;

test.each(['--passthrough', 'proxy'])(
  '%s: every thread and child of a balancer that root starts has seven capabilities, and never more',
  async (mode) => {
    await using lab = new Topology({ servers: 1 });
    await lab.startBackends();
    const { balancer, client } = lab;
    const [iptables, save, check] = [
      witness(lab, 'iptables', 'iptables'),
      witness(lab, 'iptables-save', 'iptables-save'),
      witness(lab, 'check', '/bin/true'),
    ];
    witness(lab, 'iptables-restore', 'iptables-restore');
    // Another user's, who alone may run it.
    chmodSync(check.path, 0o700);
    balancer.sh('chown', 'nobody', check.path);
    const backend = `${QUICK}\nhealth_check = "exec"\nhealth_check_command = ["${check.path}"]`;
    const servers = [`${serverAddress(0)}:${HTTP}`];
    // Root's own and another user's, whom alone its mode lets read it.
    const more = `[passthrough]\nfast_path = "auto"\n[control]\npath = "${join(lab.directory, 'control/lb4.sock')}"\ngroup = "daemon"\n`;
    const text = (frontend = '') => configuration({ frontends: { http: { listen: `${VIP}:${HTTP}`, servers, backend, frontend } }, more });
    const file = writeConfiguration(balancer, text());
    const list = join(lab.directory, 'clients.txt');
    writeFileSync(list, '10.71.0.0/24\n');
    for (const path of [file, list]) {
      chmodSync(path, 0o600);
      balancer.sh('chown', 'nobody', path);
    }
    const start = () =>
      balancer.start([LB4, ...(mode === 'proxy' ? [] : [mode]), `--config=${file}`], { env: { LB4_IPTABLES: iptables.path } });
    const running = start();
    await running.line(/"msg":"ready"/);
    expect(threadsOf(running.pid).length).toBeGreaterThan(5);
    for (const one of threadsOf(running.pid)) expect(one).toEqual(CONFINED);
    await waitUntil(() => check.isThere(), { what: 'a check' });
    expect(check.sets()).toEqual(CONFINED);
    if (mode !== 'proxy') for (const child of [iptables, save]) expect(child.sets()).toEqual(CONFINED);
    expect((await client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`)).stdout).toMatch(/^server/);
    // A reload to what takes more than a user's rights.
    const reloaded = running.nextLine(/"msg":"configuration reloaded"/);
    writeFileSync(file, text(`allow = ["@${list}"]`).replace(`"${STATS_PORT}"`, '"99"'));
    await reloaded;
    expect(balancer.sh('curl', '-sS', 'http://127.0.0.1:99/healthz')).toContain('"ok"');
    expect(running.lines.filter((line) => /privileges|bounding|EPERM|EACCES/.test(line))).toEqual([]);

    // What is left by one that was killed is cleaned up with no more rights.
    await running.stop('SIGKILL');
    const next = start();
    await next.line(/"msg":"ready"/);
    if (hasBpf && mode !== 'proxy') expect(next.lines.filter((line) => /no fast path|stays|cannot/.test(line))).toEqual([]);
    expect(await next.stop()).toEqual({ code: 0, signal: null });
  },
);

describe('beside what is usual', () => {
  const lab = new Topology({ servers: 1 });
  let file = '';

  beforeAll(async () => {
    await lab.startBackends();
    file = writeConfiguration(lab.balancer, configuration(lab.settings()));
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  /** It serves; then it ends, and leaves nothing. */
  async function endsWell(running: Running): Promise<void> {
    await answeredBy(lab.client, VIP, 'server1');
    expect(await running.stop()).toEqual({ code: 0, signal: null });
    expect(traces(lab.balancer)).toEqual(NOTHING);
  }

  test('a configuration that is read from an inherited descriptor, which libuv would have closed by then', async () => {
    const running = lab.balancer.start(['bash', '-c', `exec "$@" 3< <(cat '${file}')`, 'bash', LB4, '--passthrough', '--config=/dev/fd/3']);
    await running.line(/"msg":"ready"/);
    expect(unconfinedIn(running.pid)).toEqual([]);
    await endsWell(running);
  });

  test('without CAP_SETPCAP the bounding set stays, and nothing else: told once', async () => {
    const running = lab.balancer.start(['setpriv', '--bounding-set=-setpcap', LB4, '--passthrough', `--config=${file}`]);
    await running.line(/"msg":"ready"/);
    for (const one of threadsOf(running.pid)) expect(one).toEqual({ ...CONFINED, CapBnd: one['CapBnd'] });
    expect(running.lines.filter((line) => line.includes('the bounding set stays as it is'))).toHaveLength(1);
    await endsWell(running);
  });

  test('on a host that has iptables-legacy alone its rules come and go, after a kill, too', async () => {
    const start = () => lab.balancer.start([LB4, '--passthrough', `--config=${file}`], { env: { LB4_IPTABLES: 'iptables-legacy' } });
    const first = start();
    await first.line(/"msg":"ready"/);
    expect(unconfinedIn(first.pid)).toEqual([]);
    expect(lab.balancer.sh('iptables-legacy-save', '-t', 'raw')).toMatch(/-A PREROUTING .*lb4.* -j DROP/);
    await first.stop('SIGKILL');
    const second = start();
    await second.line(/"msg":"ready"/);
    await endsWell(second);
  });

  test('where it cannot begin anew it runs all the same, its main thread and what that starts with less: told once, with the reason', async () => {
    // A program that is no file any more has a name, and what has that name by now is none.
    const node = join(lab.directory, 'node');
    copyFileSync(process.execPath, node);
    writeFileSync(`${node} (deleted)`, 'neither a program nor a script');
    chmodSync(`${node} (deleted)`, 0o755);
    const command = ['sh', '-c', 'exec 3<"$1" && rm "$1" && shift && exec /proc/self/fd/3 "$@"', 'sh', node];
    const running = lab.balancer.start([...command, LB4, '--passthrough', `--config=${file}`]);
    await running.line(/"msg":"ready"/);
    const told = /could not give them away: all its threads but the main one keep CAP_.*\(execve\(.*node \(deleted\)\): .*\)/;
    expect(running.lines.filter((line) => line.includes('privileges'))).toEqual([expect.stringMatching(told)]);
    expect(setsIn(readFileSync(`/proc/${running.pid}/task/${running.pid}/status`, 'utf8'))).toEqual(CONFINED);
    await endsWell(running);
  });
});

test('whatever a balancer makes is its own user’s alone, also without a umask', async () => {
  await using lab = new Topology({ servers: 1 });
  const more = `[passthrough]\nfast_path = "auto"\n[connection_log]\nto = "file"\nfile = "/var/log/lb4.log"\n`;
  const file = writeConfiguration(lab.balancer, configuration(lab.settings({ more })));
  const mounts = ['/run', '/dev/shm', '/var/log'].map((place) => `mount -t tmpfs -o mode=755 lb4 ${place}`).join('; ');
  const prepared = `${mounts}; mount -t bpf bpf /sys/fs/bpf; umask 0; exec "$@"`;
  const running = lab.balancer.start(['unshare', '--mount', 'sh', '-ec', prepared, 'sh', LB4, '--passthrough', `--config=${file}`]);
  await running.line(/"msg":"ready"/);
  const inside = (...command: string[]) => lab.balancer.sh('nsenter', `--mount=/proc/${running.pid}/ns/mnt`, ...command);
  // Not mount(8)'s own /run/mount, and not the mounts themselves.
  const made = inside('sh', '-c', "find /run/lb4* /dev/shm /var/log /sys/fs/bpf -path '*/*lb4*' -printf '%m %y %p\\n'").trim().split('\n');
  expect(made.filter((line) => !/^[0-7]00 /.test(line))).toEqual([]);
  for (const each of [
    / s \/run\/lb4\/control\.sock$/,
    / f \/run\/lb4\/netns-\d+\/lock$/,
    / f \/run\/lb4\/kept-\d+\//,
    / s .*takeover-/,
    / f \/var\/log\/lb4\.log$/,
  ])
    expect(
      made.filter((line) => each.test(line)),
      String(each),
    ).not.toEqual([]);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});
