/** The loads of bench/forward, bench/fastpath, bench/encap and bench/udp: small packets (bench/traffic.c), new clients, and one iperf3 stream. */
import type { Topology } from '../test/lab/topology.ts';
import { compile, compileBpf } from './measure.ts';

/** Of each measurement. */
export const SECONDS = 2;
/** Addresses that new clients share: 64,512 ports each. */
const CLIENTS = 64;

/** Who sends, who is sent to, and the interface `front` of whom that goes by. */
export type Road = Pick<Topology, 'client' | 'servers' | 'balancer'>;

export interface Packets {
  readonly from: string;
  readonly to: string;
  readonly port: number;
  /** TCP when left out. */
  readonly protocol?: 'tcp' | 'udp';
  /** Connections. */
  readonly flows: number;
  /** The address that frames are sent to, where it is not the balancer's. */
  readonly mac?: string;
  /** Its server's answers do not come back here. */
  readonly isDeaf?: boolean;
  /** In front of the generator's command line. */
  readonly prefix?: readonly string[];
}

/** Frames that arrive at the first server a second, in thousands, of a sender that takes them through a packet socket. */
export async function packetRate(lab: Road, traffic: string, what: Packets): Promise<number> {
  const [server] = lab.servers;
  await open(lab, traffic, what);
  const sender = lab.client.start([...(what.prefix ?? []), traffic, 'send', ...load(lab, what)]);
  await sender.line(/^sending/);
  const before = received(server);
  await sender.line(/^sent/, 30_000);
  await new Promise((resolve) => setTimeout(resolve, 100));
  return (received(server) - before) / SECONDS / 1000;
}

/** What {@link driverRate} is made of: programs and BPF objects of this folder, built. */
export interface Driver {
  readonly traffic: string;
  readonly generator: string;
  readonly frames: string;
  readonly sink: string;
}

export function compileDriver(): Driver {
  return {
    traffic: compile('traffic'),
    generator: compile('generator', ['-lbpf']),
    frames: compileBpf('generator'),
    sink: compileBpf('sink'),
  };
}

/** The same of a sender that has frames as a network card's driver has them, and of a server that drops them in its driver. */
export async function driverRate(lab: Road, { traffic, generator, frames, sink }: Driver, what: Packets): Promise<number> {
  const [server] = lab.servers;
  await open(lab, traffic, what);
  server.ip('link', 'set', 'eth0', 'xdpdrv', 'object', sink, 'section', 'xdp');
  const before = received(server);
  const { stdout } = await lab.client.run(generator, frames, ...load(lab, what));
  const [, seconds] = /^sent \d+ in ([\d.]+) s$/m.exec(stdout) ?? [];
  const after = received(server);
  server.ip('link', 'set', 'eth0', 'xdpdrv', 'off');
  return (after - before) / Number(seconds) / 1000;
}

/** Until each has been answered: of connections that are not open no packet comes by the way that is to be measured. */
async function open(lab: Road, traffic: string, what: Packets): Promise<void> {
  const { from, to, flows, isDeaf = false } = what;
  if (isDeaf) return openUnheard(lab, traffic, what);
  const { code, stderr } = await lab.client.run(traffic, 'open', 'eth0', macOf(lab, what), from, '1', to, portOf(what), `${flows}`, '32');
  if (code !== 0) throw new Error(`no connections: ${stderr}`);
}

/** Slowly, twice: who is not answered cannot know what was lost. */
async function openUnheard(lab: Road, traffic: string, what: Packets): Promise<void> {
  const { from, to, flows } = what;
  const flood = ['flood', 'eth0', macOf(lab, what), from, '1', to, portOf(what), '2000', '10', `${flows}`, 'syn', 'open'];
  for (const _ of [1, 2]) await lab.client.run(traffic, ...flood);
}

function load(lab: Road, what: Packets): string[] {
  return ['eth0', macOf(lab, what), what.from, what.to, portOf(what), `${what.flows}`, `${SECONDS}`];
}

function macOf({ balancer }: Road, { mac }: Packets): string {
  return mac ?? balancer.mac('front');
}

/** As bench/traffic.c has it. */
function portOf({ port, protocol = 'tcp' }: Packets): string {
  return protocol === 'udp' ? `${port}/udp` : `${port}`;
}

/**
 * First packets of new clients that arrive at the first server a second, in thousands, of as many as one sender can make: `flows` at most.
 * @returns how many were sent as well
 */
export async function newClientRate(lab: Road, traffic: string, what: Packets): Promise<{ arrived: number; sent: number }> {
  const [server] = lab.servers;
  const clients = ['eth0', macOf(lab, what), what.from, `${CLIENTS}`, what.to, portOf(what), '0', `${SECONDS}`, `${what.flows}`];
  const before = received(server);
  const { stdout } = await lab.client.run(traffic, 'flood', ...clients, 'syn');
  const [, sent, seconds] = /^sent (\d+) segments .* in ([\d.]+) s$/m.exec(stdout) ?? [];
  await new Promise((resolve) => setTimeout(resolve, 100));
  const thousands = (count: number) => count / Number(seconds) / 1000;
  return { arrived: thousands(received(server) - before), sent: thousands(Number(sent)) };
}

function received(namespace: Topology['balancer']): number {
  const [link] = JSON.parse(namespace.ip('-j', '-s', 'link', 'show', 'eth0')) as [{ stats64: { rx: { packets: number } } }];
  return link.stats64.rx.packets;
}

/** Gbit/s of one stream to an iperf3 that listens behind `address`. */
export async function gigabits(lab: Road, address: string, port: number): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    const { code, stdout, stderr } = await lab.client.run('iperf3', '-J', '-c', address, '-p', `${port}`, '-t', `${SECONDS}`);
    const result = JSON.parse(stdout || '{}') as { error?: string; end?: { sum_received?: { bits_per_second: number } } };
    if (code === 0 && result.end?.sum_received) return result.end.sum_received.bits_per_second / 1e9;
    if (attempt === 3) throw new Error(`iperf3: ${result.error ?? stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** The kernel's own TCP and UDP must not answer the generator's packets. */
export function silence(lab: Road, port: number): void {
  for (const namespace of [lab.client, lab.servers[0]]) {
    namespace.sh(
      'nft',
      `table ip bench { chain in { type filter hook prerouting priority raw; th dport ${port} drop; th sport ${port} drop; }; }`,
    );
  }
}
