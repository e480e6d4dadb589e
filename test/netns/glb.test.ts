/**
 * GLB end to end: two balancers with GLB's table behind ECMP, and three servers that give a second chance. Connections survive that a balancer has never
 * heard of them, and that two balancers have two tables: shown by streams of which every byte is looked at.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { contentHash } from '../lab/content.ts';
import { type Counted, countedBy } from '../lab/gue.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import type { Namespace } from '../lab/lab.ts';
import type { Running } from '../lab/processes.ts';
import { Transfers } from '../lab/transfers.ts';
import { BY_KERNEL, BY_TUNNEL, CLIENT, SERVERS, TwoTiers, VIP } from '../lab/two-tiers.ts';
import { hashOfUpload } from '../lab/upload.ts';
import { PATIENCE, waitUntil } from '../lab/wait.ts';

const HTTP = `http://${VIP}`;
/** Of each kind: half of the streams at a time. */
const STREAMS = 100;
const UPLOAD = 2_000_000;
/** Bytes of a download, 1,200 every 100 ms: six seconds, in which a server drains at both balancers, and three, in which one dies. */
const [LONG, SHORT] = [72_000, 36_000];
/** Milliseconds between two pings of a connection. */
const PING = 100;

const lab = new TwoTiers();
const told: string[] = [];

beforeAll(() => lab.start(), 4 * PATIENCE);

afterAll(async () => {
  process.stdout.write(`segments sent again: ${told.join(', ')}\n`);
  await lab[Symbol.asyncDispose]();
});

/** Does it, and notes what was sent again meanwhile: where a balancer gets no processor senders do so by themselves, and so it is for people. */
async function noted(what: string, deed: () => Promise<void>): Promise<void> {
  const before = lab.sentAgain();
  await deed();
  const { segments, needlessly } = lab.sentAgain();
  told.push(`${segments - before.segments} ${what} (${needlessly - before.needlessly} needlessly)`);
}

/** Over all servers. */
function counted(name: keyof Counted): number {
  return lab.servers.reduce((sum, server) => sum + (countedBy(server)[name] ?? 0), 0);
}

/** Who answers new connections. */
async function answering(): Promise<string[]> {
  const first = lab.client.ports(40);
  const urls = Array.from({ length: 40 }, () => `${HTTP}/`);
  const options = ['-sS', '--local-port', `${first}-${first + 39}`, '--max-time', '60', '-H', 'Connection: close'];
  const { code, stdout, stderr } = await lab.client.run('curl', ...options, ...urls);
  expect(code, stderr).toBe(0);
  return [...new Set(stdout.trim().split('\n'))].sort();
}

const upload = () => hashOfUpload(lab.client, `${HTTP}/`, UPLOAD);

/** Packets that each balancer has sent back as too big. */
const tooBig = () => Promise.all(lab.balancers.map((balancer) => balancer.verdict('tooBig')));

/** So many connections that are kept busy, and as many downloads that have just begun. */
async function streams(bytes: number): Promise<[Running, Transfers]> {
  const held = await holdConnections(lab.client, STREAMS, `${VIP}:7`, PING);
  return [held, await Transfers.start(lab.client, STREAMS, `${HTTP}/paced/${bytes}/100`)];
}

/** Ends them, and waits until these servers have no connection any more. */
async function end(held: Running, servers: readonly Namespace[] = lab.servers): Promise<void> {
  held.end();
  const isOver = () => servers.every((server) => server.sh('ss', '-Htn', 'state', 'connected', 'exclude', 'time-wait', 'src', VIP) === '');
  await waitUntil(isOver, { what: 'connections to end', every: 50 });
}

/** All of them are answered three times more. */
async function liveOn(held: Running): Promise<void> {
  expect(await othersLiveOn(held)).toEqual([]);
}

/** What lb4 has dropped or answered with a reset so far: frames that its ring had no room for are the machine's. */
async function refused(): Promise<string[]> {
  const all = await Promise.all(lab.balancers.map((balancer) => balancer.stats()));
  const verdicts = all.flatMap(({ lb4 }) => Object.entries(lb4.verdicts));
  return verdicts.flatMap(([name, count]) => (/^(drop|reset)/.test(name) && count > 0 ? [`${count} ${name}`] : []));
}

test('pings of the VIP come back, by either balancer', async () => {
  for (const order of [[0], [1], [0, 1]]) {
    lab.spreadOver(...order);
    expect((await lab.client.run('ping', '-n', '-c', '1', '-W', '30', VIP)).stdout).toContain(' 1 received');
  }
});

test('uploads of 1500 bytes a packet: with the clamp they fit, without it lb4 tells their sender, and status and doctor theirs', async () => {
  expect(await upload()).toBe(contentHash(UPLOAD));
  expect(await tooBig()).toEqual([0, 0]);
  for (const server of lab.servers) server.sh('nft', 'delete', 'table', 'inet', 'lb4_tunnel');
  expect((await lab.script(0, 'status')).stdout).toContain(`missing mss ${VIP} 1420`);
  expect(await upload()).toBe(contentHash(UPLOAD));
  const [atFirst = 0, atSecond = 0] = await tooBig();
  expect(atFirst + atSecond).toBeGreaterThan(0);
  lab.servers[2].ip('link', 'set', 'eth0', 'mtu', '1400');
  const findings = await lab.doctor(atFirst > 0 ? 0 : 1);
  lab.servers[2].ip('link', 'set', 'eth0', 'mtu', '1500');
  const told = findings.filter(({ check }) => check === 'path MTU' || check === 'MSS').map(({ level, message }) => `${level} ${message}`);
  expect(told).toEqual([
    ...SERVERS.slice(0, 2).map((server) => `ok packets of 1500 bytes reach server ${server}, so clients' packets of 1460 bytes do`),
    expect.stringMatching(`^fail server ${SERVERS[2]} answers small pings, and none of 1500 bytes`),
    expect.stringMatching(/^warn lb4 has sent back \d+ packets that do not fit a tunnel/),
  ]);
  const installed = await Promise.all(SERVERS.map((_, index) => lab.script(index, 'install')));
  for (const one of installed) expect(one).toMatchObject({ code: 0, stderr: '' });
  lab.client.ip('route', 'flush', 'cache');
});

test('a server goes and comes back, by the files of one balancer after the other: no stream notices', {
  timeout: 4 * PATIENCE,
}, async () => {
  lab.routeTo(SERVERS[0]);
  const forwarded = await holdConnections(lab.client, STREAMS, `${VIP}:7`, PING);
  await noted('by the kernel alone', () => liveOn(forwarded));
  await end(forwarded);
  lab.spreadOver(0, 1);
  const [leaving, transfers] = await streams(LONG);
  const atLast = (await report(leaving)).filter(({ server }) => server === 'server3').length;
  expect(atLast).toBeGreaterThan(STREAMS / 10);
  const nobodys = counted('lastResort');
  await noted('by lb4', () => liveOn(leaving));
  lab.spreadOver(1, 0);
  await noted('as ECMP turned round', () => liveOn(leaving));
  for (const index of [0, 1] as const) {
    const before = counted('alternate');
    await lab.reload(index, 'draining');
    await noted(`as it drained at balancer ${index + 1}`, () => liveOn(leaving));
    expect(counted('alternate')).toBeGreaterThan(before + atLast / 2);
  }
  await transfers.arrive(LONG);
  expect(await answering()).toEqual(['server1', 'server2']);
  const staying = await holdConnections(lab.client, STREAMS, `${VIP}:7`, PING);
  expect(counted('lastResort')).toBe(nobodys);
  await end(leaving, lab.servers.slice(2));
  const before = counted('lastResort');
  for (const state of ['inactive', 'filling', 'active'] as const) {
    for (const index of [0, 1] as const) {
      await lab.reload(index, state);
      await noted(`as it became ${state} at balancer ${index + 1}`, () => liveOn(staying));
    }
    expect(await answering()).toEqual(state === 'inactive' ? ['server1', 'server2'] : ['server1', 'server2', 'server3']);
  }
  expect(counted('lastResort')).toBe(before);
  if (BY_KERNEL) expect(await lab.balancers[1].metric('lb4_fast_path_packets_total')).toBeGreaterThan(STREAMS);
  await end(staying);
  expect(await refused()).toEqual([]);
});

test('a link beyond takes less, and a balancer is killed, in mid-stream', { timeout: 4 * PATIENCE }, async () => {
  const before = counted('lastResort');
  const [held, transfers] = await streams(SHORT);
  lab.edge.ip('route', 'replace', '10.81.0.0/24', 'dev', 'far', 'mtu', '1000');
  const isKnown = () => lab.servers.every((server) => server.ip('route', 'get', CLIENT).includes('mtu 1000'));
  await waitUntil(isKnown, { what: 'all servers to know the path MTU', every: 50 });
  await noted('as a balancer died', async () => {
    await lab.balancers[0].stop('SIGKILL');
    lab.spreadOver(1);
    await liveOn(held);
  });
  await transfers.arrive(SHORT);
  expect(await answering()).toEqual(['server1', 'server2', 'server3']);
  expect(counted('lastResort')).toBe(before);
  told.push(`${(await lab.balancers[1].stats()).lb4.frames.dropped} frames were too many for balancer2`);
});

test('a server that lacks something: a check by the tunnel and lb4 doctor say so, and what to do', { timeout: 2 * PATIENCE }, async () => {
  const [, balancer] = lab.balancers;
  const [, , last] = SERVERS;
  const [, , server] = lab.servers;
  const states = (isUp: boolean) => Object.fromEntries(SERVERS.map((one) => [`${one}:80`, one !== last || isUp]));
  const ELSEWHERE = 'warn script: strict rp_filter and ARP show on the server alone';
  await lab.reload(1, 'active', BY_TUNNEL);
  server.sh('nft', 'delete', 'table', 'inet', 'lb4_tunnel');
  const lacksClamp = await Promise.all([lab.lacks(last), lab.lacks(last, server)]);
  const tooLarge = `fail MSS: ${VIP}:80 at server ${last} lets clients send 1460 bytes a segment, and the tunnel has room for 1420: `;
  const uploads = 'clients send more than fits the tunnel: uploads hang where ICMP is filtered';
  expect(lacksClamp).toEqual([[expect.stringContaining(tooLarge), ELSEWHERE], [`fail script: missing mss ${VIP} 1420: ${uploads}`]]);
  expect(server.sh('ss', '-Htn', 'state', 'syn-recv')).toBe('');
  server.ip('address', 'del', `${VIP}/32`, 'dev', 'lo');
  expect(await lab.lacks(last)).toEqual([expect.stringContaining(`fail VIP: server ${last} answers no pings of ${VIP}`), ELSEWHERE]);
  const down = balancer.running.nextLine(/"msg":"server down"/);
  expect(await lab.script(2, 'remove')).toMatchObject({ code: 0 });
  const why = `gue: it unwraps nothing at UDP port 19523: is the script of \\"lb4 rules --dsr --for ${last}\\" installed there`;
  expect(await down).toContain(why);
  // "Port unreachable" comes once a second, and the checks have it.
  expect(await lab.lacks(last)).toEqual([
    expect.stringContaining(`fail tunnel: server ${last} answers no ping that goes to it by its tunnel`),
    ELSEWHERE,
  ]);
  await balancer.health(states(false));
  // Its rows have swapped: no new connection comes to it.
  expect(await answering()).toEqual(['server1', 'server2']);
  expect(await lab.script(2, 'install')).toMatchObject({ code: 0 });
  await balancer.health(states(true));
  expect(await lab.lacks(last)).toEqual([ELSEWHERE]);
});
