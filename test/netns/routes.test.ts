/**
 * The ways to a server against real routing: two links to one server, two VIPs, and everything that a route may change to.
 *
 *                       ┌──────────┐ left 10.72.1.0/24  ┌────────┐
 *     client ── front ──┤ balancer ├────────────────────┤ server │ 10.72.9.1, and 10.99.9.9
 *              VIP, TWO └──────────┘ right 10.72.2.0/24 └────────┘
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { answeredBy } from '../lab/answers.ts';
import { Balancer, launch, STATS_PORT } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import { cable, Lab, type Namespace } from '../lab/lab.ts';
import type { Running } from '../lab/processes.ts';
import { waitUntil } from '../lab/wait.ts';

/** Whoever is down refuses: a check that is slow on a busy machine speaks against nobody. */
const CHECKS = 'health_check_interval = 0.25\nhealth_check_timeout = 3\nhealth_check_rise = 1\nhealth_check_fall = 1';

const VIP = '10.71.0.1';
const TWO = '10.71.0.2';
const SERVER = '10.72.9.1';
/** `via inet6`. */
const SIX = 'fd00:2::2';
type Link = 'left' | 'right';

let lab: Lab;
let client: Namespace;
let balancer: Namespace;
let server: Namespace;
let lb4: Balancer;
let hold: Running;

const CONFIG = `[frontends.echo]
listen_addr = "${VIP}:7"
backend = "echo"
[frontends.http]
listen_addr = "${VIP}:80"
backend = "http"
[frontends.two]
listen_addr = "${TWO}:80"
backend = "http"
[backends.echo]
${CHECKS}
[backends.echo.servers]
s = { addr = "${SERVER}:7" }
[backends.http]
${CHECKS}
[backends.http.servers]
s = { addr = "${SERVER}:80" }
[stats]
port = "${STATS_PORT}"
`;

beforeAll(async () => {
  lab = new Lab();
  [client, balancer, server] = [lab.namespace('client'), lab.namespace('balancer'), lab.namespace('server')];
  for (const host of [balancer, server]) for (const of of ['all', 'default']) host.sysctl(`net.ipv4.conf.${of}.rp_filter`, '0');
  cable(balancer, 'front', `${VIP}/24`, client, 'eth0', '10.71.0.101/24');
  balancer.ip('addr', 'add', `${TWO}/32`, 'dev', 'front');
  for (const [i, link] of ['left', 'right'].entries()) {
    cable(balancer, link, `10.72.${i + 1}.1/24`, server, link, `10.72.${i + 1}.2/24`);
    server.sysctl(`net.ipv4.conf.${link}.arp_notify`, '1');
    // Clients' connections have these ports, health checks others.
    server.sh('iptables', '-t', 'raw', '-A', 'PREROUTING', '-i', link, '-p', 'tcp', '--sport', '33768:61000');
  }
  balancer.ip('-6', 'addr', 'add', 'fd00:2::1/64', 'dev', 'right', 'nodad');
  server.ip('-6', 'addr', 'add', `${SIX}/64`, 'dev', 'right', 'nodad');
  for (const address of [SERVER, '10.99.9.9']) server.ip('addr', 'add', `${address}/32`, 'dev', 'lo');
  server.ip('route', 'add', '10.71.0.0/24', 'via', '10.72.1.1');
  balancer.ip('route', 'add', SERVER, 'via', '10.72.1.2');
  await server.program('backend', 'server', 'http=80', 'echo=7').line(/^listening/);
  const running = launch(balancer, CONFIG);
  await running.line(/"msg":"ready"/);
  lb4 = new Balancer(balancer, running, `http://127.0.0.1:${STATS_PORT}/stats`);
  await lb4.health({ [`${SERVER}:7`]: true, [`${SERVER}:80`]: true });
  hold = await holdConnections(client, 3, `${VIP}:7`);
});

afterAll(() => lab[Symbol.asyncDispose]());

/** How many packets of clients have come to the server by each link since it was last asked. */
function arrived(): Record<Link, number> {
  const counters = server.sh('iptables', '-t', 'raw', '-Z', '-L', 'PREROUTING', '-nvx');
  const of = (link: Link) => Number(new RegExp(`^\\s*(\\d+) .*\\s${link}\\s+\\*.*spts:33768`, 'm').exec(counters)?.[1]);
  return { left: of('left'), right: of('right') };
}

/** Waits until all that clients send comes by this link, then sees that the old connections go on and new ones are made. */
async function passes(link: Link, vip = VIP): Promise<void> {
  const other = link === 'left' ? 'right' : 'left';
  if (vip === VIP) {
    arrived();
    const isOnly = () => {
      const now = arrived();
      return now[link] > 3 && now[other] === 0;
    };
    await waitUntil(isOnly, { what: `all packets to come by ${link}`, every: 100 });
    expect(await othersLiveOn(hold)).toEqual([]);
  }
  const before = lb4.running.lines.length;
  const { code } = await client.run('curl', '-sS', '--max-time', '60', `http://${vip}/`);
  expect({ code, said: code === 0 ? [] : lb4.running.lines.slice(before) }).toEqual({ code: 0, said: [] });
}

interface Situation {
  readonly what: string;
  readonly link: Link;
  readonly change: () => unknown;
  readonly after?: () => unknown;
}

const ip = (line: string) => balancer.ip(...line.split(' '));
const route = (way: string) => ip(`route replace ${SERVER} ${way}`);

// Each is the one before it, changed, while connections are kept busy.
const situations: readonly Situation[] = [
  { what: 'a gateway', link: 'left', change: () => {} },
  { what: 'a route that is replaced', link: 'right', change: () => route('via 10.72.2.2') },
  { what: 'a gateway on the link that no subnet has (onlink)', link: 'left', change: () => route('via 10.99.9.9 dev left onlink') },
  { what: 'a gateway of another family (via inet6)', link: 'right', change: () => route(`via inet6 ${SIX} dev right`) },
  {
    what: 'several next hops, of which one is dead',
    link: 'left',
    change: () => {
      route('nexthop via 10.72.1.2 dev left nexthop via 10.72.2.2 dev right');
      ip('link set right down');
    },
    after: () => {
      ip('link set right up');
      ip('-6 addr replace fd00:2::1/64 dev right nodad');
    },
  },
  {
    what: 'a nexthop object',
    link: 'right',
    change: () => {
      ip('nexthop add id 7 via 10.72.2.2 dev right');
      route('nhid 7');
    },
  },
  {
    what: 'a nexthop object that is replaced under its route',
    link: 'left',
    change: () => ip('nexthop replace id 7 via 10.72.1.2 dev left'),
  },
  {
    what: 'a rule by source address, with a table of its own',
    link: 'right',
    change: () => {
      ip(`route add ${SERVER} via 10.72.2.2 table 101`);
      ip(`rule add from ${VIP} lookup 101`);
    },
  },
  { what: 'that rule gone', link: 'left', change: () => ip(`rule del from ${VIP} lookup 101`) },
  {
    what: 'a rule by protocol',
    link: 'right',
    change: () => ip('rule add ipproto tcp lookup 101'),
    after: () => ip('rule del ipproto tcp lookup 101'),
  },
  {
    what: 'a gateway whose MAC address changes',
    link: 'left',
    // The server tells of it (arp_notify).
    change: () => server.ip('link', 'set', 'left', 'address', '02:00:00:00:0a:0a'),
  },
  {
    what: 'a permanent neighbour',
    link: 'right',
    change: () => {
      route('via 10.72.2.9');
      ip(`neigh replace 10.72.2.9 lladdr ${server.mac('right')} nud permanent dev right`);
    },
  },
  {
    what: 'a noarp neighbour',
    link: 'right',
    change: () => ip(`neigh replace 10.72.2.9 lladdr ${server.mac('right')} nud noarp dev right`),
  },
  {
    what: 'the more specific of two routes gone',
    link: 'left',
    change: () => {
      ip('route add 10.72.9.0/24 via 10.72.1.2');
      ip(`route del ${SERVER}`);
    },
    after: () => route('via 10.72.1.2'),
  },
];

describe('connections go on, and new ones are made, by what the kernel says now', () => {
  for (const { what, link, change, after } of situations)
    test(`${what}: by ${link}`, async () => {
      change();
      await passes(link);
      after?.();
    });

  test("a rule by the server's port: http goes by right, while the echo of the same server goes on by left", async () => {
    ip('rule add ipproto tcp dport 80 lookup 101');
    // What went by left is lost: nobody but the rule's own traffic may come there.
    server.sh('iptables', '-t', 'raw', '-I', 'PREROUTING', '-i', 'left', '-p', 'tcp', '--dport', '80', '-j', 'DROP');
    await waitUntil(async () => (await client.run('curl', '-sS', '--max-time', '1', `http://${VIP}/`)).code === 0, {
      what: 'http to go by right',
    });
    await waitUntil(() => arrived().left > 3, { what: 'the echo to come by left', every: 100 });
    expect(await othersLiveOn(hold)).toEqual([]);
    server.sh('iptables', '-t', 'raw', '-D', 'PREROUTING', '-i', 'left', '-p', 'tcp', '--dport', '80', '-j', 'DROP');
    ip('rule del ipproto tcp dport 80 lookup 101');
    await passes('left');
  });

  test('two VIPs over the same servers, each with a link of its own by a rule', async () => {
    ip(`rule add from ${TWO} lookup 101`);
    server.sh('iptables', '-t', 'raw', '-I', 'PREROUTING', '-i', 'left', '-s', TWO, '-j', 'DROP');
    await waitUntil(async () => (await client.run('curl', '-sS', '--max-time', '1', `http://${TWO}/`)).code === 0, {
      what: 'the second VIP to go by right',
    });
    await passes('left');
    await passes('right', TWO);
  });
});

test('a rule that throws away what one VIP sends, while checks take the way of another, is told once, counted, and so is its end', async () => {
  const deadEnds = async () => {
    const { stdout } = await balancer.run('curl', '-sS', `http://127.0.0.1:${STATS_PORT}/metrics`);
    return /^lb4_server_dead_ends\{backend="http",server="s",protocol="tcp"\} (\d)$/m.exec(stdout)?.[1];
  };
  const told = lb4.running.nextLine(/no way from this host to a server/);
  ip(`route replace blackhole ${SERVER} table 101`);
  expect(await told).toMatch(new RegExp(`"ways":\\["${TWO} -> ${SERVER}"\\].*\\(blackhole\\): ip route get`));
  expect(await deadEnds()).toBe('1');
  await lb4.health({ [`${SERVER}:80`]: true });
  const back = lb4.running.nextLine(/the way from this host to a server is there again/);
  ip(`route replace ${SERVER} via 10.72.2.2 table 101`);
  await back;
  expect(await deadEnds()).toBe('0');
  await passes('right', TWO);
});

describe('a server that this host has no way to gets no traffic, and the log says that it is the route', () => {
  test.each([
    ['blackhole', /"server":"http \/ s[^"]*","reason":"blackhole: a route of this host/],
    ['prohibit', /"reason":"prohibited by a route/],
    ['unreachable', /"reason":"no route to host/],
    ['throw', /"reason":"network unreachable: this host has no route/],
  ])('%s', async (kind, line) => {
    const down = lb4.running.nextLine(line);
    route('via 10.72.1.2');
    ip('route del 10.72.9.0/24');
    // At once: a check between two commands would find no route at all, and say so.
    ip(`route replace ${kind} ${SERVER}`);
    expect(await down).toContain('server down');
    await lb4.health({ [`${SERVER}:80`]: false, [`${SERVER}:7`]: false });
    ip(`route del ${kind} ${SERVER}`);
    ip('route add 10.72.9.0/24 via 10.72.1.2');
    route('via 10.72.1.2');
    await lb4.health({ [`${SERVER}:80`]: true, [`${SERVER}:7`]: true });
    await answeredBy(client, VIP, 'server');
    await passes('left');
  });
});

test('a VIP that is gone takes no server down, nor hides that one dies: it is told once, and once when it is back', async () => {
  const before = lb4.running.lines.length;
  const said = (message: string) => lb4.running.lines.slice(before).filter((line) => line.includes(`"msg":"${message}"`));
  const told = lb4.running.nextLine(/could not be made/);
  const left = lb4.running.nextLine(/"msg":"an address has left this host"/);
  ip('addr add 10.71.0.9/24 dev front');
  balancer.sysctl('net.ipv4.conf.front.promote_secondaries', '1');
  ip(`addr del ${VIP}/24 dev front`);
  expect(await told).toContain(`${VIP} is no address of this host`);
  await left;
  const back = lb4.running.nextLine(/checks can be made again/);
  // The other VIP's servers are checked from there.
  const down = lb4.running.nextLine(/"msg":"server down"/);
  const refuse = ['INPUT', '-p', 'tcp', '--dport', '80', '-j', 'REJECT', '--reject-with', 'tcp-reset'];
  server.sh('iptables', '-I', ...refuse);
  expect(await down).toContain('http / s');
  server.sh('iptables', '-D', ...refuse);
  ip(`addr add ${VIP}/24 dev front`);
  await back;
  await lb4.settled('checks to pass', ({ backends }) =>
    Object.values(backends).every(({ servers }) => Object.values(servers).every(Boolean)),
  );
  expect([said('health check could not be made').length, said('server down').length]).toEqual([1, 1]);
  await passes('left');
});
