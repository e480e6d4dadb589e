/**
 * A laboratory for what a router does with the packets that pass it: links of several kinds around one balancer, where either the
 * kernel's own NAT or lb4 carries five frontends of one VIP to one server each.
 *
 *     client .101, raw .200 ── 10.71.0.0/24 ─────────── .1 VIP ┌──────────┐ .1 ── 10.72.0.0/24 ─────────── server .11, raw .50
 *     thin   .101, raw .200 ── 10.73.0.0/24, MTU 1000 ────── .1 │ balancer │ .1 ── 10.74.0.0/24, MTU 1000 ── narrow .11, raw .50
 *                                                               └──────────┘ .1 ── 10.75.0.0/24, tun ─────── beyond .11
 *                                                                            .1 ── 10.76.0.0/24, MTU 576 ── (tiny) raw .50
 *
 * Only the balancer's own ends are narrow; what is sent to it may be larger. A raw host is the test's own hand (wire.ts).
 */
import { join } from 'node:path';
import { type Balancer, LARGE_RING, startBalancer } from './balancer.ts';
import { cable, Lab, type Namespace, ROOT } from './lab.ts';
import { PYTHON } from './processes.ts';
import { ACK, type Packet, RawHost, SYN } from './wire.ts';

export type Forwarder = 'kernel NAT' | 'lb4';

export const VIP = '10.71.0.1';

/** The VIP's port → the server behind it. */
export const FRONTENDS = {
  server: { port: 80, address: '10.72.0.11', to: 80 },
  narrow: { port: 81, address: '10.74.0.11', to: 80 },
  beyond: { port: 82, address: '10.75.0.11', to: 80 },
  rawServer: { port: 8080, address: '10.72.0.50', to: 8080 },
  rawNarrow: { port: 8081, address: '10.74.0.50', to: 8080 },
  rawTiny: { port: 8082, address: '10.76.0.50', to: 8080 },
} as const;

type RawServer = 'rawServer' | 'rawNarrow' | 'rawTiny';
type RawClient = 'rawClient' | 'rawThin';

/** A connection between two raw hosts, after its handshake: the next packets of either side have these numbers. */
export interface Connection {
  readonly client: RawHost;
  readonly server: RawHost;
  readonly toServer: Packet;
  readonly toClient: Packet;
}

export class Duties extends Lab {
  readonly client = this.namespace('client');
  readonly thin = this.namespace('thin');
  readonly balancer = this.namespace('balancer');
  readonly server = this.namespace('server');
  readonly narrow = this.namespace('narrow');
  readonly tiny = this.namespace('tiny');
  readonly beyond = this.namespace('beyond');
  readonly raw = {} as Record<RawClient | RawServer, RawHost>;
  /** With the forwarder lb4. */
  lb4: Balancer | undefined;
  #nextPort = 5_000;

  /** Everything up and forwarding. */
  static async start(forwarder: Forwarder): Promise<Duties> {
    const lab = new Duties();
    try {
      await lab.#wire();
      await Promise.all(
        [lab.server, lab.narrow, lab.beyond].map((server) => server.program('backend', server.label, 'http=80').line(/^listening/)),
      );
      if (forwarder === 'lb4') await lab.#startLb4();
      else lab.#startKernel();
      return lab;
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** SYN, SYN+ACK, ACK from a raw client to the raw server of a frontend. */
  async open(from: RawClient, to: RawServer): Promise<Connection> {
    const [client, server] = [this.raw[from], this.raw[to]];
    const { port, to: serverPort } = FRONTENDS[to];
    const sourcePort = this.#nextPort++;
    const ends = { source: client.address, destination: VIP, sourcePort, destinationPort: port };
    client.send({ ...ends, flags: SYN, sequence: 1000 });
    const syn = await server.expect('the SYN', (packet) => packet.flags === SYN && packet.sequence === 1000);
    const back = { source: server.address, destination: VIP, sourcePort: serverPort, destinationPort: syn.sourcePort };
    server.send({ ...back, flags: SYN | ACK, sequence: 7000, acknowledgment: 1001 });
    await client.expect('the SYN+ACK', (packet) => packet.destinationPort === sourcePort && packet.flags === (SYN | ACK));
    const toServer = { ...ends, flags: ACK, sequence: 1001, acknowledgment: 7001 };
    client.send(toServer);
    await server.expect('the ACK', (packet) => packet.sourcePort === syn.sourcePort && packet.flags === ACK);
    return { client, server, toServer, toClient: { ...back, flags: ACK, sequence: 7001, acknowledgment: 1001 } };
  }

  async #wire(): Promise<void> {
    const { balancer } = this;
    const link = (device: string, network: string, host: Namespace, address: number, mtu = 1500): void => {
      cable(balancer, device, `10.${network}.0.1/24`, host, 'eth0', `10.${network}.0.${address}/24`);
      balancer.ip('link', 'set', device, 'mtu', `${mtu}`);
      host.ip('route', 'add', 'default', 'via', `10.${network}.0.1`);
    };
    link('front', '71', this.client, 101);
    link('back', '72', this.server, 11);
    link('thin', '73', this.thin, 101, 1000);
    link('narrow', '74', this.narrow, 11, 1000);
    link('tiny', '76', this.tiny, 11, 576);
    const tun = balancer.start([PYTHON, '-IS', join(ROOT, 'test/lab/tun.py'), 'tun0', `/run/netns/${this.beyond.name}`, 'tun0']);
    await tun.line(/^ready/);
    for (const [host, address] of [
      [balancer, 1],
      [this.beyond, 11],
    ] as const) {
      host.ip('addr', 'add', `10.75.0.${address}/24`, 'dev', 'tun0');
      host.ip('link', 'set', 'tun0', 'up');
    }
    this.beyond.ip('route', 'add', 'default', 'via', '10.75.0.1');
    const raw = async (name: RawClient | RawServer, host: Namespace, address: string, device: string): Promise<void> => {
      this.raw[name] = await RawHost.attach(host, 'eth0', address, { namespace: balancer, device });
    };
    await Promise.all([
      raw('rawClient', this.client, '10.71.0.200', 'front'),
      raw('rawThin', this.thin, '10.73.0.200', 'thin'),
      raw('rawServer', this.server, FRONTENDS.rawServer.address, 'back'),
      raw('rawNarrow', this.narrow, FRONTENDS.rawNarrow.address, 'narrow'),
      raw('rawTiny', this.tiny, FRONTENDS.rawTiny.address, 'tiny'),
    ]);
    for (const name of ['rawServer', 'rawNarrow', 'rawTiny'] as const) this.raw[name].answerHealthChecks();
  }

  /** As an administrator would who has no balancer: DNAT to the server, and SNAT so that it answers this way. */
  #startKernel(): void {
    this.balancer.sysctl('net.ipv4.ip_forward', '1');
    const rules = Object.values(FRONTENDS).map(({ port, address, to }) => `ip daddr ${VIP} tcp dport ${port} dnat to ${address}:${to}`);
    const pre = `chain pre { type nat hook prerouting priority dstnat; ${rules.join('; ')}; }`;
    const post = `chain post { type nat hook postrouting priority srcnat; meta l4proto tcp ct status dnat snat to ${VIP}:33768-61000; }`;
    this.balancer.sh('nft', `table ip duties { ${pre}; ${post}; }`);
  }

  async #startLb4(): Promise<void> {
    const frontends = Object.entries(FRONTENDS).map(([name, { port, address, to }]) => [
      name,
      // Seldom: on a loaded machine a raw host is too slow for quick checks, and would be down.
      { listen: `${VIP}:${port}`, servers: [`${address}:${to}`], backend: 'health_check_interval = 60' },
    ]);
    this.lb4 = await startBalancer(this.balancer, { frontends: Object.fromEntries(frontends), ring: LARGE_RING });
  }

  /** Ends lb4, if there is one, and says how it went. */
  override async [Symbol.asyncDispose](): Promise<void> {
    await this.lb4?.stop();
    await super[Symbol.asyncDispose]();
  }
}
