/** Ordinary traffic of ordinary clients, and whose answers reach whom. */
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Balancer, LARGE_RING, type Stats, startBalancer } from '../lab/balancer.ts';
import type { EchoReport } from '../lab/client.ts';
import { content, contentHash } from '../lab/content.ts';
import { endToEnd, passthroughBy, wired } from '../lab/end-to-end.ts';
import type { Namespace } from '../lab/lab.ts';
import { ECHO, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { PATIENCE, pause, waitUntil } from '../lab/wait.ts';

const MEGABYTE = 1_000_000;
const SERVERS = ['server1', 'server2', 'server3'];

endToEnd((driver) => {
  let lab: Topology;
  let balancer: Balancer;

  beforeAll(async () => {
    lab = wired(driver, new Topology({ clients: 2, servers: 3 }));
    await lab.startBackends();
    const settings = lab.settings();
    const first = `${serverAddress(0)}:${ECHO}`;
    balancer = await startBalancer(lab.balancer, {
      frontends: {
        ...settings.frontends,
        left: { listen: `${VIP}:9001`, servers: [first] },
        right: { listen: `${VIP}:9002`, servers: [first] },
      },
      ring: LARGE_RING,
      more: passthroughBy(driver),
    });
  });

  afterAll(async () => {
    const exit = await balancer?.stop();
    await lab?.[Symbol.asyncDispose]();
    expect(exit).toEqual({ code: 0, signal: null });
  });

  async function echo(client: Namespace, ...args: (string | number)[]): Promise<EchoReport> {
    const running = client.program('client', 'echo', ...args.map(String));
    return JSON.parse(await running.line(/^\{/, 2 * PATIENCE)) as EchoReport;
  }

  test('many small requests are answered, by every server', async () => {
    const before = await balancer.stats();
    const urls = Array.from({ length: 200 }, () => `http://${VIP}/`);
    // One curl each way: connections of their own, one after the other.
    const { code, stdout } = await lab.client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
    const answers = stdout.trim().split('\n');
    expect(code).toBe(0);
    expect(answers).toHaveLength(200);
    expect([...new Set(answers)].sort()).toEqual(SERVERS);
    const after = await balancer.settled('the connections to be over', (stats) => stats.frontends['http']?.current_connections === 0);
    expect((after.frontends['http']?.total_connections ?? 0) - (before.frontends['http']?.total_connections ?? 0)).toBe(200);
  });

  test('a large file arrives as it was sent', async () => {
    const size = 200 * MEGABYTE * driver.share;
    const { stdout } = await lab.client.run('sh', '-c', `curl -sS --max-time 80 http://${VIP}/content/${size} | sha256sum`);
    expect(stdout.split(' ')[0]).toBe(contentHash(size));
  });

  test('a large upload arrives as it was sent', async () => {
    const size = 100 * MEGABYTE * driver.share;
    const upload = lab.client.start(['curl', '-sS', '--max-time', '60', '-H', 'Expect:', '--data-binary', '@-', `http://${VIP}/`]);
    await upload.feed(content(size));
    expect(await upload.line(/^[0-9a-f]{64}$/, 2 * PATIENCE)).toBe(contentHash(size));
  });

  test('servers see the VIP as the client, from ports 33768 to 61000', async () => {
    const { peers } = await echo(lab.client, 300, 10, `${VIP}:${ECHO}`);
    expect(peers).toHaveLength(300);
    for (const peer of peers) {
      const [address, port] = peer.split(':');
      expect(address).toBe(VIP);
      expect(Number(port)).toBeGreaterThanOrEqual(33_768);
      expect(Number(port)).toBeLessThanOrEqual(61_000);
    }
  });

  test('many connections at once, each with its own data back', async () => {
    const count = 1000 * driver.share;
    const report = await echo(lab.client, count, 20_000, `${VIP}:${ECHO}`);
    expect(report.errors).toEqual([]);
    expect(report.ok).toBe(count);
    expect(Object.keys(report.servers).sort()).toEqual(SERVERS);
  });

  test('two frontends over one server, two clients, the same source ports', async () => {
    const reports = await Promise.all(
      lab.clients.flatMap((client) => [9001, 9002].map((port) => echo(client, 200, 5_000 * driver.share, `${VIP}:${port}`, 20_000))),
    );
    for (const report of reports) {
      expect(report.errors).toEqual([]);
      expect(report.ok).toBe(200);
    }
    // The server saw 800 different connections.
    expect(new Set(reports.flatMap((report) => report.peers)).size).toBe(800);
  });

  test('the same client address and port again and again', async () => {
    // The client keeps no TIME_WAIT, which would refuse it the ports.
    lab.client.sysctl('net.ipv4.tcp_max_tw_buckets', '0');
    for (let round = 0; round < 5; round++) {
      const { errors, ok } = await echo(lab.client, 20, 1_000, `${VIP}:${ECHO}`, 25_000);
      expect(errors).toEqual([]);
      expect(ok).toBe(20);
    }
  });

  /** The stats once they have rested: lb4 adds up each flow's bytes about once a second. */
  async function rested(): Promise<Stats> {
    let then = await balancer.stats();
    return waitUntil(
      async () => {
        await pause(1_500);
        const now = await balancer.stats();
        // Connections of others, whose end a full ring has lost, may stay open.
        const same = isDeepStrictEqual(now.frontends, then.frontends) && now.frontends['http']?.current_connections === 0;
        then = now;
        return same ? now : undefined;
      },
      { what: 'the counts to rest' },
    );
  }

  const retransmitted = (hosts: readonly Namespace[]) => hosts.reduce((sum, host) => sum + host.retransmitted(), 0);

  test('the counts are true', async () => {
    const before = await rested();
    const again = { tx: -retransmitted(lab.clients), rx: -retransmitted(lab.servers) };
    const sizes = '%{size_request} %{size_header} %{size_download}';
    const { stdout } = await lab.client.run('curl', '-sS', '-o', '/dev/null', '-w', sizes, `http://${VIP}/content/3000000`);
    const [request = 0, header = 0, body = 0] = stdout.split(' ').map(Number);
    // They rest before they are added up, too.
    const isAdded = ({ frontends: { http } }: Stats) => (http?.bytes_rx ?? 0) >= (before.frontends['http']?.bytes_rx ?? 0) + header + body;
    await balancer.settled('the answer to be counted', isAdded);
    const after = await rested();
    again.tx += retransmitted(lab.clients);
    again.rx += retransmitted(lab.servers);
    expect(after.total_connections - before.total_connections).toBe(1);
    // Payload bytes, each time they pass: tx is client → server, rx server → client.
    for (const [now, then] of [
      [after.backends['http-out'], before.backends['http-out']],
      [after.frontends['http'], before.frontends['http']],
    ]) {
      expect((now?.total_connections ?? 0) - (then?.total_connections ?? 0)).toBe(1);
      const tx = (now?.bytes_tx ?? 0) - (then?.bytes_tx ?? 0) - request;
      const rx = (now?.bytes_rx ?? 0) - (then?.bytes_rx ?? 0) - header - body;
      expect(tx).toBeGreaterThanOrEqual(0);
      expect(tx).toBeLessThanOrEqual(again.tx);
      expect(rx).toBeGreaterThanOrEqual(0);
      expect(rx).toBeLessThanOrEqual(again.rx);
    }
  });

  test('GET /stats has the shape that Convey’s users know', async () => {
    const stats = await balancer.stats();
    const totals = {
      total_connections: expect.any(Number),
      current_connections: expect.any(Number),
      bytes_tx: expect.any(Number),
      bytes_rx: expect.any(Number),
    };
    expect(stats).toMatchObject({
      total_connections: expect.any(Number),
      current_connections: expect.any(Number),
      total_bytes_tx: expect.any(Number),
      total_bytes_rx: expect.any(Number),
      backends: {
        'http-out': { ...totals, servers: { '10.72.0.11:80': true, '10.72.0.12:80': true, '10.72.0.13:80': true } },
        'left-out': { ...totals, servers: { '10.72.0.11:7': true } },
      },
      frontends: { http: totals, echo: totals, left: totals, right: totals },
    });
    const sum = Object.values(stats.frontends).reduce((total, frontend) => total + frontend.total_connections, 0);
    expect(stats.total_connections).toBe(sum);
    const { headers } = await lab.client
      .run('curl', '-sS', '-D', '-', '-o', '/dev/null', `http://${VIP}:7000/stats`)
      .then(({ stdout }) => ({ headers: stdout.toLowerCase() }));
    expect(headers).toContain('200 ok');
    expect(headers).toContain('content-type: application/json');
  });
});
