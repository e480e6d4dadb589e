/** What `io = "pcap"` has for itself, beside the traffic of end-to-end-*.test.ts: a process that may be ended, and packages that may be missing. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Balancer, configuration, LB4, SLOW, startBalancer, writeConfiguration } from '../lab/balancer.ts';
import { unconfinedIn } from '../lab/confined.ts';
import { pcapObstacle } from '../lab/end-to-end.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import { ROOT } from '../lab/lab.ts';
import { clientAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { waitUntil } from '../lab/wait.ts';

const PCAP = '[passthrough]\nio = "pcap"\n';

const obstacle = pcapObstacle();
const areBuilt = obstacle === undefined;
const why = areBuilt ? '' : ` (${obstacle})`;

let lab: Topology;
let balancer: Balancer | undefined;

beforeAll(async () => {
  lab = new Topology({ servers: 2 });
  await lab.startBackends();
  if (!areBuilt) return;
  balancer = await start();
});

function start(): Promise<Balancer> {
  const { frontends } = lab.settings();
  const slow = Object.entries(frontends).map(([name, one]) => [name, { ...one, backend: SLOW }] as const);
  return startBalancer(lab.balancer, { frontends: Object.fromEntries(slow), more: `[control]\npath = "${socket()}"\n${PCAP}` });
}

afterAll(() => lab?.[Symbol.asyncDispose]());

/** Where it takes orders. */
const socket = () => join(lab.directory, 'control', 'control.sock');
const started = (): Balancer => balancer ?? expect.fail('lb4 did not start');
/** The packet worker's process. */
const workers = (): number[] =>
  lab.balancer.sh('sh', '-c', `pgrep -P ${started().running.pid} -f pcap-process || true`).split('\n').filter(Boolean).map(Number);

test.runIf(areBuilt)(`it says once that it is slow${why}`, () => {
  expect(started().running.lines.filter((line) => line.includes('slower than the ring'))).toHaveLength(1);
});

test.runIf(areBuilt)(`as root it has no more privileges than it needs, its packet worker's process neither${why}`, () => {
  expect(workers()).toHaveLength(1);
  for (const pid of [started().running.pid, ...workers()]) expect(unconfinedIn(pid)).toEqual([]);
});

// veth hands over what TCP has put together.
test.runIf(areBuilt)(`super-packets are told of, with what helps${why}`, async () => {
  expect((await lab.client.run('curl', '-sS', '-o', '/dev/null', `http://${VIP}/content/2000000`)).code).toBe(0);
  await started().running.line(/larger than the MTU come by back.*ethtool -K back gro off/);
});

// As it does when an interface goes down while it is captured.
test.runIf(areBuilt)(`connections live on when cap aborts its process, and the next one captures as it did${why}`, async () => {
  const [first] = workers();
  const hold = await holdConnections(lab.client, 5, `${VIP}:7`);
  lab.balancer.ip('link', 'add', 'spare', 'type', 'veth', 'peer', 'name', 'spare2');
  lab.balancer.ip('link', 'set', 'spare', 'up');
  const isCaptured = () =>
    lab.balancer
      .sh('cat', '/proc/net/packet')
      .split('\n')
      .some((line) => line.trim().split(/\s+/)[4] === indexOf('spare'));
  await waitUntil(isCaptured, { what: 'a capture of an interface that comes up' });
  const capture = lab.balancer.start([LB4, 'capture', '--control', socket(), '--client', clientAddress(0), '--frontend', 'echo']);
  await capture.line(/ out back .*:7 tcp \[P\.\] .*forwarded; frontend echo; server /);
  process.kill(first, 'SIGABRT');
  await started().running.line(/the pcap process ended by SIGABRT/);
  await waitUntil(() => workers().some((pid) => pid !== first) && isCaptured(), { what: 'another process that captures' });
  expect(await othersLiveOn(hold)).toEqual([]);
  await capture.nextLine(/ out front .*\[P\.\] .*forwarded; frontend echo; server /);
  expect(await capture.stop('SIGINT')).toMatchObject({ code: 0 });
  hold.end();
  await hold.exited;
});

// Nobody asks a process that hangs, and it holds the table: without its end the next start would be refused.
test.runIf(areBuilt)(`killed while its process hangs, and started at once: connections go on${why}`, async () => {
  const [pid] = workers();
  const hold = await holdConnections(lab.client, 5, `${VIP}:7`);
  process.kill(pid, 'SIGSTOP');
  await started().stop('SIGKILL');
  balancer = await start();
  await started().running.line(/an lb4 that died go on/);
  expect(await othersLiveOn(hold)).toEqual([]);
  hold.end();
  await hold.exited;
});

function indexOf(device: string): string {
  return /^(\d+):/.exec(lab.balancer.ip('-o', 'link', 'show', device))?.[1] ?? '';
}

test.runIf(areBuilt)(`stopping leaves nothing${why}`, async () => {
  const last = workers();
  expect(await started().stop()).toEqual({ code: 0, signal: null });
  expect(traces(lab.balancer)).toEqual(NOTHING);
  expect(last.filter((pid) => isAlive(pid))).toEqual([]);
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('without the packages it does not start, and says in one line what to install', async () => {
  const nothing = join(lab.directory, 'nothing');
  mkdirSync(nothing);
  const file = writeConfiguration(lab.balancer, configuration(lab.settings({ more: PCAP })));
  // Hidden from this process alone.
  const hide = ['cap', 'raw-socket'].map(
    (name) => `if [ -d ${join(ROOT, 'node_modules', name)} ]; then mount --bind ${nothing} ${join(ROOT, 'node_modules', name)}; fi`,
  );
  const command = [...hide, `exec ${LB4} --passthrough --config=${file}`].join('\n');
  const { code, stdout, stderr } = await lab.balancer.run('unshare', '--mount', 'sh', '-ec', command);
  expect([code, `${stdout}${stderr}`.trim().split('\n')]).toEqual([
    69,
    [expect.stringMatching(/not installed: cap, raw-socket.*npm install cap raw-socket/)],
  ]);
  expect(traces(lab.balancer)).toEqual(NOTHING);
});
