/**
 * The usual laboratory:
 *
 *     client1 .101 ┐                front ┌──────────┐ back                  ┌ .11 server1
 *     client2 .102 ┼── 10.71.0.0/24 ── .1 │ balancer │ .1 ── 10.72.0.0/24 ───┼ .12 server2
 *                                     VIP └──────────┘                       └ .13 server3
 *
 * One host on a side hangs on a cable, several on a switch. The balancer does not forward by itself. Servers reach the VIP
 * through 10.72.0.1.
 *
 * `bridged`: front and back are bridges of the balancer's own, as on a host of containers, and every host is a port of one.
 */
import { type Balancer, type Settings, startBalancer } from './balancer.ts';
import { bridgeIn, cable, Lab, type Namespace } from './lab.ts';
import type { Running } from './processes.ts';

export const VIP = '10.71.0.1';
export const HTTP = 80;
export const ECHO = 7;

export class Topology extends Lab {
  readonly balancer: Namespace;
  readonly clients: Namespace[];
  readonly servers: Namespace[];
  /** backend.ts in each server, while it runs. */
  readonly backends: (Running | undefined)[] = [];

  constructor({ clients = 1, servers = 3, bridged = false }: { clients?: number; servers?: number; bridged?: boolean } = {}) {
    super();
    this.balancer = this.namespace('balancer');
    this.clients = hosts(this, 'client', clients);
    this.servers = hosts(this, 'server', servers);
    const join = bridged ? enslave : attach;
    join(this, this.clients, this.balancer, 'front', `${VIP}/24`, (index) => `${clientAddress(index)}/24`);
    join(this, this.servers, this.balancer, 'back', '10.72.0.1/24', (index) => `${serverAddress(index)}/24`);
    for (const server of this.servers) server.later('route add 10.71.0.0/24 via 10.72.0.1');
    this.balancer.sysctl('net.ipv4.ip_forward', '0');
  }

  get client(): Namespace {
    return this.clients[0];
  }

  /** Starts the HTTP and echo server in every server namespace. */
  async startBackends(): Promise<void> {
    await Promise.all(this.servers.map((_, index) => this.startBackend(index)));
  }

  async startBackend(index: number): Promise<void> {
    const running = this.servers[index].program('backend', `server${index + 1}`, `http=${HTTP}`, `echo=${ECHO}`);
    this.backends[index] = running;
    await running.line(/^listening/);
  }

  async killBackend(index: number): Promise<void> {
    await this.backends[index]?.stop('SIGKILL');
    this.backends[index] = undefined;
  }

  /** Frontends `http` (VIP:80) and `echo` (VIP:7) over all the servers. */
  settings(more: Partial<Settings> = {}): Settings {
    const over = (port: number) => this.servers.map((_, index) => `${serverAddress(index)}:${port}`);
    return {
      frontends: {
        http: { listen: `${VIP}:${HTTP}`, servers: over(HTTP) },
        echo: { listen: `${VIP}:${ECHO}`, servers: over(ECHO) },
      },
      ...more,
    };
  }

  /** Backends and lb4, all up. */
  async serve(more: Partial<Settings> = {}): Promise<Balancer> {
    await this.startBackends();
    return startBalancer(this.balancer, this.settings(more));
  }
}

export function clientAddress(index: number): string {
  return `10.71.0.${101 + index}`;
}

export function serverAddress(index: number): string {
  return `10.72.0.${11 + index}`;
}

function hosts(lab: Lab, label: string, count: number): Namespace[] {
  return Array.from({ length: count }, (_, index) => lab.namespace(`${label}${index + 1}`));
}

function attach(
  lab: Lab,
  group: readonly Namespace[],
  balancer: Namespace,
  device: string,
  address: string,
  addressOf: (index: number) => string,
): void {
  const [only] = group;
  if (only !== undefined && group.length === 1) {
    cable(balancer, device, address, only, 'eth0', addressOf(0));
    return;
  }
  const port = lab.bridge(`${device}-switch`);
  port(balancer, device, address);
  for (const [index, host] of group.entries()) port(host, 'eth0', addressOf(index));
}

/** The same, by a bridge `device` of the balancer itself. */
function enslave(...[, group, balancer, device, address, addressOf]: Parameters<typeof attach>): void {
  const port = bridgeIn(balancer, device, address);
  for (const [index, host] of group.entries()) port(host, 'eth0', addressOf(index));
}
