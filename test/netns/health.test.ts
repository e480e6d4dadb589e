/** Servers that fall ill and get well, in every mode: checks of each kind, signs in passing traffic, servers that flap. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { answeredBy } from '../lab/answers.ts';
import { QUICK, startBalancer } from '../lab/balancer.ts';
import { VIP as DSR_VIP, DsrTopology, SERVERS as L2_SERVERS } from '../lab/dsr-topology.ts';
import type { Namespace } from '../lab/lab.ts';
import { Live, MODES } from '../lab/live.ts';
import type { Running } from '../lab/processes.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { serveUdp } from '../lab/udp.ts';
import { pause, waitUntil } from '../lab/wait.ts';

/** Checks so rare that what is noticed in the time of a test was noticed otherwise. */
const RARE = 'health_check_interval = 600\nhealth_check_timeout = 2';
const HTTP_CHECK = `${QUICK}\nhealth_check = "http"\nhealth_check_path = "/health"\nhealth_check_host = "www.example.com"`;

/** Has the server's program answer health checks with `status`; tells who asked last, as "HOST-HEADER PEER". */
async function answerHealth(server: Namespace, status: number): Promise<string> {
  const { code, stdout } = await server.run('curl', '-sS', '-X', 'PUT', `http://127.0.0.1:${HTTP}/health/${status}`);
  expect(code).toBe(0);
  return stdout;
}

/** `from`, at a port that is kept for health checks or, without `kept`, at any. */
function expectAsked(asked: string, host: string, from: string, kept: boolean): void {
  const [, header, address, port] = /^(\S+) (?:::ffff:)?([\d.]+):(\d+)$/.exec(asked) ?? [];
  expect([header, address]).toEqual([host, from]);
  if (!kept) return;
  expect(Number(port)).toBeGreaterThanOrEqual(32_768);
  expect(Number(port)).toBeLessThanOrEqual(33_767);
}

/** What the log says about the comings and goings of a server (1, 2 …) of the backend of frontend `http`. */
function changes({ balancer }: Live, server: number): { msg: string; reason: string; suspected?: string }[] {
  const lines = balancer.running.lines.filter((line) => line.includes(`"http-out / server${server} / `) && line.includes('"msg":"server '));
  return lines.map((line) => JSON.parse(line));
}

/** Waits for the first check of both servers, and that it passes. Before it they count as up. */
async function checked({ balancer }: Live): Promise<void> {
  for (const server of [1, 2]) await balancer.running.line(new RegExp(`"http-out / server${server} / .*"msg":"server up"`));
}

const endpoint = (live: Live, server: number): string => `${live.addresses[server - 1]}:${HTTP}`;

describe.each(MODES)('%s', (mode) => {
  test('an http check: the status decides, the Host header is as configured, and it comes from where it should', async () => {
    await using live = await Live.start(mode, { frontends: ['http'], checks: HTTP_CHECK });
    const [server] = live.lab.servers as [Namespace];
    await checked(live);
    // docs/modes.md: the packet modes check from the frontend's address, the proxy from wherever the kernel says.
    const asked = await answerHealth(server, 500);
    expectAsked(asked, 'www.example.com', mode === 'proxy' ? '10.72.0.1' : live.vip, mode !== 'proxy');
    await live.balancer.health({ [endpoint(live, 1)]: false });
    await answeredBy(live.lab.client, live.vip, 'server2');
    await answerHealth(server, 200);
    await live.balancer.health({ [endpoint(live, 1)]: true });
    await answeredBy(live.lab.client, live.vip, 'server1', 'server2');
    expect(changes(live, 1)).toEqual([
      expect.objectContaining({ msg: 'server up', reason: expect.stringMatching(/^HTTP 200 in /) }),
      expect.objectContaining({ msg: 'server down', reason: 'HTTP 500' }),
      expect.objectContaining({ msg: 'server up again', reason: expect.stringMatching(/^HTTP 200 in /) }),
    ]);
    expect(changes(live, 2)).toHaveLength(1);
    expect(await live.metric('lb4_server_check_up_down_total', 'server="server1"')).toBe(1);
  });

  test('an exec check: a script decides for each server, and its last line is the reason; a tcp check in its place; both', async () => {
    await using live = await Live.start(mode, { frontends: ['http'], checks: QUICK });
    const script = join(live.lab.directory, 'check.sh');
    const ill = join(live.lab.directory, 'ill');
    writeFileSync(
      script,
      `#!/bin/sh\n[ "$1" = -q ] || exit 9\n[ -e "${ill}-$LB4_BACKEND-$LB4_SERVER" ] || exit 0\necho "$LB4_SERVER_ADDR:$LB4_SERVER_PORT is ill" >&2\nexit 3\n`,
      { mode: 0o755 },
    );
    await live.reload({ frontends: ['http'], checks: `${QUICK}\nhealth_check = "exec"\nhealth_check_command = ["${script}", "-q"]` });
    await live.balancer.health({ [endpoint(live, 1)]: true, [endpoint(live, 2)]: true });
    writeFileSync(`${ill}-http-out-server2`, '');
    await live.balancer.health({ [endpoint(live, 2)]: false });
    await answeredBy(live.lab.client, live.vip, 'server1');
    rmSync(`${ill}-http-out-server2`);
    await live.balancer.health({ [endpoint(live, 2)]: true });
    await answeredBy(live.lab.client, live.vip, 'server1', 'server2');
    expect(changes(live, 2).slice(-2)).toEqual([
      expect.objectContaining({ msg: 'server down', reason: `exit 3: ${endpoint(live, 2)} is ill` }),
      expect.objectContaining({ msg: 'server up again', reason: 'exit 0' }),
    ]);
    // The kind of check changes under way: the script's opinion does not count any more, the port's does.
    await live.reload({ frontends: ['http'], checks: QUICK });
    writeFileSync(`${ill}-http-out-server2`, '');
    await live.lab.killBackend(0);
    await live.balancer.health({ [endpoint(live, 1)]: false, [endpoint(live, 2)]: true });
    await answeredBy(live.lab.client, live.vip, 'server2');
    expect(changes(live, 1).slice(-1)).toEqual([
      expect.objectContaining({ msg: 'server down', reason: expect.stringMatching(/^connection (refused|reset)$/) }),
    ]);
    expect(changes(live, 2)).toHaveLength(3);
    // All of a list must pass: the port is open, and the script has its objection still.
    const both = `${QUICK}\nhealth_check = ["tcp", "exec"]\nhealth_check_command = ["${script}", "-q"]`;
    await live.reload({ frontends: ['http'], checks: both });
    await live.balancer.health({ [endpoint(live, 1)]: false, [endpoint(live, 2)]: false });
    rmSync(`${ill}-http-out-server2`);
    await live.balancer.health({ [endpoint(live, 1)]: false, [endpoint(live, 2)]: true });
    expect(changes(live, 2).slice(-2)).toEqual([
      expect.objectContaining({ msg: 'server down', reason: `exec: exit 3: ${endpoint(live, 2)} is ill` }),
      expect.objectContaining({ msg: 'server up again', reason: expect.stringMatching(/^tcp: connected in [\d.]+ ms; exec: exit 0$/) }),
    ]);
  });

  test('a server that flaps is held down, and used nevertheless when it is the only one', async () => {
    await using live = await Live.start(mode, { frontends: ['http'], checks: HTTP_CHECK });
    const [server1, server2] = live.lab.servers as [Namespace, Namespace];
    await checked(live);
    const damped = () => live.metric('lb4_server_damped', 'server="server1"');
    const held = () => changes(live, 1).filter(({ msg }) => msg.startsWith('server is held down: it flapped '));
    // Four do, where they follow each other fast (health-damping.test.ts); on a busy machine it takes some more.
    let falls = 0;
    while (held().length === 0) {
      expect(await damped()).toBe(0);
      await answerHealth(server1, 500);
      await live.balancer.health({ [endpoint(live, 1)]: false });
      falls++;
      await answerHealth(server1, 200);
      const isUp = async () => (await live.balancer.stats()).backends['http-out']?.servers[endpoint(live, 1)];
      await waitUntil(async () => held().length > 0 || (await isUp()), { what: 'server1 to be up, or held down', every: 50 });
    }
    expect(held()).toEqual([expect.objectContaining({ msg: expect.stringMatching(/it flapped \d+ times; until about /) })]);
    expect(await damped()).toBe(1);
    // Several checks pass, and it stays out.
    await pause(800);
    expect(await live.metric('lb4_server_status', 'server="server1"')).toBe(0);
    await answeredBy(live.lab.client, live.vip, 'server2');
    await answerHealth(server2, 500);
    await live.balancer.health({ [endpoint(live, 2)]: false });
    await answeredBy(live.lab.client, live.vip, 'server1');
    await answerHealth(server2, 200);
    await live.balancer.health({ [endpoint(live, 2)]: true });
    // Out again, unless on a busy machine its time is over by now.
    const told = () => changes(live, 1).filter(({ msg }) => /^server (up|down|up again)$/.test(msg)).length;
    await answeredBy(live.lab.client, live.vip, 'server2').catch((error: unknown) => {
      if (told() === 2 * falls) throw error;
    });
    // One line a change: up, each time down, up again after all but the last; and one about the damping.
    expect(told() - 2 * falls).toBeLessThanOrEqual(1);
    expect(held()).toHaveLength(1);
  });
});

describe('passing traffic tells long before the next check would', () => {
  /** A few connections a second, until the server is down. */
  async function noticed(live: Live): Promise<void> {
    const traffic: Running = live.lab.client.program('client', 'load', '40', `http://${live.vip}/`);
    await live.balancer.health({ [endpoint(live, 1)]: false });
    traffic.end();
  }

  async function start(mode: (typeof MODES)[number]): Promise<Live> {
    const live = await Live.start(mode, { frontends: ['http'], checks: RARE, backend: 'connect_timeout = 0.5' });
    await checked(live);
    return live;
  }

  // Not in DSR: there a server's resets do not pass lb4.
  test.each([
    ['proxy', /^connect ECONNREFUSED /],
    ['passthrough', /^the server reset a handshake$/],
  ] as const)('%s: a server whose program dies', async (mode, sign) => {
    await using live = await start(mode);
    await live.lab.killBackend(0);
    // Nobody comes, nobody notices.
    await pause(1_500);
    expect((await live.balancer.stats()).backends['http-out']?.servers[endpoint(live, 1)]).toBe(true);
    await noticed(live);
    await answeredBy(live.lab.client, live.vip, 'server2');
    expect(changes(live, 1).slice(1)).toEqual([
      expect.objectContaining({ msg: 'server down', reason: 'connection refused', suspected: expect.stringMatching(sign) }),
    ]);
  });

  // Two look at the same silence, the flows and, once a second, the counters: whichever saw it last before the check is named.
  const unanswered = /^(a SYN was retransmitted|connections get no answer)$/;
  test.each([
    ['proxy', /^no answer in 500 ms$/],
    ['passthrough', unanswered],
    ['dsr', unanswered],
  ] as const)('%s: a server that falls silent', async (mode, sign) => {
    await using live = await start(mode);
    const drop = 'add table ip silence; add chain ip silence in { type filter hook input priority 0; policy drop; }';
    live.lab.servers[0]?.sh('nft', drop);
    await noticed(live);
    await answeredBy(live.lab.client, live.vip, 'server2');
    expect(changes(live, 1).slice(1)).toEqual([
      expect.objectContaining({ msg: 'server down', reason: 'no answer in 2000 ms', suspected: expect.stringMatching(sign) }),
    ]);
  });

  test('passthrough: a server whose link goes down', async () => {
    await using live = await start('passthrough');
    live.lab.servers[0]?.ip('link', 'set', 'eth0', 'down');
    await noticed(live);
    await answeredBy(live.lab.client, live.vip, 'server2');
  });
});

test('DSR on one link: checks come from an address of lb4 that the servers do not have themselves', async () => {
  await using lab = new DsrTopology();
  await lab.startServers();
  const settings = lab.settings('l2');
  lab.rules(settings, 'install');
  const { http } = settings.frontends as { http: { listen: string; servers: string[] } };
  const balancer = await startBalancer(
    lab.balancer,
    { frontends: { http: { ...http, backend: `${HTTP_CHECK}\ndsr = "l2"` } } },
    { args: ['--dsr'] },
  );
  const [server] = lab.servers as [Namespace];
  expectAsked(await answerHealth(server, 503), 'www.example.com', '10.82.0.9', false);
  await balancer.health({ [`${L2_SERVERS[0]}:${HTTP}`]: false });
  await answeredBy(lab.client, DSR_VIP, 'server2');
  await answerHealth(server, 200);
  await balancer.health({ [`${L2_SERVERS[0]}:${HTTP}`]: true });
  await answeredBy(lab.client, DSR_VIP, 'server1', 'server2');
});

test('UDP ports of one server that nobody has stay down, though its kernel says so once a second alone; a silent one beside them is up', async () => {
  await using lab = new Topology({ servers: 1 });
  const [server] = lab.servers as [Namespace];
  await serveUdp(server, 'syslog', 514);
  const ports = [514, 9001, 9002, 9003];
  const frontend = (port: number) => ({ listen: `${VIP}:${port}`, servers: [`${serverAddress(0)}:${port}`], frontend: 'protocol = "udp"' });
  const frontends = Object.fromEntries(ports.map((port) => [`port${port}`, frontend(port)]));
  const balancer = await startBalancer(lab.balancer, { frontends }, { healthy: false });
  const said = () =>
    balancer.running.lines.flatMap((line) => /"port(\d+)-out.*"msg":"(server (?:up|down).*)"/.exec(line)?.slice(1).join(' ') ?? []);
  // Each has had its turn, and then all of them once more.
  await waitUntil(() => said().length === ports.length, { what: 'a word about each' });
  const failed = async () => {
    const { servers } = (await balancer.stats()).lb4;
    return ports.slice(1).every((port) => Number(Object.values(servers[`port${port}-out`] ?? {})[0]?.check_failures) > 1);
  };
  await waitUntil(failed, { what: 'more checks of each' });
  expect(said().toSorted()).toEqual(ports.map((port) => `${port} server ${port === 514 ? 'up' : 'down'}`).toSorted());
});
