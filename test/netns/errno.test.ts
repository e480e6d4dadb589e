/** What a check makes of every errno that a real kernel gives it: routes, firewalls, addresses and ports that are not there. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CheckResult, Target } from '../../src/health/check.ts';
import { configuration, launch } from '../lab/balancer.ts';
import { cable, Lab, type Namespace } from '../lab/lab.ts';
import type { Running } from '../lab/processes.ts';

const SOURCE = '10.75.0.1';
/** Behind the other host, which answers for it; routes to it change. */
const SERVER = '10.76.0.1';

let lab: Lab;
let here: Namespace;
let checks: Running;

beforeAll(async () => {
  lab = new Lab();
  [here] = [lab.namespace('here')];
  const there = lab.namespace('there');
  cable(here, 'eth0', '10.75.0.254/24', there, 'eth0', '10.75.0.2/24');
  here.ip('addr', 'add', `${SOURCE}/32`, 'dev', 'eth0');
  there.ip('addr', 'add', `${SERVER}/32`, 'dev', 'lo');
  await there.program('backend', 'there', 'http=80', 'echo=7').line(/^listening/);
  checks = here.program('check');
  await checks.line(/^ready/);
});

afterAll(() => lab[Symbol.asyncDispose]());

async function check(more: Partial<Target> = {}): Promise<CheckResult> {
  const answer = checks.nextLine(/^\{/);
  checks.write(JSON.stringify({ id: 's', address: SERVER, port: 80, intervalMs: 1000, timeoutMs: 3000, sourceAddress: SOURCE, ...more }));
  return JSON.parse(await answer) as CheckResult;
}

const ROUTE = `route add ${SERVER} via 10.75.0.2`;
const ip = (line: string) => ['ip', ...line.split(' ')];
const reject = (how: string) => `-p tcp -d ${SERVER} --dport 80 -j REJECT --reject-with ${how}`.split(' ');

interface Situation {
  readonly what: string;
  /** Commands, and what takes them back. */
  readonly set: readonly (readonly string[])[];
  readonly unset: readonly (readonly string[])[];
  readonly outcome: CheckResult['outcome'];
  readonly reason: RegExp;
  readonly target?: Partial<Target>;
}

const withRoute = (more: Omit<Situation, 'set' | 'unset'> & { set?: readonly string[][]; unset?: readonly string[][] }): Situation => ({
  ...more,
  set: [ip(ROUTE), ...(more.set ?? [])],
  unset: [...(more.unset ?? []), ip(`route del ${SERVER}`)],
});
const kind = (route: string, outcome: 'fail', reason: RegExp): Situation => {
  return {
    what: `a ${route} route`,
    set: [ip(`route add ${route} ${SERVER}`)],
    unset: [ip(`route del ${route} ${SERVER}`)],
    outcome,
    reason,
  };
};
const rejected = (how: string, reason: RegExp): Situation =>
  withRoute({
    what: `a local firewall that rejects with ${how}`,
    set: [['iptables', '-A', 'OUTPUT', ...reject(how)]],
    unset: [['iptables', '-D', 'OUTPUT', ...reject(how)]],
    outcome: 'fail',
    reason,
  });
const gone = (nonlocal: '0' | '1'): Situation =>
  withRoute({
    what: `a source that is no address of this host any more, ip_nonlocal_bind=${nonlocal}`,
    set: [ip(`addr del ${SOURCE}/32 dev eth0`), ['sysctl', '-qw', `net.ipv4.ip_nonlocal_bind=${nonlocal}`]],
    unset: [['sysctl', '-qw', 'net.ipv4.ip_nonlocal_bind=0'], ip(`addr add ${SOURCE}/32 dev eth0`)],
    outcome: 'unknown',
    reason: /^10\.75\.0\.1 is no address of this host$/,
  });

const situations: readonly Situation[] = [
  withRoute({ what: 'a server', outcome: 'pass', reason: /^connected/ }),
  withRoute({ what: 'a closed port', target: { port: 81 }, outcome: 'fail', reason: /^connection refused$/ }),
  { what: 'no route', set: [], unset: [], outcome: 'fail', reason: /^network unreachable: this host has no route/ },
  {
    what: 'no route, and no source that is asked for',
    set: [],
    unset: [],
    target: { sourceAddress: undefined },
    outcome: 'fail',
    reason: /^network unreachable/,
  },
  kind('blackhole', 'fail', /^blackhole: a route of this host/),
  kind('prohibit', 'fail', /^prohibited by a route/),
  kind('unreachable', 'fail', /^no route to host/),
  kind('throw', 'fail', /^network unreachable/),
  {
    what: 'a server that answers no ARP',
    set: [],
    unset: [],
    target: { address: '10.75.0.77', timeoutMs: 8000 },
    outcome: 'fail',
    reason: /^no route to host: it answers no ARP/,
  },
  rejected('icmp-net-unreachable', /^network unreachable/),
  rejected('icmp-host-unreachable', /^no route to host/),
  rejected('icmp-port-unreachable', /^connection refused$/),
  rejected('icmp-proto-unreachable', /^its host says that it has no TCP/),
  rejected('icmp-net-prohibited', /^network unreachable/),
  rejected('icmp-host-prohibited', /^no route to host/),
  rejected('icmp-admin-prohibited', /^no route to host/),
  rejected('tcp-reset', /^connection refused$/),
  withRoute({
    what: 'a local firewall that drops',
    set: [['iptables', '-A', 'OUTPUT', '-p', 'tcp', '-d', SERVER, '-j', 'DROP']],
    unset: [['iptables', '-D', 'OUTPUT', '-p', 'tcp', '-d', SERVER, '-j', 'DROP']],
    target: { timeoutMs: 200 },
    outcome: 'fail',
    reason: /^no answer in 200 ms$/,
  }),
  gone('0'),
  gone('1'),
  {
    what: 'a source and a route that are both gone: the source comes first',
    set: [ip(`addr del ${SOURCE}/32 dev eth0`)],
    unset: [ip(`addr add ${SOURCE}/32 dev eth0`)],
    outcome: 'unknown',
    reason: /is no address of this host$/,
  },
  withRoute({
    what: 'the link down',
    set: [ip('link set eth0 down')],
    unset: [ip('link set eth0 up'), ip(ROUTE)],
    target: { sourceAddress: undefined },
    outcome: 'fail',
    reason: /^network unreachable/,
  }),
];

test.each(situations)('$what: $outcome', async ({ set, unset, target, outcome, reason }) => {
  for (const command of set) here.sh(...command);
  try {
    expect(await check(target)).toEqual({ outcome, reason: expect.stringMatching(reason) as string });
  } finally {
    for (const command of unset) here.sh(...command);
  }
});

test("the proxy's connects go by the same table: a blackhole on the way to a server brings its check forward, and clients go to another", async () => {
  here.sh(...ip(ROUTE));
  const servers = [`${SERVER}:80`, '10.75.0.2:80'];
  const frontends = { web: { listen: '127.0.0.1:8080', servers, backend: 'health_check_interval = 30' } };
  const lb4 = launch(here, configuration({ frontends }), 'proxy');
  for (const server of servers) await lb4.line(new RegExp(`"server":"[^"]*${server}".*"msg":"server up"`));
  const down = lb4.nextLine(/"msg":"server down"/);
  here.sh(...ip(`route replace blackhole ${SERVER}`));
  for (let i = 0; i < 4; i++) expect((await here.run('curl', '-sS', '--max-time', '60', 'http://127.0.0.1:8080/')).code).toBe(0);
  expect(await down).toMatch(/"reason":"blackhole: a route of this host.*"suspected":"connect EINVAL.*blackhole/);
  await lb4.stop('SIGTERM');
  here.sh(...ip(`route del blackhole ${SERVER}`));
});
