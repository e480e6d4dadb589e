/** UDP by real programs, all beside each other in one laboratory: DNS, iperf3, super-packets, syslog, WireGuard; then lb4 is killed, and a server. */
import { expect, test } from 'vitest';
import { type Balancer, QUICK, startBalancer } from '../lab/balancer.ts';
import { contentHash } from '../lab/content.ts';
import { startFlood } from '../lab/flood.ts';
import { Iperf } from '../lab/iperf.ts';
import type { Namespace } from '../lab/lab.ts';
import type { Running } from '../lab/processes.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { fragmentBytes, NOTHING, traces } from '../lab/traces.ts';
import { LONG, serveUdp, startDns, UdpClients } from '../lab/udp.ts';
import { waitUntil } from '../lab/wait.ts';
import { tunnel } from '../lab/wireguard.ts';

const [DNS, WHO, PLAIN, SYSLOG, WIREGUARD] = [53, 9000, 9001, 514, 51820];
const CLIENTS = Array.from({ length: 20 }, (_, i) => i);
const [INNER, OUTER] = ['10.99.0.1', '10.99.0.2'];
const SIZE = 1_000_000;
/** So long the tunnel is used after lb4 was killed, at least: a minute is for who asks for it. */
const TUNNEL_MS = 1000 * Number(process.env['LB4_WIREGUARD_SECONDS'] ?? 0);

/** Frontends over both servers, or the first alone. */
function settings() {
  const over = (port: number, backend: string, protocol = 'udp', servers = 2) => ({
    listen: `${VIP}:${port}`,
    servers: Array.from({ length: servers }, (_, i) => `${serverAddress(i)}:${port}`),
    frontend: `protocol = "${protocol}"`,
    backend,
  });
  // Where no answer is expected, a check that passes takes as long as its timeout.
  const often = 'health_check_interval = 0.25\nhealth_check_timeout = 1\nhealth_check_rise = 1\nhealth_check_fall = 1';
  const unchecked = 'health_check = "none"';
  return {
    frontends: {
      dns: over(DNS, QUICK),
      who: over(WHO, `${QUICK}\nbalance = "roundrobin"\nhealth_check = "udp"\nhealth_check_send = "who"\nhealth_check_expect = "server"`),
      plain: over(PLAIN, `${often}\nbalance = "roundrobin"`),
      iperf: over(Iperf.port, unchecked, 'tcp', 1),
      stream: over(Iperf.port, unchecked, 'udp', 1),
      syslog: over(SYSLOG, unchecked, 'udp', 1),
      wireguard: over(WIREGUARD, unchecked, 'udp', 1),
    },
  };
}

/** Whose servers are not checked are up without a word. */
async function start(host: Namespace): Promise<Balancer> {
  const balancer = await startBalancer(host, settings(), { healthy: false });
  await balancer.health(Object.fromEntries([DNS, WHO, PLAIN].flatMap((port) => [0, 1].map((i) => [`${serverAddress(i)}:${port}`, true]))));
  return balancer;
}

test('DNS, iperf3, super-packets, syslog and WireGuard pass; flows outlive a kill -9, and leave a server that died', async () => {
  await using lab = new Topology({ servers: 2 });
  const { balancer: host, client, servers } = lab;
  const [who, plain] = await Promise.all(
    [WHO, PLAIN].map((port) => Promise.all(servers.map((server, i) => serveUdp(server, `server${i + 1}`, port)))),
  );
  const [syslog, iperf] = await Promise.all([
    serveUdp(servers[0], 'syslog', SYSLOG),
    Iperf.start(servers[0]),
    lab.startBackend(0),
    ...servers.map((server, i) => startDns(server, `server${i + 1}`)),
    tunnel(
      { namespace: servers[0], address: INNER, port: WIREGUARD },
      { namespace: client, address: OUTER, endpoint: `${VIP}:${WIREGUARD}` },
    ),
  ]);
  const clients = new UdpClients(client);
  let balancer = await start(host);

  await Promise.all([resolves(client), streams(client, iperf), logs(balancer, client, syslog), fetchesThroughTunnel(client)]);
  await passesLarge(host, balancer, clients);

  const before = await namesOf(clients);
  expect(new Set(before)).toEqual(new Set(['server1', 'server2']));
  await balancer.stop('SIGKILL');
  balancer = await start(host);
  await balancer.running.line(/go on/);
  expect(await namesOf(clients)).toEqual(before);
  for (const end = performance.now() + TUNNEL_MS; ; ) {
    await fetchesThroughTunnel(client);
    if (performance.now() >= end) break;
  }

  // The server's port is unreachable: the next check says so.
  await who[0].stop('SIGKILL');
  await balancer.health({ [`${serverAddress(0)}:${WHO}`]: false });
  expect(await namesOf(clients)).toEqual(CLIENTS.map(() => 'server2'));
  await losesUnderLoad(lab, balancer, plain[0]);
  expect(await balancer.stop()).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
});

/**
 * Nobody is at a server's port any more, and its check expects no answer: its host says "port unreachable" once a second to one address, lb4's, so
 * among a hundred datagrams a second of clients no check hears of it (icmp(7), icmp_ratelimit). lb4 goes by what these are told.
 */
async function losesUnderLoad(lab: Topology, balancer: Balancer, server: Running): Promise<void> {
  const flood = await startFlood(lab, { port: PLAIN, protocol: 'udp', rate: 100, seconds: 50 });
  await server.stop('SIGKILL');
  await balancer.health({ [`${serverAddress(0)}:${PLAIN}`]: false });
  await flood.stop();
}

/** The server of each client, in its own words. */
async function namesOf(clients: UdpClients): Promise<string[]> {
  const names: string[] = [];
  for (const number of CLIENTS) names.push((await clients.ask(number, `${VIP}:${WHO}`, 'who')).join());
  return names;
}

/** Both servers answer, and one of them a question whose answer is 4,000 bytes long. */
async function resolves(client: Namespace): Promise<void> {
  const dig = (...more: string[]) => client.run('dig', `@${VIP}`, '+tries=20', '+timeout=1', '+short', '+ignore', 'TXT', ...more);
  const seen = new Set<string>();
  await waitUntil(async () => seen.add((await dig('who.test')).stdout.trim()).size === 2, { what: 'both servers to be asked' });
  expect(seen).toEqual(new Set(['"server1"', '"server2"']));
  expect((await dig('long.test', '+bufsize=4096', '+notcp')).stdout.trim()).toBe(LONG.map((text) => `"${text}"`).join(' '));
}

/** Four thousand bytes both ways, in fragments, of which none stays in the kernel's memory, and 40 datagrams that the server's kernel sends as one packet. */
async function passesLarge(host: Namespace, balancer: Balancer, clients: UdpClients): Promise<void> {
  const text = 'abcdefgh'.repeat(500);
  for (let i = 0; i < 30; i++) expect(await clients.ask(100, `${VIP}:${WHO}`, text)).toEqual([text]);
  expect(fragmentBytes(host)).toBeLessThan(100_000);
  const frames = async () => (await balancer.stats()).lb4.frames.received;
  const before = await frames();
  const segments = await clients.ask(101, `${VIP}:${WHO}`, 'segments 40 1400', 40);
  expect(segments).toEqual(Array.from({ length: 40 }, (_, i) => `${String(i).padStart(6, '0')} `.padEnd(1400, `${i % 10}`)));
  // Whole, both ways.
  expect((await frames()) - before).toBeLessThan(40);
  expect(await balancer.verdict('dropMalformed')).toBe(0);
}

/** A second of datagrams: some may be lost on a busy machine, and it is iperf3 that says how many. */
async function streams(client: Namespace, iperf: Iperf): Promise<void> {
  const sum = await waitUntil(
    async () => {
      const { stdout } = await iperf.run(client, VIP, '-u', '-b', '40M', '-l', '1400', '-t', '1');
      return (JSON.parse(stdout || '{}') as { end?: { sum?: { packets: number; lost_packets: number } } }).end?.sum;
    },
    { what: 'iperf3 to say what has come' },
  );
  expect(sum.packets).toBeGreaterThan(0);
  expect(sum.lost_packets).toBeLessThan(sum.packets);
}

/** Lines by one socket, which nobody answers, are one connection. */
async function logs(balancer: Balancer, client: Namespace, syslog: Running): Promise<void> {
  const wanted = [...[1, 2, 3, 4, 5].map((i) => `line ${i}`), 'last of them'];
  // A few may be lost on a busy machine: then all are sent once more.
  const isThere = () => wanted.every((text) => syslog.lines.some((line) => line.endsWith(text)));
  for (let tries = 0; !isThere() && tries < 20; tries++) {
    const lines = `for i in 1 2 3 4 5; do echo line $i; done; echo last of them`;
    await client.run('sh', '-c', `(${lines}) | logger --udp --server ${VIP} --port ${SYSLOG} --rfc3164`);
    await waitUntil(isThere, { what: 'the lines', timeout: 1000 }).catch(() => undefined);
  }
  expect(isThere(), syslog.lines.join('\n')).toBe(true);
  await balancer.settled('the log to be counted', ({ frontends }) => (frontends['syslog']?.total_connections ?? 0) >= 1);
}

async function fetchesThroughTunnel(client: Namespace): Promise<void> {
  const curl = `curl -sS --retry 9 --retry-connrefused --max-time 60 http://${INNER}:${HTTP}/content/${SIZE} | sha256sum`;
  expect((await client.run('sh', '-c', curl)).stdout.split(' ')[0]).toBe(contentHash(SIZE));
}
