/**
 * A laboratory for DSR, where answers take another way than requests:
 *
 *     client .2 ── 10.81.0.0/24 ── .1 router .1 ── 10.82.0.0/24 ──┬ .9 balancer, .10 VIP
 *                                                                 ├ .11 server1
 *                                                                 └ .12 server2
 *
 * The router brings the client's packets to the balancer and takes the servers' answers to the client. `bridged`: the link is a
 * bridge of the balancer's own, as on a host of containers, and the router and the servers are its ports; the servers' eth0 are bridges,
 * too, as on a host of virtual machines.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Balancer, configuration, LB4, QUICK, type Settings, startBalancer, UNTALKATIVE, writeConfiguration } from './balancer.ts';
import { Iperf } from './iperf.ts';
import { bridgeIn, cable, Lab, type Namespace } from './lab.ts';
import type { Running, RunResult } from './processes.ts';

export const VIP = '10.82.0.10';
const BALANCER = '10.82.0.9/24';
export const CLIENT = '10.81.0.2';
export const SERVERS = ['10.82.0.11', '10.82.0.12'] as const;

export type Dsr = 'nat' | 'l2' | 'gue' | 'ipip';

const scripts = new Map<string, string>();

export class DsrTopology extends Lab {
  readonly client: Namespace;
  readonly router: Namespace;
  readonly balancer: Namespace;
  readonly servers: Namespace[];
  /** backend.ts in each server, while it runs. */
  readonly backends: (Running | undefined)[] = [];
  #iperf: Iperf | undefined;

  constructor({ bridged = false }: { bridged?: boolean } = {}) {
    super();
    this.client = this.namespace('client');
    this.router = this.namespace('router');
    this.balancer = this.namespace('balancer');
    const port = bridged ? bridgeIn(this.balancer, 'eth0', BALANCER) : this.bridge('switch');
    cable(this.client, 'eth0', `${CLIENT}/24`, this.router, 'out', '10.81.0.1/24');
    this.client.later('route add default via 10.81.0.1');
    port(this.router, 'in', '10.82.0.1/24');
    if (!bridged) port(this.balancer, 'eth0', BALANCER);
    this.balancer.later(`addr add ${VIP}/24 dev eth0`);
    this.balancer.later('route add default via 10.82.0.1');
    this.servers = SERVERS.map((address, index) => {
      const server = this.namespace(`server${index + 1}`);
      if (bridged) {
        bridgeIn(server, 'eth0', `${address}/24`);
        port(server, 'nic');
        server.later('link set nic master eth0');
      } else port(server, 'eth0', `${address}/24`);
      server.later('route add default via 10.82.0.1');
      return server;
    });
    this.router.sysctl('net.ipv4.ip_forward', '1');
  }

  /** Frontends `http` (80) and `echo` (7) of the VIP over both servers, `iperf` (5201), whose connections belong together, over one. */
  settings(dsr: Dsr): Settings {
    const frontend = (port: number, servers: readonly string[], checks: string = QUICK) => ({
      listen: `${VIP}:${port}`,
      servers: servers.map((address) => `${address}:${port}`),
      backend: `${checks}\ndsr = "${dsr}"`,
    });
    const iperf = frontend(Iperf.port, SERVERS.slice(0, 1), UNTALKATIVE);
    return { frontends: { http: frontend(80, SERVERS), echo: frontend(7, SERVERS), iperf } };
  }

  /** HTTP and echo on every server, iperf3 on the first one. */
  async startServers(): Promise<void> {
    const backends = this.servers.map((_, index) => this.startBackend(index));
    [this.#iperf] = await Promise.all([Iperf.start(this.servers[0]), ...backends]);
  }

  /** A run of iperf3 through lb4. */
  iperf(...options: string[]): Promise<RunResult> {
    if (this.#iperf === undefined) throw new Error('iperf3 has not been started');
    return this.#iperf.run(this.client, VIP, ...options);
  }

  async startBackend(index: number): Promise<void> {
    const running = this.servers[index].program('backend', `server${index + 1}`, 'http=80', 'echo=7');
    this.backends[index] = running;
    await running.line(/^listening/);
  }

  async killBackend(index: number): Promise<void> {
    await this.backends[index]?.stop('SIGKILL');
    this.backends[index] = undefined;
  }

  /** Runs each server's script, as its administrator would: `action` is install, remove or status. */
  rules(settings: Settings, action: string, ...options: string[]): void {
    for (const [index, server] of this.servers.entries()) {
      const file = join(this.directory, `server${index + 1}.sh`);
      writeFileSync(file, this.#script(settings, SERVERS[index], options));
      server.sh('sh', file, action);
    }
  }

  /** Printed once for the same settings: starting Node.js is what takes time. */
  #script(settings: Settings, server: string, options: readonly string[]): string {
    const text = configuration(settings);
    const key = JSON.stringify([text, server, options]);
    const printed =
      scripts.get(key) ??
      this.balancer.sh(LB4, 'rules', '--dsr', '--for', server, `--config=${writeConfiguration(this.balancer, text)}`, ...options);
    scripts.set(key, printed);
    return printed;
  }

  /** lb4 in DSR mode, with every server up. */
  serve(settings: Settings): Promise<Balancer> {
    return startBalancer(this.balancer, settings, { args: ['--dsr'] });
  }
}
