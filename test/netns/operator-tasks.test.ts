/**
 * What an operator does with a balancer all day, each as one script of commands, in one laboratory: at the end of each the host is as it was.
 * The unit in a booted systemd, and its uninstallation there, are test/bare/packages.test.ts's.
 */
import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Listing } from '../../src/control/listing.ts';
import type { Explanation, FlowList, Killed } from '../../src/control/orders.ts';
import { answeredBy } from '../lab/answers.ts';
import { Balancer, configuration, LB4, STATS_PORT, writeConfiguration } from '../lab/balancer.ts';
import type { LoadReport } from '../lab/client.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { ROOT } from '../lab/lab.ts';
import { copyPackage } from '../lab/package.ts';
import { run } from '../lab/processes.ts';
import { snapshot } from '../lab/snapshot.ts';
import { clientAddress, ECHO, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { PATIENCE, within } from '../lab/wait.ts';

const HELD = 8;
const RATE = 50;
const REQUESTS = 4000;

let lab: Topology;
let file: string;
let socket: string;
let before: ReturnType<typeof snapshot>;
let balancer: Balancer | undefined;

beforeAll(async () => {
  lab = new Topology({ servers: 2 });
  await lab.startBackends();
  socket = join(lab.directory, 'control.sock');
  file = writeConfiguration(lab.balancer, configuration(lab.settings({ more: `[control]\npath = "${socket}"\n` })));
});
afterAll(() => lab[Symbol.asyncDispose]());

beforeEach(() => {
  before = snapshot(lab.balancer);
});
afterEach(async () => {
  const exit = await balancer?.stop();
  balancer = undefined;
  expect(exit ?? { code: 0, signal: null }).toEqual({ code: 0, signal: null });
  expect(snapshot(lab.balancer)).toEqual(before);
});

/** Starts one, which the end of the test stops. */
async function start(lb4 = LB4, ...more: string[]): Promise<Balancer> {
  const running = lab.balancer.start([lb4, '--passthrough', `--config=${file}`, ...more]);
  await running.line(/"msg":"ready"/);
  balancer = new Balancer(lab.balancer, running, `http://127.0.0.1:${STATS_PORT}/stats`);
  return balancer;
}

/** What a command prints, which ends well. */
async function lb4(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.balancer.run(LB4, ...words, '--control', socket);
  expect(code, stderr).toBe(0);
  return stdout;
}

const json = async <T>(...words: string[]) => JSON.parse(await lb4(...words, '--json')) as T;
const hold = () => holdConnections(lab.client, HELD, `${VIP}:${ECHO}`);

test('drain, and wait until nobody is on it', async () => {
  await start();
  const held = await hold();
  await lb4('set', 'server', 'echo-out/s1', 'state', 'drain');
  const waiting = lb4('wait', 'echo-out/s1', 'drained', '--timeout', String(PATIENCE / 1000));
  expect(await othersLiveOn(held)).toEqual([]);
  held.end();
  await held.exited;
  expect(await waiting).toBe('echo-out/s1 has drained\n');
  expect(await lb4('list')).toMatch(/echo-out\/s1 .* drain .*drain by control/);
});

test('a weight, which stands beside the one of the file', async () => {
  await start();
  await lb4('set', 'server', 'http-out/s1', 'weight', '0');
  await answeredBy(lab.client, VIP, 'server2');
  expect(await lb4('config')).toMatch(/\[backends\.http-out\.servers\.s1\]\n# weight 0: set at run time, .*\n(?:.*\n)*?weight = 1\n/);
  await lb4('set', 'server', 'http-out/s1', 'weight', '1');
  await answeredBy(lab.client, VIP, 'server1', 'server2');
});

test('why is it down?', async () => {
  const { running } = await start();
  await lab.killBackend(0);
  await running.line(/"server":"http-out \/ s1 \/ .*"server down"/);
  const [why] = await json<Explanation[]>('why', 'http-out/s1');
  expect(why).toMatchObject({
    state: 'down',
    reasons: expect.arrayContaining([expect.stringMatching(/its checks fail: .*refused/)]) as string[],
  });
  expect(why?.remedies).toEqual([expect.stringMatching(/^1 checks in a row that pass/)]);
  const { backends } = await json<Listing>('list');
  expect(backends[0]?.servers[0]).toMatchObject({ last_check_result: 'fail', last_check_age: expect.any(Number) as number });
  await lab.startBackend(0);
  await running.line(/"server":"http-out \/ s1 \/ .*"server up again"/);
});

test('who is on it? and ends that', async () => {
  await start();
  const held = await hold();
  const { flows } = await json<FlowList>('flows', '--server', 'echo-out/s1');
  expect(flows.length).toBe((await report(held)).filter(({ server }) => server === 'server1').length);
  await lb4('set', 'server', 'echo-out/s1', 'state', 'drain');
  expect(await json<Killed>('kill', 'flows', '--server', 'echo-out/s1')).toEqual({ killed: flows.length, reset: flows.length });
  expect(await othersLiveOn(held, 'server1')).toEqual([]);
  held.end();
  await held.exited;
  // Or a FIN that finds nobody comes again, in what the next test captures.
  await balancer?.settled('all connections to end', ({ current_connections }) => current_connections === 0);
});

test('capture: what came in, what went out, and why', async () => {
  await start();
  const file = join(lab.directory, 'captured.pcapng');
  const words = ['--client', clientAddress(0), '--count', '4', '-w', file];
  const capture = lab.balancer.start([LB4, 'capture', ...words, '--control', socket]);
  await capture.line(/^lb4: capturing/);
  await answeredBy(lab.client, VIP, 'server1', 'server2');
  expect(await within(capture.exited, PATIENCE, 'four packets')).toMatchObject({ code: 0 });
  const { code, stdout } = await run(['tshark', '-n', '-r', file, '-T', 'fields', '-e', 'frame.interface_name', '-e', 'frame.comment']);
  const said = ['front', 'back', 'back', 'front'].map(
    (link, i) => `${link}\t${i < 2 ? 'opened' : 'forwarded'}; frontend http; server http-out/s`,
  );
  expect([
    code,
    stdout
      .replaceAll(/(?<=\/s)\d$/gm, '')
      .trim()
      .split('\n'),
  ]).toEqual([0, said]);
});

test('an upgrade: the package is replaced under it, and the new one takes over; nobody notices', async () => {
  const [place, other] = [join(lab.directory, 'package'), join(lab.directory, 'newer')];
  const old = await start(copyPackage(place));
  const held = await hold();
  const load = lab.client.program('client', 'load', `${RATE}`, `http://${VIP}/`, `${PATIENCE}`, `${lab.client.ports(REQUESTS)}`);
  await load.line(/"answers":[1-9]/);
  copyPackage(other);
  renameSync(place, join(lab.directory, 'older'));
  renameSync(other, place);
  const next = await start(join(place, 'bin/lb4'), '--takeover');
  expect(await within(old.running.exited, PATIENCE, 'the end of the old one')).toEqual({ code: 0, signal: null });
  expect((await next.stats()).current_connections).toBeGreaterThanOrEqual(HELD);
  expect(await othersLiveOn(held)).toEqual([]);
  const said = load.nextLine(/"answers"/);
  load.end();
  await within(load.exited, PATIENCE, 'the end of the requests');
  await said;
  const { failed, sent, servers } = JSON.parse(load.lines.at(-1) ?? '') as LoadReport;
  expect([failed, Object.values(servers).reduce((sum, { answers }) => sum + answers, 0)]).toEqual([0, sent]);
  expect((await report(held)).filter(({ ended }) => ended !== undefined)).toEqual([]);
  held.end();
  await held.exited;
});

test('one that was killed, and is not to come back', async () => {
  const { running } = await start();
  const held = await hold();
  balancer = undefined;
  await running.stop('SIGKILL');
  expect(traces(lab.balancer)).not.toEqual(NOTHING);
  expect(await lab.balancer.run(LB4, 'rules', '--remove', `--config=${file}`)).toMatchObject({ code: 0 });
  await held.stop('SIGKILL');
});

// A Node.js in somebody's home no unit can run.
test.skipIf(/^\/(?:home|root)\//.test(process.execPath))('a service is installed, and uninstalled', async () => {
  const place = '/opt/lb4';
  const newer = join(lab.directory, 'installed');
  copyPackage(newer, ['contrib', 'docs', 'lb4.toml', 'package.json']);
  const [stub, said] = [join(lab.directory, 'stub'), join(lab.directory, 'systemctl')];
  mkdirSync(stub);
  // Directories of this host's, of its own: what it does is seen there alone.
  const { code, stdout, stderr } = await lab.balancer.run(
    'unshare',
    '--mount',
    'sh',
    '-ec',
    `cp -a /etc ${lab.directory}/etc
     mount -t tmpfs none /run; mkdir -p /run/systemd/system
     for at in /var/lib /var/log /usr/local/share /opt /etc; do mount -t tmpfs none $at; done
     cp -a ${lab.directory}/etc/. /etc; cp -a ${newer} ${place}; mkdir -p /etc/systemd/system
     printf '#!/bin/sh\\necho "$@" >>${said}\\n' >${stub}/systemctl; chmod +x ${stub}/systemctl; PATH=${stub}:$PATH
     host() { cat /etc/passwd /etc/group /etc/shadow; find /etc /var/lib /var/log /usr/local /opt -not -name '*-' -not -name .pwd.lock | sort; }
     host >${lab.directory}/before
     ${place}/bin/lb4 install; getent passwd lb4; cat /etc/systemd/system/lb4.service; ${place}/bin/lb4 check /etc/lb4/lb4.toml
     host | diff ${lab.directory}/before - | grep -c '^>'
     mkdir /var/log/lb4 # As the unit does when it starts.
     ${place}/bin/lb4 uninstall
     host | diff ${lab.directory}/before - && cat ${said}
     mkdir /var/log/lb4; sh ${ROOT}/contrib/debian/postrm purge; host | diff ${lab.directory}/before -`,
  );
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/write \/etc\/systemd\/system\/lb4\.service\n[^]*^lb4:x:\d+[^]*^ExecStart=\/opt\/lb4\/bin\/lb4-service [^]* ok/m);
  expect(stdout).toMatch(
    /\ndaemon-reload\ndisable --now lb4\.service\ndaemon-reload\nreset-failed lb4\.service\n(?:--system daemon-reload\n)?$/,
  );
});
