import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { MODES as FACTS, type Mode } from '../../src/config/modes.ts';
import { Metrics } from '../../src/control/metrics.ts';
import type { Source, View } from '../../src/control/source.ts';
import { backendOf, countersOf, frontendOf, type Numbers, serverOf, sourceOf, viewOf } from '../lab/control-world.ts';

const MODES = Object.keys(FACTS) as Mode[];
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;

const numbers: Numbers = {
  frontends: [{ ...countersOf(5, 2, 100, 1000), refused: 9 }, countersOf(7, 1, 10, 20)],
  servers: [
    { ...countersOf(3, 1, 60, 600), load: 2, ports: 9, portCapacity: 27_233, connectFailures: 4, retries: 3 },
    { ...countersOf(2, 1, 40, 400), load: 1, ports: 0, portCapacity: 27_233, connectFailures: 0, retries: 0 },
  ],
};
const view = viewOf({
  frontends: [
    frontendOf('web', 0, { rules: [{ rule: 'deny', column: 2, dryColumn: 10 }], unlimitedColumn: 16 }),
    frontendOf('old', 1, { draining: true }),
  ],
  backends: [
    backendOf('app', [
      serverOf('one', 0, { weight: 2.5, checkFailures: 6, checksUnmade: 3, checkChanges: 2 }),
      serverOf('two', 1, { state: 'down', damped: true }),
      serverOf('three', 2, { state: 'unknown', backup: true }),
      serverOf('four', 3, { state: 'drain', weight: 0 }),
    ]),
    backendOf('dead', [serverOf('x', 4, { state: 'down' })], { retired: { total: 8, bytesTx: 80, bytesRx: 800 } }),
  ],
  reload: { succeeded: 3, failed: 1, lastSucceeded: false, lastError: 'no', at: 1_700_000_000.25 },
  host: [{ what: 'rules', name: 'firewall rules', serves: false, missing: ['a', 'b'], reason: 'locked', repairs: 7 }],
});

const textOf = (source: Source, of: View = view) => new Metrics(source, '1.2.3').text(of);

/** The samples of lb4's own metrics, by what stands before the value. */
function samplesOf(text: string): Record<string, number> {
  const lines = text.split('\n').filter((line) => line.startsWith('lb4_'));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]));
}

test('frontends, backends and servers, as HAProxy names them', async () => {
  const samples = samplesOf(await textOf(sourceOf('proxy', numbers)));
  expect(samples).toMatchObject({
    'lb4_frontend_bytes_in_total{frontend="web",protocol="tcp"}': 100,
    'lb4_frontend_bytes_out_total{frontend="web",protocol="tcp"}': 1000,
    'lb4_frontend_sessions_total{frontend="web",protocol="tcp"}': 5,
    'lb4_frontend_current_sessions{frontend="web",protocol="tcp"}': 2,
    'lb4_frontend_status{frontend="web",protocol="tcp"}': 1,
    'lb4_frontend_refused_total{frontend="web",protocol="tcp"}': 9,
    'lb4_frontend_status{frontend="old",protocol="tcp"}': 0,
    'lb4_backend_bytes_in_total{backend="app",protocol="tcp"}': 100,
    'lb4_backend_sessions_total{backend="dead",protocol="tcp"}': 8,
    'lb4_backend_status{backend="app",protocol="tcp"}': 1,
    'lb4_backend_status{backend="dead",protocol="tcp"}': 0,
    'lb4_backend_active_servers{backend="app",protocol="tcp"}': 1,
    'lb4_backend_backup_servers{backend="app",protocol="tcp"}': 1,
    'lb4_backend_current_queue{backend="app",protocol="tcp"}': 3,
    'lb4_server_bytes_in_total{backend="app",server="one",protocol="tcp"}': 60,
    'lb4_server_bytes_out_total{backend="app",server="one",protocol="tcp"}': 600,
    'lb4_server_sessions_total{backend="app",server="one",protocol="tcp"}': 3,
    'lb4_server_current_sessions{backend="app",server="one",protocol="tcp"}': 1,
    'lb4_server_load{backend="app",server="one",protocol="tcp"}': 2,
    'lb4_server_status{backend="app",server="one",protocol="tcp"}': 1,
    'lb4_server_status{backend="app",server="two",protocol="tcp"}': 0,
    'lb4_server_status{backend="app",server="three",protocol="tcp"}': 1,
    'lb4_server_status{backend="app",server="four",protocol="tcp"}': 3,
    'lb4_server_weight{backend="app",server="one",protocol="tcp"}': 2.5,
    'lb4_server_damped{backend="app",server="two",protocol="tcp"}': 1,
    'lb4_server_check_failures_total{backend="app",server="one",protocol="tcp"}': 6,
    'lb4_server_checks_unmade_total{backend="app",server="one",protocol="tcp"}': 3,
    'lb4_server_check_up_down_total{backend="app",server="one",protocol="tcp"}': 2,
    'lb4_server_connection_errors_total{backend="app",server="one",protocol="tcp"}': 4,
    'lb4_server_retry_warnings_total{backend="app",server="one",protocol="tcp"}': 3,
    'lb4_config_reloads_total{result="success"}': 3,
    'lb4_config_reloads_total{result="failure"}': 1,
    lb4_config_last_reload_successful: 0,
    lb4_config_last_reload_success_timestamp_seconds: 1_700_000_000.25,
    'lb4_build_info{version="1.2.3",mode="proxy"}': 1,
  });
});

test('packets, the ring, the flow table and the port pools of passthrough', async () => {
  expect(samplesOf(await textOf(sourceOf('passthrough', numbers)))).toMatchObject({
    'lb4_packets_total{verdict="forwarded"}': 12,
    'lb4_host_repairs_total{what="rules"}': 7,
    'lb4_host_missing{what="rules"}': 2,
    'lb4_packets_total{verdict="resetTableFull"}': 0,
    lb4_ring_frames_received_total: 20,
    lb4_ring_frames_dropped_total: 3,
    lb4_transmit_failures_total: 1,
    lb4_flow_table_entries: 4,
    lb4_flow_table_capacity: 1000,
    'lb4_worker_frames_received_total{worker="0"}': 15,
    'lb4_worker_frames_dropped_total{worker="1"}': 3,
    'lb4_worker_flow_table_entries{worker="1"}': 4,
    lb4_half_open_connections: 3,
    'lb4_frontend_denied_total{frontend="web",protocol="tcp",rule="deny"}': 2,
    'lb4_frontend_would_deny_total{frontend="web",protocol="tcp",rule="deny"}': 6,
    'lb4_frontend_unlimited_total{frontend="web",protocol="tcp"}': 13,
    lb4_half_open_evicted_total: 2,
    'lb4_port_pool_ports_in_use{backend="app",server="one",protocol="tcp"}': 9,
    'lb4_port_pool_ports{backend="app",server="one",protocol="tcp"}': 27_233,
  });
});

test.each<[Mode, RegExp]>([
  ['proxy', /^# TYPE lb4_(packets|ring|transmit|flow|port|worker)/m],
  ['passthrough', /^# TYPE lb4_server_(connection_errors|retry)/m],
  ['dsr', /^# TYPE lb4_(port|server_connection_errors|server_retry)/m],
])('%s has no metrics of other modes', async (mode, others) => {
  expect(await textOf(sourceOf(mode, numbers))).not.toMatch(others);
});

test('while lb4 stops, no frontend is up', async () => {
  const text = await textOf(sourceOf('proxy', numbers), { ...view, stopping: true });
  expect(samplesOf(text)).toMatchObject({ 'lb4_frontend_status{frontend="web",protocol="tcp"}': 0 });
});

test('a scrape reads what is true then: counters move, and a server that left the file is gone', async () => {
  let total = 1;
  const metrics = new Metrics({ ...sourceOf('proxy', numbers), server: () => countersOf(total) }, '1.2.3');
  const key = 'lb4_server_sessions_total{backend="app",server="one",protocol="tcp"}';
  expect(samplesOf(await metrics.text(view))[key]).toBe(1);
  total = 41;
  expect(samplesOf(await metrics.text(view))[key]).toBe(41);
  const without = await metrics.text({ ...view, backends: [backendOf('app', [serverOf('two', 1)])] });
  expect(without).not.toMatch(/server="one"|backend="dead"/);
  expect(without).toMatch(/server="two"/);
});

test('two scrapes at a time do not mix', async () => {
  const metrics = new Metrics(sourceOf('proxy', numbers), '1.2.3');
  const [one, two] = await Promise.all([metrics.text(view), metrics.text(viewOf())]);
  expect(samplesOf(one)).toHaveProperty(['lb4_frontend_status{frontend="web",protocol="tcp"}']);
  expect(two).not.toMatch(/frontend="web"/);
});

test("has the process' own metrics, and nothing that keeps the process alive", async () => {
  // Vitest's own timers, files and messages come and go meanwhile: of those only the timers are of interest, and only new ones.
  const lasting = () =>
    process
      .getActiveResourcesInfo()
      .filter((name) => !/^(Timeout|Immediate|FS|MessagePort)/.test(name))
      .sort();
  const before = lasting();
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const text = await textOf(sourceOf('proxy', numbers));
  expect(vi.getTimerCount()).toBe(0);
  expect(text).toMatch(/^process_cpu_seconds_total \d/m);
  expect(text).toMatch(/^process_resident_memory_bytes \d/m);
  expect(text).toMatch(/^process_open_fds \d/m);
  expect(text).not.toMatch(/nodejs_(active|eventloop)_|\bnan\b/i);
  expect(lasting()).toEqual(before);
});

test('no series comes twice, wherever names are equal: in two backends, by two protocols, and for a frontend and a backend', async () => {
  const servers = [serverOf('one', 0), serverOf('two', 1)];
  const text = await textOf(
    sourceOf('passthrough', numbers),
    viewOf({
      frontends: [frontendOf('app', 0), frontendOf('web', 1, { draining: true }), frontendOf('app', 2, { protocol: 'udp' })],
      backends: [backendOf('app', servers), backendOf('web', servers), backendOf('app', servers, { protocol: 'udp' })],
    }),
  );
  const series = text.split('\n').flatMap((line) => (/^lb4_\S/.test(line) ? [line.slice(0, line.lastIndexOf(' '))] : []));
  expect(series).toContain('lb4_server_status{backend="web",server="one",protocol="tcp"}');
  expect(series).toContain('lb4_server_status{backend="app",server="one",protocol="udp"}');
  expect(series.filter((one, index) => series.indexOf(one) !== index)).toEqual([]);
});

test.each(MODES)('every metric of %s is in docs/operations.md, with its type and labels', async (mode) => {
  const docs = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const text = await textOf(sourceOf(mode, numbers));
  const types = [...text.matchAll(/^# TYPE (lb4_\S+) (\S+)$/gm)];
  expect(types.length).toBeGreaterThan(25);
  for (const [, name, type] of types) {
    const labels = new RegExp(`^${name}(?:\\{(.*)\\})? `, 'm').exec(text)?.[1] ?? '';
    const cell = [...labels.matchAll(/(\w+)="/g)].map(([, label]) => label).join(', ') || '–';
    expect(docs, name).toContain(`| \`${name}\` | ${type} | ${cell} |`);
  }
});

test('docs/operations.md has no metric that is gone', async () => {
  const docs = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const texts = await Promise.all(MODES.map((mode) => textOf(sourceOf(mode, numbers))));
  for (const [, name] of docs.matchAll(/^\| `(lb4_\w+)` \|/gm)) expect(texts.join('\n'), name).toContain(`# TYPE ${name} `);
});

test('labels are escaped as the format asks', async () => {
  const name = 'a "b" \\ c\nd é 猫';
  const text = await textOf(sourceOf('proxy', numbers), viewOf({ frontends: [frontendOf(name, 0)] }));
  expect(text).toContain('lb4_frontend_status{frontend="a \\"b\\" \\\\ c\\nd é 猫",protocol="tcp"} 1\n');
});

test('whatever is counted: every line can be read, no value is missing, and counters do not shrink', async () => {
  const counters = fc.array(
    fc.record({ total: fc.nat(), current: fc.nat(), bytesTx: fc.maxSafeNat(), bytesRx: fc.nat(), load: fc.nat() }),
    {
      minLength: 5,
      maxLength: 5,
    },
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...MODES), counters, fc.nat(), async (mode, before, more) => {
      const after = before.map((row) => ({ ...row, total: row.total + more, bytesRx: row.bytesRx + more }));
      const [first, second] = await Promise.all(
        [before, after].map((counted) => textOf(sourceOf(mode, { frontends: counted, servers: counted }))),
      );
      for (const line of second.split('\n').filter((line) => line !== '' && !line.startsWith('#')))
        expect(line).toMatch(/^[a-z][a-z0-9_]*(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9][0-9.e+-]*$/);
      const then = samplesOf(first);
      for (const [sample, value] of Object.entries(samplesOf(second))) {
        if (/_total\b/.test(sample)) expect(value, sample).toBeGreaterThanOrEqual(then[sample]);
      }
    }),
    { numRuns: 20 },
  );
});

describe.skipIf(!hasPromtool)(`promtool${hasPromtool ? '' : ' is not installed (scripts/install-deps.sh test)'}`, () => {
  test.each(MODES)('finds nothing to say about %s', async (mode) => {
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
      input: await textOf(sourceOf(mode, numbers), { ...view, frontends: [frontendOf('a "b" \\ c\nd 猫', 0)] }),
      encoding: 'utf8',
    });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
  });
});
