/**
 * A laboratory for GLB: two balancers that know nothing of each other behind a router that spreads flows over both, and servers with a second chance.
 *
 *     client .2 ── 10.81.0.0/24 ── edge ── 10.80.0.0/24 ── router .1 ── 10.82.0.0/24 ──┬ .8 balancer1, .9 balancer2 (VIP)
 *                                                                                     └ .11 .12 .13 server1–3 (VIP on lo)
 *
 * Servers answer past the balancers. Each of them runs the script that lb4 prints for it. What spreads flows is the router's kernel; its next hops are
 * set by the tests, where a routing daemon would put them by what balancers announce: so a test has them change when it wants, and waits for no protocol.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Finding } from '../../src/doctor/finding.ts';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { Balancer, configuration, LB4, QUICK, SLOW, STATS_PORT, writeConfiguration } from './balancer.ts';
import { cable, Lab, type Namespace } from './lab.ts';
import type { RunResult } from './processes.ts';

export const VIP = '203.0.113.80';
export const CLIENT = '10.81.0.2';
const EDGE = '10.80.0.2';
const BALANCERS = ['10.82.0.8', '10.82.0.9'] as const;
export const SERVERS = ['10.82.0.11', '10.82.0.12', '10.82.0.13'] as const;
const PORTS = { http: 80, echo: 7 } as const;

type State = 'active' | 'draining' | 'inactive' | 'filling';

/** By source and port, so that one client has rows of all servers. */
const BACKEND = `dsr = "gue"
balance = "glb"
hash_fields = ["source", "source_port"]
hash_key = "12345678901234561234567890123456"
seed = "34567890123456783456789012345678"`;

const BY_PORT = `${SLOW}\nhealth_check = "tcp"`;
/** A server must unwrap packets, too. */
export const BY_TUNNEL = `${QUICK}\nhealth_check = ["tcp", "gue"]`;

/** The second balancer has its packets wrapped in the kernel, where this one has a fast path. */
export const BY_KERNEL = fastPathObstacle() === undefined;

/** The file of a balancer, with the last server in that state. */
function text(index: number, last: State, checks = BY_PORT): string {
  const on = (port: number) => ({ servers: SERVERS.map((address) => `${address}:${port}`), backend: `${checks}\n${BACKEND}` });
  const named = Object.entries(PORTS).map(([name, port]) => [name, { listen: `${VIP}:${port}`, ...on(port) }]);
  const ping = { listen: VIP, frontend: 'protocol = "icmp"', ...on(PORTS.http) };
  const more = index === 1 && BY_KERNEL ? '[passthrough]\nfast_path = "tc"' : '';
  const whole = configuration({ frontends: { ...Object.fromEntries(named), ping }, more });
  return whole.replaceAll(/(servers\.s3\]\naddr = .*\n)/g, `$1state = "${last}"\n`);
}

export class TwoTiers extends Lab {
  readonly client = this.namespace('client');
  readonly edge = this.namespace('edge');
  readonly router = this.namespace('router');
  readonly hosts = BALANCERS.map((_, index) => this.namespace(`balancer${index + 1}`)) as [Namespace, Namespace];
  readonly servers = SERVERS.map((_, index) => this.namespace(`server${index + 1}`)) as [Namespace, Namespace, Namespace];
  balancers!: [Balancer, Balancer];

  constructor() {
    super();
    const port = this.bridge('switch');
    cable(this.client, 'eth0', `${CLIENT}/24`, this.edge, 'far', '10.81.0.1/24');
    cable(this.edge, 'near', `${EDGE}/24`, this.router, 'out', '10.80.0.1/24');
    port(this.router, 'in', '10.82.0.1/24');
    for (const [index, host] of this.hosts.entries()) {
      port(host, 'eth0', `${BALANCERS[index]}/24`);
      host.later(`addr add ${VIP}/32 dev lo`);
    }
    for (const [index, server] of this.servers.entries()) port(server, 'eth0', `${SERVERS[index]}/24`);
    this.client.later('route add default via 10.81.0.1');
    this.edge.later('route add default via 10.80.0.1');
    this.router.later(`route add 10.81.0.0/24 via ${EDGE}`);
    for (const inside of [...this.hosts, ...this.servers]) inside.later('route add default via 10.82.0.1');
    for (const forwarding of [this.edge, this.router]) forwarding.sysctl('net.ipv4.ip_forward', '1');
    this.router.sysctl('net.ipv4.fib_multipath_hash_policy', '1');
  }

  /** All servers with their script, and both balancers, with all servers active. */
  async start(): Promise<void> {
    const file = writeConfiguration(this.hosts[0], text(0, 'active'));
    // A first check decides at once: servers serve before a balancer asks them.
    await Promise.all(
      this.servers.map((server, index) => server.program('backend', `server${index + 1}`, 'http=80', 'echo=7').line(/^listening/)),
    );
    const scripts = Promise.all(SERVERS.map((_, index) => this.#prepare(index, file)));
    this.balancers = (await Promise.all(this.hosts.map((host, index) => this.#launch(host, index)))) as [Balancer, Balancer];
    await scripts;
    this.spreadOver(0, 1);
  }

  /** A server's script, printed and installed. */
  async #prepare(index: number, file: string): Promise<void> {
    const printed = await this.hosts[0].run(LB4, 'rules', '--dsr', '--for', SERVERS[index], `--config=${file}`);
    writeFileSync(this.#script(index), printed.stdout);
    const { code, stderr } = await this.script(index, 'install');
    if (code !== 0) throw new Error(`${stderr}${printed.stderr}`);
  }

  async #launch(host: Namespace, index: number): Promise<Balancer> {
    writeFileSync(this.#file(index), text(index, 'active'));
    const running = host.start([LB4, '--dsr', `--config=${this.#file(index)}`]);
    await running.line(/"msg":"ready"/);
    const balancer = new Balancer(host, running, `http://127.0.0.1:${STATS_PORT}/stats`);
    await balancer.health(Object.fromEntries(SERVERS.map((address) => [`${address}:${PORTS.http}`, true])));
    return balancer;
  }

  /** Has one balancer take over that state of the last server, and those checks. */
  async reload(index: 0 | 1, last: State, checks?: string): Promise<void> {
    const done = this.balancers[index].running.nextLine(/"msg":"configuration reloaded"/);
    writeFileSync(`${this.#file(index)}.new`, text(index, last, checks));
    renameSync(`${this.#file(index)}.new`, this.#file(index));
    await done;
  }

  /** The router sends each flow to one of these balancers, by a hash of addresses and ports; errors by their addresses alone. */
  spreadOver(...order: number[]): void {
    for (const [id, index] of order.entries())
      this.router.ip('nexthop', 'replace', 'id', `${id + 1}`, 'via', BALANCERS[index], 'dev', 'in');
    this.router.ip('nexthop', 'replace', 'id', '9', 'group', order.map((_, id) => id + 1).join('/'));
    this.router.ip('route', 'replace', VIP, 'nhid', '9');
  }

  /** The router sends all of them there, as it does any packet. */
  routeTo(gateway: string): void {
    this.router.ip('route', 'replace', VIP, 'via', gateway);
  }

  /** Segments that client and servers have sent a second time so far; and those among them that the other side had already, as it said (RFC 2883). */
  sentAgain(): { segments: number; needlessly: number } {
    const told = [this.client, ...this.servers].map((host) => host.sh('nstat', '-asz', 'TcpRetransSegs', 'TcpExtTCPDSACKRecv'));
    const sum = (name: string) => told.reduce((all, lines) => all + Number(new RegExp(`${name}\\s+(\\d+)`).exec(lines)?.[1]), 0);
    return { segments: sum('TcpRetransSegs'), needlessly: sum('TcpExtTCPDSACKRecv') };
  }

  /** What `lb4 doctor` finds at a balancer. */
  async doctor(index: 0 | 1): Promise<Finding[]> {
    const { stdout } = await this.hosts[index].run(LB4, 'doctor', '--dsr', '--json', `--config=${this.#file(index)}`);
    return (JSON.parse(stdout) as { findings: Finding[] }).findings;
  }

  /** What `lb4 doctor --for` that server finds, at the second balancer or on the server itself: what is not ok, one line each. */
  async lacks(server: string, at: Namespace = this.hosts[1]): Promise<string[]> {
    const { stdout } = await at.run(LB4, 'doctor', '--dsr', '--json', '--for', server, `--config=${this.#file(1)}`);
    const { findings } = JSON.parse(stdout) as { findings: Finding[] };
    return findings.filter(({ level }) => level !== 'ok').map(({ level, check, message }) => `${level} ${check}: ${message}`);
  }

  /** A server's script, as its administrator would run it. */
  script(index: number, action: string): Promise<RunResult> {
    return this.servers[index].run('sh', this.#script(index), action);
  }

  #file(index: number): string {
    return join(this.directory, `balancer${index + 1}.toml`);
  }

  #script(index: number): string {
    return join(this.directory, `server${index + 1}.sh`);
  }
}
