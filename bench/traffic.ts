/** The two loads of bench/forward and bench/fastpath: small packets (bench/traffic.c), and one iperf3 stream. */
import type { Topology } from '../test/lab/topology.ts';

/** Of each measurement. */
export const SECONDS = 2;

export interface Packets {
  readonly from: string;
  readonly to: string;
  readonly port: number;
  /** Connections. */
  readonly flows: number;
  /** In front of the generator's command line. */
  readonly prefix?: readonly string[];
}

/** Frames that arrive at the first server a second, in thousands. */
export async function packetRate(lab: Topology, traffic: string, { from, to, port, flows, prefix = [] }: Packets): Promise<number> {
  const [server] = lab.servers;
  const mac = lab.balancer.mac('front');
  const sender = lab.client.start([...prefix, traffic, 'send', 'eth0', mac, from, to, `${port}`, `${flows}`, `${SECONDS}`]);
  await sender.line(/^open/);
  const before = received(server);
  await sender.line(/^sent/, 30_000);
  await new Promise((resolve) => setTimeout(resolve, 100));
  return (received(server) - before) / SECONDS / 1000;
}

function received(namespace: Topology['balancer']): number {
  const [link] = JSON.parse(namespace.ip('-j', '-s', 'link', 'show', 'eth0')) as [{ stats64: { rx: { packets: number } } }];
  return link.stats64.rx.packets;
}

/** Gbit/s of one stream to an iperf3 that listens behind `address`. */
export async function gigabits(lab: Topology, address: string, port: number): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    const { code, stdout, stderr } = await lab.client.run('iperf3', '-J', '-c', address, '-p', `${port}`, '-t', `${SECONDS}`);
    const result = JSON.parse(stdout || '{}') as { error?: string; end?: { sum_received?: { bits_per_second: number } } };
    if (code === 0 && result.end?.sum_received) return result.end.sum_received.bits_per_second / 1e9;
    if (attempt === 3) throw new Error(`iperf3: ${result.error ?? stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** The kernel's own TCP must not answer the generator's segments. */
export function silence(lab: Topology, port: number): void {
  for (const namespace of [lab.client, lab.servers[0]]) {
    namespace.sh(
      'nft',
      `table ip bench { chain in { type filter hook prerouting priority raw; tcp dport ${port} drop; tcp sport ${port} drop; }; }`,
    );
  }
}
