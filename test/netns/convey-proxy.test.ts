/** Convey's defects in proxy mode: lb4 has none of them. */
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { RESET } from '../lab/answers.ts';
import { type Balancer, QUICK, startBalancer } from '../lab/balancer.ts';
import type { EchoReport } from '../lab/client.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import type { Namespace } from '../lab/lab.ts';
import { host, type Running } from '../lab/processes.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { PATIENCE, waitUntil } from '../lab/wait.ts';

/** No server goes down by its checks: what is wrong with it, connections find out. */
const ALWAYS_UP = 'health_check_interval = 1\nhealth_check_fall = 100';
const CLEAN = { code: 0, signal: null };

/** lb4 in proxy mode over every server of the lab, with these lines in each backend. */
async function serve(lab: Topology, backend: string): Promise<Balancer> {
  await lab.startBackends();
  const frontends = Object.entries(lab.settings().frontends).map(([name, frontend]) => [name, { ...frontend, backend }]);
  return startBalancer(lab.balancer, { frontends: Object.fromEntries(frontends) }, { args: ['proxy'] });
}

async function echo(client: Namespace, connections: number): Promise<EchoReport> {
  const running = client.program('client', 'echo', `${connections}`, '10000', `${VIP}:${ECHO}`);
  return JSON.parse(await running.line(/^\{/, 2 * PATIENCE)) as EchoReport;
}

/** The servers that answer, one after the other. Throws when a request fails. */
async function answers(client: Namespace, requests: number): Promise<string[]> {
  const urls = Array.from({ length: requests }, () => `http://${VIP}/`);
  const { code, stdout, stderr } = await client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
  expect(code, stderr).toBe(0);
  return stdout.trim().split('\n');
}

/** Has a server's kernel drop every SYN to `port`, as a firewall would, or a host that is down. */
function silence(server: Namespace, port: number): void {
  const rule = `tcp dport ${port} tcp flags syn / syn,ack drop`;
  server.sh('nft', `table ip silence { chain in { type filter hook input priority 0; ${rule}; }; }`);
}

test('Convey: half-close not passed on by the proxy, from client to server', async () => {
  await using lab = new Topology({ servers: 2 });
  const balancer = await serve(lab, ALWAYS_UP);
  // Each of them sends all, then its FIN; the echo server hangs up only at that FIN, and by then has sent all of it back.
  expect(await echo(lab.client, 20)).toMatchObject({ ok: 20, errors: [] });
  expect(await balancer.stop()).toEqual(CLEAN);
});

test('Convey: half-close not passed on by the proxy, from server to client', async () => {
  await using lab = new Topology({ servers: 1 });
  const server = lab.servers[0].start([
    process.execPath,
    '-e',
    `require('net').createServer({ allowHalfOpen: true }, (socket) => {
       let bytes = 0;
       socket.on('error', () => {}).on('data', (data) => (bytes += data.length)).on('end', () => console.log('got', bytes)).end('bye');
     }).listen(${HTTP}, () => console.log('listening'));`,
  ]);
  await server.line(/^listening/);
  const settings = { frontends: { http: { listen: `${VIP}:${HTTP}`, servers: [`${serverAddress(0)}:${HTTP}`], backend: ALWAYS_UP } } };
  const balancer = await startBalancer(lab.balancer, settings, { args: ['proxy'] });
  const client = lab.client.start([
    process.execPath,
    '-e',
    `const socket = require('net').connect({ host: '${VIP}', port: ${HTTP}, allowHalfOpen: true });
     socket.on('data', (data) => console.log('heard', data.toString())).on('end', () => socket.end(Buffer.alloc(100_000)));`,
  ]);
  expect(await client.line(/^heard/)).toBe('heard bye');
  expect(await server.line(/^got 100000/)).toBe('got 100000');
  expect(await balancer.stop()).toEqual(CLEAN);
});

test('Convey: no connect timeout in the proxy', async () => {
  await using lab = new Topology({ servers: 1 });
  const balancer = await serve(lab, `${ALWAYS_UP}\nconnect_timeout = 0.5`);
  silence(lab.servers[0], HTTP);
  // The kernel's own patience is more than two minutes.
  const { code } = await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`);
  expect(RESET).toContain(code);
  expect((await balancer.stats()).backends['http-out']?.servers[`${serverAddress(0)}:${HTTP}`]).toBe(true);
  expect(await balancer.stop()).toEqual(CLEAN);
});

test('Convey: no retry in the proxy', async () => {
  await using lab = new Topology({ servers: 2 });
  const balancer = await serve(lab, `${ALWAYS_UP}\nconnect_timeout = 0.5`);
  expect(new Set(await answers(lab.client, 10))).toEqual(new Set(['server1', 'server2']));
  // First one server is silent, then the other refuses: no client notices.
  silence(lab.servers[0], HTTP);
  expect(new Set(await answers(lab.client, 6))).toEqual(new Set(['server2']));
  lab.servers[0]?.sh('nft', 'delete table ip silence');
  await lab.killBackend(1);
  expect(new Set(await answers(lab.client, 6))).toEqual(new Set(['server1']));
  const servers = { [`${serverAddress(0)}:${HTTP}`]: true, [`${serverAddress(1)}:${HTTP}`]: true };
  expect((await balancer.stats()).backends['http-out']?.servers).toEqual(servers);
  expect(await balancer.stop()).toEqual(CLEAN);
});

test('Convey: no server available leaks the connection count', async () => {
  await using lab = new Topology({ servers: 2 });
  const balancer = await serve(lab, QUICK);
  await Promise.all([lab.killBackend(0), lab.killBackend(1)]);
  await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: false, [`${serverAddress(1)}:${HTTP}`]: false });
  for (let i = 0; i < 20; i++) expect(RESET).toContain((await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`)).code);
  const { backends, frontends } = await balancer.settled('rest', ({ current_connections }) => current_connections === 0);
  for (const row of [...Object.values(backends), ...Object.values(frontends)]) expect(row.current_connections).toBe(0);
  await lab.startBackend(0);
  await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: true });
  expect(await answers(lab.client, 1)).toEqual(['server1']);
  expect(await balancer.stop()).toEqual(CLEAN);
});

/** A client that says nothing and connects at a line on its standard input. It prints `end` for a FIN, an error's code, or `served`. */
async function silentClient(client: Namespace): Promise<Running> {
  const program = `console.log('loaded'); process.stdin.once('data', () => require('net').connect(${ECHO}, '${VIP}')
    .on('error', ({ code }) => console.log(code)).on('end', () => console.log('end')).on('data', () => console.log('served')))`;
  const running = client.start([process.execPath, '-e', program]);
  await running.line(/^loaded/);
  return running;
}

test('Convey: one accept error ends the listener', async () => {
  await using lab = new Topology({ servers: 2 });
  const balancer = await serve(lab, 'health_check_interval = 3600');
  const held = await holdConnections(lab.client, 10, `${VIP}:${ECHO}`);
  // Without a descriptor accept() fails. libuv then takes the client in by a spare one and hangs up with a FIN; lb4 would send
  // a reset. Or lb4's sweep was first to notice: it says so, and the client waits in the kernel.
  const fails = async () => {
    const client = await silentClient(lab.client);
    const told = balancer.running.nextLine(/no connection can be accepted/).then(() => 'told');
    leaveNoDescriptor(balancer);
    client.write('now');
    const first = await Promise.race([client.line(/^(end|served|E[A-Z]+)$/), told]);
    await client.stop('SIGKILL');
    return first === 'end' || first === 'told';
  };
  await waitUntil(fails, { what: 'an accept to fail' });
  expect(await othersLiveOn(held)).toEqual([]);
  held.end();
  await held.exited;
  // Their descriptors may all be beyond the limit: the lowest that was free may have been one of the statistics'.
  limitDescriptors(balancer, 1024);
  await waitUntil(async () => (await echo(lab.client, 8)).ok === 8, { what: 'eight connections to be served again', every: 100 });
  expect(await balancer.stop()).toEqual(CLEAN);
});

/** From now on lb4 can open a descriptor only in the place of a lower one. */
function leaveNoDescriptor(balancer: Balancer): void {
  const open = new Set(readdirSync(`/proc/${balancer.running.pid}/fd`).map(Number));
  let lowest = 0;
  while (open.has(lowest)) lowest++;
  limitDescriptors(balancer, lowest);
}

function limitDescriptors({ running: { pid } }: Balancer, most: number): void {
  host('prlimit', `--pid=${pid}`, `--nofile=${most}:`);
}
