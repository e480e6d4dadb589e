/** What a balancer that root starts may do, and what others may do with what it makes. */
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { configuration, LB4, QUICK, writeConfiguration } from '../lab/balancer.ts';
import type { Running } from '../lab/processes.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

/** CHOWN, DAC_OVERRIDE, NET_BIND_SERVICE, NET_ADMIN, NET_RAW, PERFMON and BPF: bits of linux/capability.h. */
const KEPT = [0, 1, 10, 12, 13, 38, 39].reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);
const ALL_BITS = /^(?:Cap\w+|NoNewPrivs):\s*\S+$/gm;

/** What the kernel says of a thread, `CapPrm` and so on by name. */
function sets(status: string): Record<string, bigint> {
  const lines = [...status.matchAll(ALL_BITS)].map(([line]) => line.split(/:\s*/) as [string, string]);
  return Object.fromEntries(lines.map(([name, value]) => [name, BigInt(`0x${value}`)]));
}

const CONFINED = { CapInh: 0n, CapPrm: KEPT, CapEff: KEPT, CapBnd: KEPT, CapAmb: 0n, NoNewPrivs: 1n };

/** Of every thread. */
function threads({ pid }: Running): Record<string, bigint>[] {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).map((thread) => sets(readFileSync(`${tasks}/${thread}/status`, 'utf8')));
}

/** A program in the place of another one, which it starts in the end: it leaves its rights in `file`. */
function witness(lab: Topology, name: string, program: string) {
  const [path, file] = ['', '.status'].map((end) => join(lab.directory, `${name}${end}`)) as [string, string];
  writeFileSync(path, `#!/bin/sh\ncat /proc/self/status >'${file}.new' && mv '${file}.new' '${file}'\nexec ${program} "$@"\n`);
  chmodSync(path, 0o755);
  return { path, sets: () => sets(readFileSync(file, 'utf8')), isThere: () => existsSync(file) };
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
    const file = writeConfiguration(balancer, configuration({ frontends: { http: { listen: `${VIP}:${HTTP}`, servers, backend } }, more }));
    chmodSync(file, 0o600);
    balancer.sh('chown', 'nobody', file);
    const start = () =>
      balancer.start([LB4, ...(mode === 'proxy' ? [] : [mode]), `--config=${file}`], { env: { LB4_IPTABLES: iptables.path } });
    const running = start();
    await running.line(/"msg":"ready"/);
    expect(threads(running).length).toBeGreaterThan(5);
    for (const one of threads(running)) expect(one).toEqual(CONFINED);
    await waitUntil(() => check.isThere(), { what: 'a check' });
    expect(check.sets()).toEqual(CONFINED);
    if (mode !== 'proxy') for (const child of [iptables, save]) expect(child.sets()).toEqual(CONFINED);
    expect((await client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`)).stdout).toMatch(/^server/);
    expect(running.lines.filter((line) => /privileges|bounding/.test(line))).toEqual([]);

    // What is left by one that was killed is cleaned up with no more rights.
    await running.stop('SIGKILL');
    const next = start();
    await next.line(/"msg":"ready"/);
    if (hasBpf && mode !== 'proxy') expect(next.lines.filter((line) => /no fast path|stays|cannot/.test(line))).toEqual([]);
    expect(await next.stop()).toEqual({ code: 0, signal: null });
  },
);

test('a configuration that is read from an inherited descriptor, which libuv would have closed by then', async () => {
  await using lab = new Topology({ servers: 1 });
  const file = writeConfiguration(lab.balancer, configuration(lab.settings()));
  const running = lab.balancer.start(['bash', '-c', `exec "$@" 3< <(cat '${file}')`, 'bash', LB4, '--passthrough', '--config=/dev/fd/3']);
  await running.line(/"msg":"ready"/);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});

test('without CAP_SETPCAP the bounding set stays, and nothing else: told once', async () => {
  await using lab = new Topology({ servers: 1 });
  const file = writeConfiguration(lab.balancer, configuration(lab.settings()));
  const running = lab.balancer.start(['setpriv', '--bounding-set=-setpcap', LB4, '--passthrough', `--config=${file}`]);
  await running.line(/"msg":"ready"/);
  for (const one of threads(running)) expect(one).toEqual({ ...CONFINED, CapBnd: one['CapBnd'] });
  expect(running.lines.filter((line) => line.includes('the bounding set stays as it is'))).toHaveLength(1);
  expect(await running.stop()).toEqual({ code: 0, signal: null });
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
