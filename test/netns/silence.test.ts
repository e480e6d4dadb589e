/** `ready`, every server up, and nothing passes: each cause is told once, in the log, as a metric and by doctor; and so is its end. */
import { expect, test } from 'vitest';
import { type Balancer, configuration, LB4, type Settings, STATS_PORT, startBalancer, writeConfiguration } from '../lab/balancer.ts';
import { VIP as DSR_VIP, DsrTopology } from '../lab/dsr-topology.ts';
import type { Namespace } from '../lab/lab.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { serveUdp, UdpClients } from '../lab/udp.ts';
import { PATIENCE, pause } from '../lab/wait.ts';

const FELL = /"msg":"servers pass their health checks, yet answer none/;
const ANSWERS = /"msg":"a silent server answers again"/;

/** As many connections at once as are no accident, each from a port of its own; none may take longer than a few SYNs. */
async function knock(client: Namespace, to: string, seconds: number): Promise<void> {
  await Promise.all(
    Array.from({ length: 4 }, () => client.run('curl', '-s', '-o', '/dev/null', '--max-time', `${seconds}`, `http://${to}/`)),
  );
}

/** Once more, for as long as nothing is told: those that come in the second in which a server last answered count for nothing. */
async function knockUntil(told: Promise<string>, knocks: () => Promise<unknown>): Promise<string> {
  let isTold = false;
  const done = () => {
    isTold = true;
  };
  told.then(done, done);
  do await knocks();
  while (!isTold);
  return told;
}

async function silent(balancer: Namespace, backend: string): Promise<string> {
  const { stdout } = await balancer.run('curl', '-sS', `http://127.0.0.1:${STATS_PORT}/metrics`);
  return new RegExp(`^lb4_server_silent\\{backend="${backend}",server="s1",protocol="tcp"\\} (\\d)$`, 'm').exec(stdout)?.[1] ?? stdout;
}

const count = ({ running }: Balancer, pattern: RegExp) => running.lines.filter((line) => pattern.test(line)).length;

/** Finds a server that falls silent before its clients do. */
const SHARP = 'health_check_interval = 0.25\nhealth_check_timeout = 0.5\nhealth_check_rise = 1\nhealth_check_fall = 1';
/** A command that cannot fail is the greenest of checks. */
const BLIND = 'health_check = "exec"\nhealth_check_command = ["/bin/true"]\nhealth_check_interval = 0.25';

test.concurrent('passthrough: no way back, strict rp_filter, a firewall; not: refused, slow, idle, or down by its checks', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const [server] = lab.servers as [Namespace];
  const to = (listen: number, port: number, backend = BLIND) => ({
    listen: `${VIP}:${listen}`,
    servers: [`${serverAddress(0)}:${port}`],
    backend,
  });
  const settings: Settings = {
    frontends: { http: to(80, HTTP), checked: to(81, HTTP, SHARP), echo: to(7, ECHO), closed: to(82, 82), idle: to(83, 83) },
  };
  const balancer = await startBalancer(lab.balancer, settings);
  const file = writeConfiguration(lab.balancer, configuration(settings));
  const doctor = async () => (await lab.balancer.run(LB4, 'doctor', `--config=${file}`)).stdout;
  const causes = [
    ['no way back', 'ip route del 10.71.0.0/24', 'ip route add 10.71.0.0/24 via 10.72.0.1'],
    [
      'strict rp_filter at the server',
      'ip link add aside type veth peer name other && ip link set other up && ip link set aside up && ip route replace 10.71.0.0/24 dev aside && sysctl -qw net.ipv4.conf.eth0.rp_filter=1',
      'sysctl -qw net.ipv4.conf.eth0.rp_filter=0 && ip route replace 10.71.0.0/24 via 10.72.0.1 && ip link del aside',
    ],
    [
      'a firewall that lets checks pass',
      'iptables -A OUTPUT -p tcp --sport 80 --dport 33768:61000 -j DROP',
      'iptables -D OUTPUT -p tcp --sport 80 --dport 33768:61000 -j DROP',
    ],
  ] as const;
  for (const [index, [cause, spoil, mend]] of causes.entries()) {
    server.sh('sh', '-c', spoil);
    const fell = balancer.running.nextLine(FELL);
    // The checks of `checked` find the first two; the resets of `closed` pass the firewall of the last.
    const knocks = () => Promise.all([knock(lab.client, VIP, 3), knock(lab.client, `${VIP}:${index < 2 ? 81 : 82}`, 1)]);
    expect(await knockUntil(fell, knocks), cause).toMatch(/"servers":\["http-out \/ s1 \/ 10\.72\.0\.11:80".*see lb4 doctor/);
    expect(await silent(lab.balancer, 'http-out')).toBe('1');
    if (index === 0)
      expect(await doctor()).toMatch(/^fail +silence: http-out \/ s1 \(10\.72\.0\.11:80\) passes its health checks, yet answers nothing/m);
    server.sh('sh', '-c', mend);
    const answers = balancer.running.nextLine(ANSWERS);
    await knockUntil(answers, () => knock(lab.client, VIP, 5));
    expect(await silent(lab.balancer, 'http-out'), cause).toBe('0');
  }
  expect(await doctor()).not.toContain('silence');
  for (const backend of ['echo-out', 'closed-out', 'idle-out']) expect(await silent(lab.balancer, backend)).toBe('0');
  expect(balancer.running.lines.filter((line) => FELL.test(line)).join('\n')).not.toMatch(/checked-out|echo-out|closed-out|idle-out/);
  expect(count(balancer, FELL)).toBe(causes.length);
});

test.concurrent('DSR without the script on the servers: repeated SYNs that no client follows up; with it they answer', async () => {
  await using lab = new DsrTopology();
  await lab.startServers();
  const settings = lab.settings('nat');
  const balancer = await lab.serve(settings);
  const fell = balancer.running.nextLine(FELL);
  expect(await knockUntil(fell, () => knock(lab.client, `${DSR_VIP}:5201`, 4))).toMatch(
    /"servers":\["iperf-out \/ s1 \/ 10\.82\.0\.11:5201"\].*lb4 rules --dsr --for SERVER/,
  );
  expect(await silent(lab.balancer, 'iperf-out')).toBe('1');
  lab.rules(settings, 'install');
  const answers = balancer.running.nextLine(ANSWERS);
  await knockUntil(answers, () => knock(lab.client, `${DSR_VIP}:5201`, 2));
  expect(await silent(lab.balancer, 'iperf-out')).toBe('0');
  expect(count(balancer, FELL)).toBe(1);
});

test.concurrent('UDP: one whose checks are answered and whose clients are not; not syslog, which answers nobody', async () => {
  await using lab = new Topology({ servers: 1 });
  const [server] = lab.servers as [Namespace];
  const [WHO, SYSLOG] = [9000, 514];
  await Promise.all([serveUdp(server, 'server1', WHO), serveUdp(server, 'syslog', SYSLOG)]);
  const over = (port: number, backend: string) => {
    return { listen: `${VIP}:${port}`, servers: [`${serverAddress(0)}:${port}`], frontend: 'protocol = "udp"', backend };
  };
  const asks = 'health_check_send = "who"\nhealth_check_expect = "server"\nhealth_check_interval = 0.25\nhealth_check_rise = 1';
  const frontends = { who: over(WHO, asks), syslog: over(SYSLOG, 'health_check = "none"') };
  const balancer = await startBalancer(lab.balancer, { frontends }, { healthy: false });
  await balancer.health({ [`${serverAddress(0)}:${WHO}`]: true });
  const clients = new UdpClients(lab.client);
  let client = 0;
  const send = async (least: number) => {
    await clients.ask(client++, `${VIP}:${SYSLOG}`, '<13>a line', 0);
    return clients.ask(client++, `${VIP}:${WHO}`, 'who', least);
  };
  expect(await send(1)).toEqual(['server1']);
  // A program may be told of what its own host's netfilter drops.
  const drop = 'table netdev t { chain c { type filter hook egress device "eth0" priority 0; udp dport 33768-61000 drop; }; }';
  server.sh('nft', drop);
  const fell = balancer.running.nextLine(/flows of datagrams or more, of a protocol that is answered otherwise/, 2 * PATIENCE);
  expect(await knockUntil(fell, () => send(0).then(() => pause(50)))).toMatch(/"servers":\["who-out \/ s1 .*see lb4 doctor/);
  server.sh('nft', 'delete table netdev t');
  const answers = balancer.running.nextLine(ANSWERS);
  await knockUntil(answers, () => send(1).then(() => pause(50)));
  // Of the other as many were sent.
  expect(balancer.running.lines.filter((line) => line.includes('flows of datagrams or more'))).toHaveLength(1);
});
