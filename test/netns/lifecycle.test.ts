/** Starting, stopping, being killed; exit codes; what is left behind; rest. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { configuration, LB4, launch, startBalancer, writeConfiguration } from '../lab/balancer.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { PATIENCE, pause, waitUntil, within } from '../lab/wait.ts';

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} ends it cleanly: exit code 0, no rule, no reservation, no process left`, async () => {
    await using lab = new Topology({ servers: 1 });
    expect(traces(lab.balancer)).toEqual(NOTHING);
    const balancer = await lab.serve();
    const ready = JSON.parse(await balancer.running.line(/"msg":"ready"/)) as unknown;
    expect(ready).toMatchObject({ version: expect.stringMatching(/^\d/) as string, mode: 'passthrough', statistics: '0.0.0.0:7000' });
    const running = traces(lab.balancer);
    expect(running.rules.length).toBeGreaterThan(0);
    expect(running.rules.every((rule) => rule.includes('PREROUTING') && rule.includes('lb4'))).toBe(true);
    expect(running.reserved).not.toBe('');
    expect(await balancer.stop(signal)).toEqual({ code: 0, signal: null });
    expect(traces(lab.balancer)).toEqual(NOTHING);
  });
}

test('SIGKILL, then a restart: it takes over what was left, and leaves nothing in the end', async () => {
  await using lab = new Topology({ servers: 2 });
  const first = await lab.serve();
  const before = traces(lab.balancer);
  await first.stop('SIGKILL');
  // What its rules hide is told at the start, once.
  const hidden = lab.balancer.program('backend', 'hidden', 'http=80');
  await hidden.line(/^listening/);
  const second = await startBalancer(lab.balancer, lab.settings());
  expect(await second.running.line(/listens at/)).toContain(`a program of this host listens at ${VIP}:80, too`);
  expect(second.running.lines.filter((line) => line.includes('listens at'))).toHaveLength(1);
  await hidden.stop('SIGKILL');
  const after = traces(lab.balancer);
  expect(after.rules).toEqual(before.rules);
  expect(after.reserved).toBe(before.reserved);
  expect((await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`)).stdout).toMatch(/^server/);
  expect(await second.stop()).toEqual({ code: 0, signal: null });
  expect(traces(lab.balancer)).toEqual(NOTHING);
});

test('a reservation that was there before is given back as it was', async () => {
  await using lab = new Topology({ servers: 1 });
  lab.balancer.sysctl('net.ipv4.ip_local_reserved_ports', '2000-2010');
  const balancer = await lab.serve();
  expect(traces(lab.balancer).reserved).toContain('2000-2010');
  await balancer.stop();
  expect(traces(lab.balancer).reserved).toBe('2000-2010');
});

test('--no-rules leaves the firewall to the user', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const balancer = await startBalancer(lab.balancer, lab.settings(), { args: ['--no-rules'] });
  expect(traces(lab.balancer).rules).toEqual([]);
  expect((await balancer.stop()).code).toBe(0);
});

test('exit codes: 0 for help and version, 2 for usage, 77 without privilege, 78 for a bad configuration', async () => {
  await using lab = new Topology({ servers: 1 });
  const { balancer } = lab;
  const good = writeConfiguration(balancer, configuration(lab.settings()));
  const bad = writeConfiguration(
    balancer,
    '[frontends.web]\nlisten_addr = "10.71.0.1:0"\nbackend = "wbe"\n[backends.web]\nbalance = "maglef"\n',
  );

  expect((await balancer.run(LB4, '--help')).code).toBe(0);
  expect((await balancer.run(LB4, '--version')).stdout).toMatch(/\d+\.\d+\.\d+/);

  expect((await balancer.run(LB4, '--nonsense')).code).toBe(2);
  expect((await balancer.run(LB4, '--passthrough', '--dsr', `--config=${good}`)).code).toBe(2);
  for (const [args, said] of [
    ['--nonsense', "lb4: unknown option '--nonsense'; see lb4 --help\n"],
    ['chek --strict', 'lb4: there is no command "chek"; did you mean "check"?; see lb4 --help\n'],
    ['rules --aply', "lb4: unknown option '--aply' (Did you mean --apply?); see lb4 rules --help\n"],
    ['doctor extra', "lb4: too many arguments for 'doctor'. Expected 0 arguments but got 1; see lb4 doctor --help\n"],
    ['rules --for', "lb4: option '--for <host>' argument missing; see lb4 rules --help\n"],
    ['check --nonsense', "lb4: unknown option '--nonsense'; see lb4 check --help\n"],
  ] as const)
    expect(await balancer.run(LB4, ...args.split(' '))).toMatchObject({ code: 2, stdout: '', stderr: said });

  const mistaken = await balancer.run(LB4, '--passthrough', `--config=${bad}`);
  expect(mistaken.code).toBe(78);
  // All the mistakes at once.
  for (const place of [':2:', ':3:', ':5:']) expect(mistaken.stderr).toContain(`lb4: ${bad}${place}`);

  const powerless = await balancer.run('setpriv', '--bounding-set=-all', '--inh-caps=-all', LB4, '--passthrough', `--config=${good}`);
  expect(powerless.code).toBe(77);
  expect(powerless.stdout + powerless.stderr).toMatch(/CAP_NET_(RAW|ADMIN)|root/);
  expect(traces(balancer)).toEqual(NOTHING);
});

test('a listen_addr that is not of this host: one clear line with the interfaces and addresses there are', async () => {
  await using lab = new Topology({ servers: 1 });
  const settings = { frontends: { web: { listen: '10.99.0.1:80', servers: [`${serverAddress(0)}:${HTTP}`] } } };
  const running = launch(lab.balancer, configuration(settings));
  const exit = await within(running.exited, PATIENCE, 'the end of lb4');
  expect(exit.code).toBe(78);
  const said = running.lines.join('\n');
  for (const word of ['10.99.0.1', 'front', VIP, 'back', '10.72.0.1']) expect(said).toContain(word);
  expect(said).not.toMatch(/\n\s+at /);
  expect(traces(lab.balancer)).toEqual(NOTHING);
});

test('the stats port is taken: it says so and leaves nothing', async () => {
  await using lab = new Topology({ servers: 1 });
  const squatter = lab.balancer.program('backend', 'squatter', 'http=7000');
  await squatter.line(/^listening/);
  const running = launch(lab.balancer, configuration(lab.settings()));
  expect((await within(running.exited, PATIENCE, 'the end of lb4')).code).toBe(1);
  expect(running.lines.join('\n')).toContain('7000');
  await squatter.stop();
  expect(traces(lab.balancer)).toEqual(NOTHING);
});

test('at rest, with one flow left, it burns no CPU', async () => {
  await using lab = new Topology({ servers: 1 });
  const { frontends } = lab.settings();
  const quiet = Object.fromEntries(
    Object.entries(frontends).map(([name, frontend]) => [name, { ...frontend, backend: 'health_check_interval = 60' }]),
  );
  await lab.startBackends();
  const balancer = await startBalancer(lab.balancer, { frontends: quiet });
  await lab.client.run('curl', '-sS', `http://${VIP}/`);
  expect((await balancer.stats()).lb4.flows).toBeGreaterThan(0);
  // A hundred ticks a second. A look of the guard, every five seconds, takes 5 to 12, by how busy the machine is; a loop that never sleeps takes
  // all of them, a timer that goes off too often a good part. There need be one quiet moment, for what a busy machine adds is nobody's fault.
  await waitUntil(
    async () => {
      const before = cpuTicks(balancer.running.pid);
      await pause(3_000);
      return cpuTicks(balancer.running.pid) - before <= 25;
    },
    { what: 'three seconds in which lb4 takes less than a quarter of one' },
  );
  expect((await balancer.stats()).lb4.flows).toBeGreaterThan(0);
  expect((await balancer.stop()).code).toBe(0);
});

/** User and system time of all threads, in hundredths of a second. */
function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
}
