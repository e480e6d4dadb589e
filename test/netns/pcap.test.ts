/** `io = "pcap"`: the same traffic over libpcap and raw-socket, and what lb4 says where their packages are missing. */
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Balancer, configuration, LB4, SLOW, startBalancer, writeConfiguration } from '../lab/balancer.ts';
import { content, contentHash } from '../lab/content.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import { ROOT } from '../lab/lab.ts';
import { Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { PATIENCE, waitUntil } from '../lab/wait.ts';

const MEGABYTE = 1_000_000;
const SETTINGS = { more: '[passthrough]\nio = "pcap"\n' };

/** `make deps-test` builds them; where it cannot, it has said so. */
const areBuilt = ['cap', 'raw-socket'].every((name) => {
  try {
    return createRequire(import.meta.url)(name) !== undefined;
  } catch {
    return false;
  }
});
const why = areBuilt ? '' : ' (cap and raw-socket are not built: scripts/install-deps.sh test)';

let lab: Topology;
let balancer: Balancer | undefined;

beforeAll(async () => {
  lab = new Topology({ servers: 2 });
  await lab.startBackends();
  if (!areBuilt) return;
  const { frontends } = lab.settings();
  const slow = Object.entries(frontends).map(([name, one]) => [name, { ...one, backend: SLOW }] as const);
  balancer = await startBalancer(lab.balancer, { frontends: Object.fromEntries(slow), ...SETTINGS });
});

afterAll(() => lab?.[Symbol.asyncDispose]());

const started = (): Balancer => balancer ?? expect.fail('lb4 did not start');
/** The packet worker's process. */
const workers = (): number[] =>
  lab.balancer.sh('sh', '-c', `pgrep -P ${started().running.pid} -f pcap-process || true`).split('\n').filter(Boolean).map(Number);

test.runIf(areBuilt)(`requests are answered, by every server${why}`, async () => {
  const urls = Array.from({ length: 40 }, () => `http://${VIP}/`);
  const { code, stdout } = await lab.client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
  const answers = stdout.trim().split('\n');
  expect([code, answers.length, [...new Set(answers)].sort()]).toEqual([0, 40, ['server1', 'server2']]);
  expect(started().running.lines.filter((line) => line.includes('slower than the ring'))).toHaveLength(1);
});

// veth hands over what TCP has put together, with checksums that nobody has taken: libpcap tells neither.
test.runIf(areBuilt)(`a download and an upload arrive as they were sent${why}`, async () => {
  const size = 20 * MEGABYTE;
  const { stdout, stderr } = await lab.client.run('sh', '-c', `curl -sS --max-time 80 http://${VIP}/content/${size} | sha256sum`);
  expect([stdout.split(' ')[0], stderr]).toEqual([contentHash(size), '']);
  const upload = lab.client.start(['curl', '-sS', '--max-time', '80', '-H', 'Expect:', '--data-binary', '@-', `http://${VIP}/`]);
  await upload.feed(content(size));
  expect(await upload.line(/^[0-9a-f]{64}$/, 2 * PATIENCE)).toBe(contentHash(size));
  await started().running.line(/larger than the MTU come by back/);
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
  process.kill(first, 'SIGABRT');
  await started().running.line(/the pcap process ended by SIGABRT/);
  await waitUntil(() => workers().some((pid) => pid !== first) && isCaptured(), { what: 'another process that captures' });
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
  const file = writeConfiguration(lab.balancer, configuration(lab.settings(SETTINGS)));
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
