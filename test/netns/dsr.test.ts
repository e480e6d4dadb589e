/** `lb4 --dsr` end to end, both ways of it, and by the kernel, too: clients, servers, and a balancer that never sees an answer. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Balancer, Stats } from '../lab/balancer.ts';
import { Capture } from '../lab/capture.ts';
import type { EchoReport } from '../lab/client.ts';
import { unconfinedIn } from '../lab/confined.ts';
import { contentHash } from '../lab/content.ts';
import { CLIENT, DsrTopology, SERVERS, VIP } from '../lab/dsr-topology.ts';
import { endToEndDsr, passthroughBy, wired } from '../lab/end-to-end.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { traces } from '../lab/traces.ts';
import { PATIENCE, waitUntil } from '../lab/wait.ts';
import { ACK, ICMP, ipv4, RawHost } from '../lab/wire.ts';

const MEGABYTE = 1_000_000;

endToEndDsr((driver, dsr) => {
  let lab: DsrTopology;
  let balancer: Balancer;

  const serve = () => lab.serve({ ...lab.settings(dsr), more: passthroughBy(driver) });

  /** Packets that the kernel has forwarded by itself. */
  const forwarded = () => balancer.metric('lb4_fast_path_packets_total');

  beforeAll(async () => {
    lab = wired(driver, new DsrTopology());
    await lab.startServers();
    const settings = lab.settings(dsr);
    lab.rules(settings, 'install');
    lab.rules(settings, 'install');
    balancer = await serve();
  });

  afterAll(async () => {
    const exit = await balancer?.stop();
    lab?.rules(lab.settings(dsr), 'remove');
    await lab?.[Symbol.asyncDispose]();
    expect(exit).toEqual({ code: 0, signal: null });
  });

  test('as root it has no more privileges than it needs', () => {
    expect(unconfinedIn(balancer.running.pid)).toEqual([]);
  });

  test('many small requests, by every server', async () => {
    const urls = Array.from({ length: 100 }, () => `http://${VIP}/`);
    const { code, stdout } = await lab.client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
    const answers = stdout.trim().split('\n');
    expect(code).toBe(0);
    expect(answers).toHaveLength(100);
    expect([...new Set(answers)].sort()).toEqual(['server1', 'server2']);
  });

  test('a large file arrives as it was sent, and no answer passes the balancer', async () => {
    const size = 100 * MEGABYTE;
    const before = await forwarded();
    const wire = await Capture.start(lab.balancer, 'eth0', 'tcp', 96);
    const { stdout } = await lab.client.run('sh', '-c', `curl -sS --max-time 80 http://${VIP}/content/${size} | sha256sum`);
    expect(stdout.split(' ')[0]).toBe(contentHash(size));
    const lines = await wire.stop();
    expect(lines.some((line) => line.includes(` ${CLIENT}.`) && line.includes(`> ${VIP}.80`))).toBe(true);
    expect(lines.filter((line) => line.includes(`> ${CLIENT}.`))).toEqual([]);
    const taken = (await forwarded()) - before;
    if (driver.isFast === true) expect(taken).toBeGreaterThan(100);
    else expect(taken).toBe(0);
    // What XDP takes nobody on this host sees.
    if (driver.name === 'xdp') expect(lines.length).toBeLessThan(taken);
  });

  test.each([['upload'], ['download', '-R']])('iperf3 %s', async (_, ...options) => {
    const { code, stdout } = await lab.iperf('-n', '50M', ...options);
    expect(code, stdout).toBe(0);
    const { end, error } = JSON.parse(stdout) as { end: { sum_received: { bytes: number } }; error?: string };
    expect(error).toBeUndefined();
    expect(end.sum_received.bytes).toBeGreaterThan(MEGABYTE);
  });

  test('500 connections at once, each with its own data back; servers see the client’s address', async () => {
    const running = lab.client.program('client', 'echo', '500', '20000', `${VIP}:7`);
    const report = JSON.parse(await running.line(/^\{/, 2 * PATIENCE)) as EchoReport;
    expect(report.errors).toEqual([]);
    expect(report.ok).toBe(500);
    expect([...new Set(report.peers.map((peer) => peer.split(':')[0]))]).toEqual([CLIENT]);
  });

  test('the counts are true', async () => {
    const before = await balancer.settled('no connection', (stats) => stats.frontends['http']?.current_connections === 0);
    const again = lab.client.retransmitted();
    const { stdout } = await lab.client.run('curl', '-sS', '-o', '/dev/null', '-w', '%{size_request}', `http://${VIP}/content/3000000`);
    const sent = ({ frontends: { http } }: Stats) => (http?.bytes_tx ?? 0) - (before.frontends['http']?.bytes_tx ?? 0);
    const after = await balancer.settled('the request', (stats) => sent(stats) >= Number(stdout));
    expect(after.total_connections - before.total_connections).toBe(1);
    // Each time that they pass.
    expect(sent(after)).toBeLessThanOrEqual(Number(stdout) + lab.client.retransmitted() - again);
    expect(after.total_bytes_rx).toBe(0);
  });

  test('a server that refuses new connections leaves selection, keeps those it has, and comes back', async () => {
    const hold = await holdConnections(lab.client, 20, `${VIP}:7`);
    lab.servers[0].sh('nft', refusing('tcp reset'));
    await balancer.health({ [`${SERVERS[0]}:80`]: false, [`${SERVERS[0]}:7`]: false });
    expect(await names(lab, 30)).toEqual(['server2']);
    expect(await othersLiveOn(hold)).toEqual([]);
    expect([...new Set((await report(hold)).map(({ server }) => server))].sort()).toEqual(['server1', 'server2']);
    lab.servers[0].sh('nft', 'delete table ip drain');
    await balancer.health({ [`${SERVERS[0]}:80`]: true, [`${SERVERS[0]}:7`]: true });
    expect(await names(lab, 60)).toEqual(['server1', 'server2']);
    await hold.stop('SIGKILL');
  });

  test('connections survive a restart of lb4, and the loss of what it has kept: the hash finds their server again', async () => {
    const hold = await holdConnections(lab.client, 20, `${VIP}:7`);
    await balancer.stop('SIGKILL');
    for (const directory of traces(lab.balancer).kept) rmSync(directory, { recursive: true });
    balancer = await serve();
    expect(await othersLiveOn(hold)).toEqual([]);
    expect(await balancer.verdict('adopted')).toBeGreaterThanOrEqual(20);
    await hold.stop('SIGKILL');
  });

  test('an ICMP error about an answer reaches the server that answered, though lb4 has been restarted since', async () => {
    const router = await RawHost.attach(lab.router, 'in', '10.82.0.200', { namespace: lab.balancer, device: 'eth0' });
    // None that an earlier connection of the client's may still have, in TIME_WAIT.
    const first = lab.client.ports(4);
    const ports = [0, 1, 2, 3].map((i) => first + i);
    const handshakes = await Capture.start(lab.client, 'eth0', 'tcp[tcpflags]&(tcp-syn|tcp-ack)==tcp-syn|tcp-ack');
    const asked = ports.map((port) => lab.client.run('curl', '-sS', '--max-time', '60', '--local-port', `${port}`, `http://${VIP}/`));
    const answered = (await Promise.all(asked)).map(({ stdout, stderr }) => stdout.trim() || stderr);
    for (const answer of answered) expect(answer).toMatch(/^server[12]$/);
    const begun = await handshakes.stop('-S');
    const firstOf = (port: number): number => Number(new RegExp(`\\.${port}: .*seq (\\d+)`).exec(begun.join('\n'))?.[1]);
    await balancer.stop('SIGKILL');
    balancer = await serve();
    // With its flows: the hash alone would know the servers of one in two.
    expect(balancer.running.lines.filter((line) => /go on|cannot be followed|will not survive/.test(line))).toEqual([
      expect.stringContaining('go on'),
    ]);
    const wires = await Promise.all(lab.servers.map((server) => Capture.start(server, 'eth0', 'icmp')));
    // Each names another MTU, so that tcpdump tells them apart.
    for (const [i, port] of ports.entries()) {
      const quoted = {
        source: VIP,
        sourcePort: 80,
        destination: CLIENT,
        destinationPort: port,
        flags: ACK,
        sequence: firstOf(port),
        payload: Buffer.alloc(100),
      };
      router.send({ destination: VIP, protocol: ICMP, type: 3, code: 4, rest: 1300 + i, payload: ipv4(quoted).subarray(0, 28) });
    }
    const counted = ({ lb4 }: Stats): boolean => lb4.verdicts['icmpTranslated'] === ports.length;
    await balancer.settled('four errors handed on', counted);
    for (const [index, wire] of wires.entries()) {
      const errors = (await wire.stop('-vv')).filter((line) => line.includes('need to frag'));
      const told = errors.map((line) => ports[Number(/\(mtu (\d+)\)/.exec(line)?.[1]) - 1300]);
      expect(told.sort()).toEqual(ports.filter((_, i) => answered[i] === `server${index + 1}`));
      expect(errors.filter((line) => /bad cksum|wrong icmp cksum/.test(line))).toEqual([]);
    }
  });

  test('with no server up, a client is refused at once, by the VIP', async () => {
    // Not by a reset: those are to be lb4's.
    for (const server of lab.servers) server.sh('nft', refusing('icmp type port-unreachable'));
    await balancer.health({ [`${SERVERS[0]}:80`]: false, [`${SERVERS[1]}:80`]: false });
    // From a change of health to the next plan it takes a moment.
    const isPlanned = async () => {
      await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`);
      return (await balancer.verdict('resetNoServer')) > 0;
    };
    await waitUntil(isPlanned, { what: 'clients to be refused by lb4' });
    const wire = await Capture.start(lab.client, 'eth0', 'tcp');
    const { code, stderr } = await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`);
    expect(stderr).toMatch(/refused|Couldn't connect|Failed to connect/);
    expect(code).toBe(7);
    const resets = (await wire.stop('-v')).filter((line) => line.includes('Flags [R.]'));
    expect(resets.length).toBeGreaterThan(0);
    expect(resets.every((line) => line.includes(`${VIP}.80 > ${CLIENT}.`))).toBe(true);
    for (const server of lab.servers) server.sh('nft', 'delete table ip drain');
    await balancer.health({ [`${SERVERS[0]}:80`]: true, [`${SERVERS[1]}:80`]: true });
  });
});

test('more connections than the flow table has room for: all go on, each with its server', async () => {
  await using lab = new DsrTopology();
  await lab.startServers();
  const settings = { ...lab.settings('l2'), more: '[passthrough]\nconnection_tracker_capacity = 10' };
  lab.rules(settings, 'install');
  const balancer = await lab.serve(settings);
  const running = lab.client.program('client', 'echo', '100', '20000', `${VIP}:7`);
  const report = JSON.parse(await running.line(/^\{/, 2 * PATIENCE)) as EchoReport;
  expect([report.ok, report.errors]).toEqual([100, []]);
  const { lb4 } = await balancer.stats();
  expect(lb4.flows).toBeLessThanOrEqual(10);
  expect(lb4.verdicts['stateless']).toBeGreaterThan(100);
  expect(lb4.verdicts['resetTableFull']).toBe(0);
  expect(await balancer.stop()).toEqual({ code: 0, signal: null });
  lab.rules(settings, 'remove');
});

test('a frontend whose port is not its servers’ is a mistake in DSR', async () => {
  await using lab = new DsrTopology();
  const settings = { frontends: { http: { listen: `${VIP}:80`, servers: [`${SERVERS[0]}:8080`] } } };
  await expect(lab.serve(settings)).rejects.toThrow();
});

/** A server's firewall that takes no new connection. */
function refusing(how: string): string {
  return `table ip drain { chain in { type filter hook input priority 0; tcp flags syn / syn,ack reject with ${how}; }; }`;
}

/** Which servers answer `count` requests. */
async function names(lab: DsrTopology, count: number): Promise<string[]> {
  const urls = Array.from({ length: count }, () => `http://${VIP}/`);
  const { stdout } = await lab.client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
  return [...new Set(stdout.trim().split('\n'))].sort();
}
