/** UDP by every way that packets take: each driver, direct server return, a takeover, a frontend whose protocol changes. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Balancer, configuration, LB4, type Settings, STATS_PORT } from '../lab/balancer.ts';
import { SERVERS as DSR_SERVERS, VIP as DSR_VIP, type Dsr, DsrTopology } from '../lab/dsr-topology.ts';
import { endToEnd, passthroughBy, wired } from '../lab/end-to-end.ts';
import type { Namespace } from '../lab/lab.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { serveUdp, UdpClients } from '../lab/udp.ts';
import { waitUntil } from '../lab/wait.ts';

const CLIENTS = Array.from({ length: 6 }, (_, i) => i);
const UNCHECKED = 'health_check = "none"\nbalance = "roundrobin"';
const SERVERS = [0, 1].map((i) => `${serverAddress(i)}:${HTTP}`);

/** One frontend, of what is asked. */
function over(listen: string, servers: readonly string[], protocol: string, more: { backend?: string; sections?: string } = {}): Settings {
  const { backend = UNCHECKED, sections = '' } = more;
  return { frontends: { who: { listen, servers, frontend: `protocol = "${protocol}"`, backend } }, more: sections };
}

class Box {
  readonly #host: Namespace;
  readonly #flag: string;
  readonly #file: string;
  balancer!: Balancer;

  constructor(host: Namespace, flag: string) {
    this.#host = host;
    this.#flag = flag;
    this.#file = join(host.lab.directory, 'udp.toml');
  }

  async start(settings: Settings, ...more: string[]): Promise<void> {
    writeFileSync(this.#file, configuration(settings));
    const running = this.#host.start([LB4, this.#flag, `--config=${this.#file}`, ...more]);
    await running.line(/"msg":"ready"/);
    this.balancer = new Balancer(this.#host, running, `http://127.0.0.1:${STATS_PORT}/stats`);
  }

  async reload(settings: Settings): Promise<void> {
    const done = this.balancer.running.nextLine(/"msg":"configuration reloaded"/);
    writeFileSync(this.#file, configuration(settings));
    await done;
  }
}

/** Both servers, by TCP and UDP at one port. */
async function serve(lab: Topology): Promise<void> {
  await Promise.all([lab.startBackends(), ...lab.servers.map((server, i) => serveUdp(server, `server${i + 1}`, HTTP))]);
}

/** The server of each of `numbers`, by the socket that it keeps. */
async function namesOf(clients: UdpClients, to: string, numbers: readonly number[] = CLIENTS): Promise<string[]> {
  const names: string[] = [];
  for (const number of numbers) names.push((await clients.ask(number, to, 'who')).join());
  return names;
}

const pinged = async (client: Namespace, to: string) => (await client.run('ping', '-n', '-q', '-c', '3', '-i', '0.05', '-W', '5', to)).code;

endToEnd((driver) => {
  test('protocol = "all": UDP, TCP and pings of one address reach the servers', async () => {
    await using lab = wired(driver, new Topology({ servers: 2 }));
    await serve(lab);
    const box = new Box(lab.balancer, '--passthrough');
    await box.start(over(`${VIP}:${HTTP}`, SERVERS, 'all', { sections: passthroughBy(driver) }));
    const clients = new UdpClients(lab.client);
    const names = await namesOf(clients, `${VIP}:${HTTP}`);
    expect(new Set(names)).toEqual(new Set(['server1', 'server2']));
    for (let i = 0; i < 4; i++) expect(await namesOf(clients, `${VIP}:${HTTP}`)).toEqual(names);
    const text = 'x'.repeat(1400);
    expect(await clients.ask(0, `${VIP}:${HTTP}`, text)).toEqual([text]);
    expect((await lab.client.run('curl', '-sS', '--max-time', '30', `http://${VIP}/`)).code).toBe(0);
    expect(await pinged(lab.client, VIP)).toBe(0);
    const sessions = (protocol: string) => box.balancer.metric('lb4_frontend_sessions_total', `protocol="${protocol}"`);
    expect([await sessions('udp'), await sessions('tcp'), await sessions('icmp')]).toEqual([CLIENTS.length, 1, 1]);
    // Beyond what TCP and the first two datagrams of each may have been.
    if (driver.isFast) expect(await box.balancer.metric('lb4_fast_path_packets_total')).toBeGreaterThan(30);
    expect(await box.balancer.stop()).toEqual({ code: 0, signal: null });
  });
});

describe.each<[Dsr]>([['nat'], ['l2']])('direct server return, dsr = "%s"', (dsr) => {
  test('answers come back past lb4, from the VIP', async () => {
    await using lab = new DsrTopology();
    const servers = DSR_SERVERS.map((ip) => `${ip}:9000`);
    const settings = over(`${DSR_VIP}:9000`, servers, 'udp', { backend: `health_check = "none"\ndsr = "${dsr}"` });
    lab.rules(settings, 'install');
    // Who listens on all addresses answers from the server's own, not from the VIP that was asked.
    const address = dsr === 'l2' ? DSR_VIP : '0.0.0.0';
    await Promise.all(lab.servers.map((server, i) => serveUdp(server, `server${i + 1}`, 9000, address)));
    const box = new Box(lab.balancer, '--dsr');
    await box.start(settings);
    const clients = new UdpClients(lab.client);
    const names = await namesOf(clients, `${DSR_VIP}:9000`);
    expect(names.filter((name) => !/^server[12]$/.test(name))).toEqual([]);
    expect(await namesOf(clients, `${DSR_VIP}:9000`)).toEqual(names);
    const { who } = (
      await box.balancer.settled('both datagrams of each', ({ frontends }) => frontends['who']?.total_connections === CLIENTS.length)
    ).frontends;
    expect(who?.bytes_rx).toBe(0);
    expect(await box.balancer.stop()).toEqual({ code: 0, signal: null });
  });
});

test('flows and affinity go on over a takeover', async () => {
  await using lab = new Topology({ servers: 2, clients: 2 });
  await serve(lab);
  const settings = over(`${VIP}:${HTTP}`, SERVERS, 'udp', { backend: `${UNCHECKED}\naffinity = 600` });
  const box = new Box(lab.balancer, '--passthrough');
  await box.start(settings);
  const both = lab.clients.map((client) => new UdpClients(client));
  const to = `${VIP}:${HTTP}`;
  const ask = async (numbers: readonly number[]) => {
    const names: string[][] = [];
    for (const clients of both) names.push(await namesOf(clients, to, numbers));
    return names;
  };
  const before = await ask(CLIENTS);
  // Each client's address has one server, and they take turns.
  expect(before.map((names) => new Set(names).size)).toEqual([1, 1]);
  expect(before[0]?.[0]).not.toBe(before[1]?.[0]);
  const last = box.balancer;
  await box.start(settings, '--takeover');
  expect(await last.running.exited).toEqual({ code: 0, signal: null });
  expect(await ask(CLIENTS)).toEqual(before);
  const others = CLIENTS.map((number) => number + 100);
  expect(await ask(others)).toEqual(before);
  expect(await box.balancer.metric('lb4_frontend_sessions_total')).toBe(4 * CLIENTS.length);
  expect(await box.balancer.stop()).toEqual({ code: 0, signal: null });
});

test('a protocol that joins, and one that leaves, under traffic', async () => {
  await using lab = new Topology({ servers: 2 });
  await serve(lab);
  const to = `${VIP}:${HTTP}`;
  const of = (protocol: string) => over(to, SERVERS, protocol);
  const box = new Box(lab.balancer, '--passthrough');
  await box.start(of('udp'));
  const clients = new UdpClients(lab.client);
  const names = await namesOf(clients, to);
  const curl = () => lab.client.run('curl', '-sS', '-o', '/dev/null', '--max-time', '10', `http://${VIP}/`);
  expect((await curl()).code).not.toBe(0);
  for (const protocol of ['all', 'udp', 'all']) {
    const asking = namesOf(clients, to);
    await box.reload(of(protocol));
    expect(await asking).toEqual(names);
    expect(await namesOf(clients, to)).toEqual(names);
    if (protocol === 'all') await waitUntil(async () => (await curl()).code === 0, { what: 'TCP to be served, too' });
  }
  await box.reload(of('tcp'));
  expect((await curl()).code).toBe(0);
  // Who has a flow keeps it until it drains; nobody gets one any more.
  expect(await namesOf(clients, to)).toEqual(names);
  const before = await box.balancer.metric('lb4_frontend_sessions_total', 'protocol="udp"');
  expect(await clients.ask(500, to, 'who', 0)).toEqual([]);
  expect(await box.balancer.metric('lb4_frontend_sessions_total', 'protocol="udp"')).toBe(before);
  expect(await box.balancer.stop()).toEqual({ code: 0, signal: null });
});
