/**
 * nat = "destination": servers see their clients, whose answers come back through lb4. Beside it what is none of lb4's: direct visitors of
 * the same ports, and what servers open themselves. Then the script that gives a server the way back.
 */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { configuration, LB4, type Settings, SLOW, startBalancer, UNTALKATIVE, writeConfiguration } from '../lab/balancer.ts';
import { contentHash } from '../lab/content.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import type { Namespace } from '../lab/lab.ts';
import { PYTHON } from '../lab/processes.ts';
import { clientAddress, ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { fragmentBytes, NOTHING, traces } from '../lab/traces.ts';
import { serveUdp, UdpClients } from '../lab/udp.ts';
import { ACK, RawHost, RST } from '../lab/wire.ts';

const BYTES = 1_000_000;
const WHO = 9000;
/** The VIP and its service, over both servers. */
const through = (port: number, checks: string) => ({
  listen: `${VIP}:${port}`,
  servers: [0, 1].map((index) => `${serverAddress(index)}:${port}`),
  backend: `${checks}\nnat = "destination"`,
});
const settings = (checks: string, more = ''): Settings => ({
  frontends: { http: through(HTTP, checks), echo: through(ECHO, checks) },
  more,
});

/** The addresses that a server has connections to its echo port from, but for those of the balancer's checks. */
async function peers(server: Namespace): Promise<string[]> {
  const { stdout } = await server.run('ss', '-Htn', 'state', 'established', `sport = :${ECHO}`);
  const all = [...stdout.matchAll(/([\d.]+):\d+\s*$/gm)].map(([, peer = '']) => peer);
  return [...new Set(all)].filter((peer) => peer !== '10.72.0.1').sort();
}

/** Of what an HTTP server sends. */
async function hashFrom(host: Namespace, address: string): Promise<string> {
  const { stdout } = await host.run('sh', '-c', `curl -sS --max-time 40 http://${address}/content/${BYTES} | sha256sum`);
  return stdout.split(' ')[0] ?? '';
}

test('servers see clients, by two workers; direct visitors, connections of servers and a hairpin beside them', async () => {
  await using lab = new Topology({ clients: 2, servers: 2 });
  const { balancer: host, clients, servers } = lab;
  const [one, two] = clients as [Namespace, Namespace];
  host.sysctl('net.ipv4.ip_forward', '1');
  for (const client of clients) client.ip('route', 'add', '10.72.0.0/24', 'via', VIP);
  await lab.startBackends();
  const visited = two.program('backend', 'client2', `http=${HTTP}`);
  await visited.line(/^listening/);
  const workers = '[passthrough]\nworkers = 2';
  const balancer = await startBalancer(host, settings(SLOW, workers));

  const held = [
    await holdConnections(one, 20, `${VIP}:${ECHO}`),
    await holdConnections(two, 20, `${VIP}:${ECHO}`),
    await holdConnections(two, 5, `${serverAddress(0)}:${ECHO}`),
  ];
  for (const server of servers) expect(await peers(server)).toEqual([clientAddress(0), clientAddress(1)]);
  // A server that calls its VIP: the other one answers it, or it itself.
  const hashes = await Promise.all([
    hashFrom(one, VIP),
    hashFrom(two, VIP),
    hashFrom(one, serverAddress(1)),
    hashFrom(two, serverAddress(0)),
    ...servers.flatMap((server) => [hashFrom(server, VIP), hashFrom(server, clientAddress(1))]),
  ]);
  expect(hashes).toEqual(hashes.map(() => contentHash(BYTES)));
  for (const connections of held) expect(await othersLiveOn(connections)).toEqual([]);
  const { lb4 } = await balancer.stats();
  expect(lb4.verdicts).toMatchObject({ resetUnknown: 0, resetClash: 0, dropNotOurs: 0 });
  expect(lb4.verdicts['passed']).toBeGreaterThan(5);
  expect(Math.min(...lb4.workers.map(({ frames }) => frames.received))).toBeGreaterThan(20);

  // Forged by one client for the other: as either server's, of which one has the connection.
  const raw = await RawHost.attach(two, 'eth0', '10.71.0.200', { namespace: host, device: 'front' });
  const { stdout } = await one.run('ss', '-Htn', 'state', 'established', `dport = :${ECHO}`);
  const port = Number(/:(\d+)\s/.exec(stdout)?.[1]);
  const forged = { destination: clientAddress(0), sourcePort: ECHO, destinationPort: port, flags: RST | ACK };
  for (const index of [0, 1]) raw.send({ source: serverAddress(index), ...forged });
  await balancer.settled('what is forged to be dropped', ({ lb4: { verdicts } }) => verdicts['dropOtherLink'] === 2);
  for (const connections of held) expect(await othersLiveOn(connections)).toEqual([]);

  await balancer.stop('SIGKILL');
  const next = await startBalancer(host, settings(SLOW, workers));
  for (const connections of held) expect(await othersLiveOn(connections)).toEqual([]);
  expect((await next.stop()).code).toBe(0);
  expect(traces(host)).toEqual(NOTHING);
});

test('of UDP in fragments nothing stays with the client or here; broadcasts of a server’s port reach this host', async () => {
  await using lab = new Topology({ servers: 1 });
  const { balancer: host, client, servers } = lab;
  const here = await serveUdp(host, 'here', WHO + 1);
  const send = `import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.bind(('', ${WHO})); s.sendto(b'<13>all', ('10.72.0.255', ${WHO + 1}))`;
  const who = {
    listen: `${VIP}:${WHO}`,
    servers: [`${serverAddress(0)}:${WHO}`],
    frontend: 'protocol = "udp"',
    backend: 'health_check = "none"\nnat = "destination"',
  };
  const balancer = await startBalancer(host, { frontends: { who } }, { healthy: false });
  servers[0].sh(PYTHON, '-c', send);
  await here.line(/^here got <13>all$/);

  await serveUdp(servers[0], 'server1', WHO);
  const clients = new UdpClients(client);
  const text = 'abcdefgh'.repeat(500);
  for (let i = 0; i < 30; i++) expect(await clients.ask(0, `${VIP}:${WHO}`, text)).toEqual([text]);
  expect([host, client].map(fragmentBytes).filter((bytes) => bytes > 50_000)).toEqual([]);
  expect((await balancer.stop()).code).toBe(0);
  expect(traces(host).rules).toEqual([]);
});

test('the script gives a server its way back, thrice alike, and takes it away', async () => {
  await using lab = new Topology({ servers: 2 });
  const { balancer: host, client, servers } = lab;
  // Their way to clients leads to somebody else, who is not there.
  for (const server of servers) {
    server.ip('route', 'del', '10.71.0.0/24');
    server.ip('route', 'add', 'default', 'via', '10.72.0.200');
  }
  await lab.startBackends();
  const toml = writeConfiguration(host, configuration(settings(UNTALKATIVE)));
  const scripts = servers.map((_, index) => {
    const path = join(lab.directory, `server${index}.sh`);
    host.sh('sh', '-c', `${LB4} rules --config=${toml} --for ${serverAddress(index)} >${path}`);
    return path;
  });
  const both = (...words: string[]) => Promise.all(servers.map((server, index) => server.run('sh', scripts[index] ?? '', ...words)));
  const rules = () => servers.map((server) => server.ip('-4', 'rule', 'show') + server.sh('sh', '-c', 'ip route show table all'));
  const before = rules();
  expect((await both('status')).map(({ code }) => code)).toEqual([3, 3]);
  expect((await both('install', '--dry-run')).map(({ code }) => code)).toEqual([0, 0]);
  expect(rules()).toEqual(before);
  await both('install');
  const installed = rules();
  for (let i = 0; i < 2; i++)
    expect(await both('install')).toMatchObject([
      { code: 0, stderr: '' },
      { code: 0, stderr: '' },
    ]);
  expect(rules()).toEqual(installed);
  expect((await both('status')).map(({ code, stdout }) => [code, stdout])).toEqual(
    [0, 1].map((index) => {
      const port = (one: number) => `present from ${serverAddress(index)} ipproto tcp sport ${one} lookup 4164\n`;
      return [0, `${port(HTTP)}${port(ECHO)}present route default via 10.72.0.1\n`];
    }),
  );

  const balancer = await startBalancer(host, settings(UNTALKATIVE));
  expect(await hashFrom(client, VIP)).toBe(contentHash(BYTES));
  expect((await balancer.stop()).code).toBe(0);
  expect((await both('remove')).map(({ code }) => code)).toEqual([0, 0]);
  expect(rules()).toEqual(before);
});
