/** What lb4 says it has carried, in every mode, against what clients and servers counted themselves. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { STATS_PORT, type Stats, sumOf } from '../lab/balancer.ts';
import type { EchoReport } from '../lab/client.ts';
import { holdConnections } from '../lab/hold.ts';
import type { Namespace } from '../lab/lab.ts';
import { Live, MODES } from '../lab/live.ts';
import { PYTHON } from '../lab/processes.ts';
import { ECHO } from '../lab/topology.ts';
import { PATIENCE, pause, waitUntil } from '../lab/wait.ts';

/** `in` is bytes from clients, `out` to clients, as in the metrics. */
interface Count {
  readonly sessions: number;
  readonly in: number;
  readonly out: number;
}

const NONE: Count = { sessions: 0, in: 0, out: 0 };
const add = (a: Count, b: Count): Count => ({ sessions: a.sessions + b.sessions, in: a.in + b.in, out: a.out + b.out });
const sum = (counts: readonly Count[]): Count => counts.reduce(add, NONE);
const less = (a: Count, b: Count): Count => ({ sessions: a.sessions - b.sessions, in: a.in - b.in, out: a.out - b.out });

async function scrape(live: Live): Promise<Count[]> {
  const metrics = await live.balancer.metrics();
  return WHO.map(([kind, labels]) => {
    const read = (name: string) => sumOf(metrics, `lb4_${kind}_${name}_total`, labels);
    return { sessions: read('sessions'), in: read('bytes_in'), out: read('bytes_out') };
  });
}

/** Whose counters are read, in this order everywhere. */
const WHO = [
  ['frontend', 'frontend="http"'],
  ['backend', 'backend="http-out"'],
  ['server', 'backend="http-out",server="server1"'],
  ['server', 'backend="http-out",server="server2"'],
  ['frontend', 'frontend="echo"'],
  ['backend', 'backend="echo-out"'],
  ['server', 'backend="echo-out"'],
] as const;

/** Frontend and backend of `http`, then of `echo`, as /stats tells them. */
function told({ frontends, backends }: Stats): Count[] {
  return [frontends['http'], backends['http-out'], frontends['echo'], backends['echo-out']].map((totals) => {
    return { sessions: totals?.total_connections ?? -1, in: totals?.bytes_tx ?? -1, out: totals?.bytes_rx ?? -1 };
  });
}

const WRITE_OUT = '%{http_code} %header{x-server} %{size_request} %{size_upload} %{size_header} %{size_download}\n';

/** One curl, whose transfers each have a connection; by server. */
async function curl(client: Namespace, ...args: string[]): Promise<Map<string, Count>> {
  const options = ['-sS', '--no-progress-meter', '--max-time', '60', '-H', 'Connection: close', '-o', '/dev/null', '-w', WRITE_OUT];
  const { code, stdout, stderr } = await client.run('curl', ...options, ...args);
  expect([code, stderr]).toEqual([0, '']);
  const counts = new Map<string, Count>();
  for (const line of stdout.trim().split('\n')) {
    const [status, server = '', ...sizes] = line.split(' ');
    expect(status).toBe('200');
    // Of a POST made with -T, size_request is its headers alone (with --data-binary a short body is counted in it, too).
    const [request = 0, upload = 0, header = 0, download = 0] = sizes.map(Number);
    counts.set(server, add(counts.get(server) ?? NONE, { sessions: 1, in: request + upload, out: header + download }));
  }
  return counts;
}

/** Downloads and uploads of many sizes, and echoed connections, all at once. What clients counted, in the order of WHO. */
async function traffic({ lab, vip }: Live): Promise<Count[]> {
  const upload = (bytes: number) => {
    const file = join(lab.directory, `upload-${bytes}`);
    writeFileSync(file, Buffer.alloc(bytes, 'lb4'));
    return curl(lab.client, '-X', 'POST', '-H', 'Expect:', '-T', file, `http://${vip}/hash`);
  };
  const echo = lab.client.program('client', 'echo', '30', '20000', `${vip}:${ECHO}`);
  const [report, ...transfers] = await Promise.all([
    echo.line(/^\{/).then((line) => JSON.parse(line) as EchoReport),
    curl(lab.client, '--parallel', '--parallel-max', '8', `http://${vip}/content/[1-600001:30000]`),
    curl(lab.client, `http://${vip}/content/[0-3]`),
    curl(lab.client, `http://${vip}/content/5000000`),
    ...[0, 1, 1_000, 70_000, 3_000_000].map(upload),
  ]);
  expect(report.errors).toEqual([]);
  const [one, two] = ['server1', 'server2'].map((server) => sum(transfers.map((counts) => counts.get(server) ?? NONE))) as [Count, Count];
  const http = add(one, two);
  const echoed = { sessions: report.ok, in: report.sent, out: report.received };
  return [http, http, one, two, echoed, echoed, echoed];
}

/** Has a host repeat a segment only when it is lost: a busy machine is late often enough for probes and timers of TCP. */
function makePatient(host: Namespace): void {
  host.sysctl('net.ipv4.tcp_early_retrans', '0');
  host.sysctl('net.ipv4.tcp_reordering', '300');
  for (const route of host.ip('route').trim().split('\n')) host.ip('route', 'change', ...route.trim().split(/ +/), 'rto_min', '3s');
}

/** Segments that were sent again, by anybody. */
function retransmissions({ lab }: Live): number {
  const of = (host: Namespace) => Number(/TcpRetransSegs\s+(\d+)/.exec(host.sh('nstat', '-asz', 'TcpRetransSegs'))?.[1]);
  return [lab.client, lab.balancer, ...lab.servers].reduce((all, host) => all + of(host), 0);
}

/** `least` collected (bytes are, once a second), and long enough for more to show up if there should be any. In DSR no answers pass. */
async function quiet({ balancer, mode }: Live, least: Count = NONE): Promise<Stats> {
  const isCollected = (stats: Stats) => stats.total_bytes_tx >= least.in && (mode === 'dsr' || stats.total_bytes_rx >= least.out);
  await balancer.settled('all connections to end', (stats) => stats.current_connections === 0 && isCollected(stats));
  await pause(1_300);
  return balancer.stats();
}

describe.each(MODES)('%s', (mode) => {
  test('every connection and every byte, exactly', async () => {
    await using live = await Live.start(mode);
    for (const host of [live.lab.client, live.lab.balancer, ...live.lab.servers]) makePatient(host);
    // The packet modes count what passes, TCP's repetitions included (docs/operations.md): a run that had any says nothing.
    for (let run = 1; run <= 4; run++) {
      const [before, repeated] = [await scrape(live), retransmissions(live)];
      const counted = await traffic(live);
      const stats = await quiet(live, sum([before[0], before[4], counted[0], counted[4]]));
      const after = await scrape(live);
      if (retransmissions(live) !== repeated) continue;
      // In DSR the answers do not pass.
      const expected = counted.map((count) => (mode === 'dsr' ? { ...count, out: 0 } : count));
      expect(after.map((count, index) => less(count, before[index]))).toEqual(expected);
      expect(told(stats)).toEqual([after[0], after[1], after[4], after[5]]);
      expect([stats.total_connections, stats.total_bytes_tx, stats.total_bytes_rx]).toEqual(Object.values(add(after[0], after[4])));
      return;
    }
    throw new Error('segments were sent again in each of four runs');
  });

  test('resets, refusals and aborted downloads leave nothing behind; promtool likes the metrics meanwhile', async () => {
    await using live = await Live.start(mode, { checks: 'health_check_interval = 30' });
    const { client } = live.lab;
    const held = await holdConnections(client, 10, `${live.vip}:${ECHO}`);
    const load = client.program('client', 'load', '50', `http://${live.vip}/content/20000`);
    const resets = client.run(
      PYTHON,
      '-c',
      'import socket, struct\n' +
        'for n in range(20):\n' +
        `  s = socket.create_connection(("${live.vip}", ${ECHO})); s.recv(1000)\n` +
        '  s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()\n',
    );
    const aborted = Array.from({ length: 5 }, () =>
      client.run('curl', '-s', '--max-time', '0.6', '-o', '/dev/null', `http://${live.vip}/drip/50000000`),
    );
    const metrics = `curl -sS http://127.0.0.1:${STATS_PORT}/metrics`;
    await load.line(/"sent":[1-9]/);
    expect(await live.lab.balancer.run('sh', '-c', `${metrics} | promtool check metrics`)).toEqual({ code: 0, stdout: '', stderr: '' });
    expect((await resets).code).toBe(0);
    expect((await Promise.all(aborted)).map(({ code }) => code)).toEqual([28, 28, 28, 28, 28]);
    load.end();
    await load.exited;
    await live.balancer.settled('only the held connections', (stats) => stats.current_connections === 10);
    held.end();
    await live.balancer.settled('no connection', (stats) => stats.current_connections === 0);
    await Promise.all([live.lab.killBackend(0), live.lab.killBackend(1)]);
    const refused = await Promise.all(Array.from({ length: 5 }, () => client.run('curl', '-s', '--max-time', '2', `http://${live.vip}/`)));
    expect(refused.every(({ code }) => code !== 0)).toBe(true);
    const { current_connections: current, frontends, backends } = await quiet(live);
    const all = [...Object.values(frontends), ...Object.values(backends)].map((totals) => totals.current_connections);
    expect([current, ...all]).toEqual([0, 0, 0, 0, 0]);
    for (const kind of ['frontend', 'backend', 'server']) expect(await live.metric(`lb4_${kind}_current_sessions`), kind).toBe(0);
    // DSR sees neither the refusals nor the end of those attempts before the timeout of a SYN.
    if (mode !== 'dsr') expect(await live.metric('lb4_server_load')).toBe(0);
  });
});

test.concurrent.each(MODES)('%s: totals do not shrink when a server or a frontend leaves, nor when others come', async (mode) => {
  await using live = await Live.start(mode, { backend: 'balance = "roundrobin"' });
  const { client } = live.lab;
  const counted = await curl(client, `http://${live.vip}/content/[1000-40000:1000]`);
  const echo = client.program('client', 'echo', '20', '1000', `${live.vip}:${ECHO}`);
  const { sent, received } = JSON.parse(await echo.line(/^\{/, 2 * PATIENCE)) as EchoReport;
  const before = await quiet(live, sum([...counted.values(), { sessions: 20, in: sent, out: received }]));
  expect(before.backends['http-out']?.total_connections).toBe(40);
  expect(counted.size).toBe(2);
  /** Until its index is free again: a second for it to be idle, three to collect, and two looks after them. */
  const watched = async (): Promise<void> => {
    for (const end = performance.now() + 5_200; performance.now() < end; await pause(100)) {
      const now = await live.balancer.stats();
      expect(now).toMatchObject({ total_connections: 60, current_connections: 0 });
      expect([now.total_bytes_tx, now.total_bytes_rx]).toEqual([before.total_bytes_tx, before.total_bytes_rx]);
      expect(now.backends['http-out']).toMatchObject({ ...before.backends['http-out'], servers: expect.anything() });
    }
  };
  await live.reload({ servers: [1], frontends: ['http'] });
  await watched();
  await waitUntil(async () => (await live.metric('lb4_server_sessions_total', 'server="server1"')) === 0, {
    what: 'its index to be free',
  });
  // Whoever comes now has the indexes that were left, and counts from 0 under them.
  await live.reload({});
  const after = await live.balancer.stats();
  expect(after).toMatchObject({ total_connections: 60, total_bytes_tx: before.total_bytes_tx, total_bytes_rx: before.total_bytes_rx });
  expect(after.frontends['echo']).toMatchObject({ total_connections: 0, bytes_tx: 0 });
  await curl(client, `http://${live.vip}/content/[1-10]`);
  expect(await quiet(live)).toMatchObject({ total_connections: 70 });
});
