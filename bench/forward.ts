/**
 * lb4 beside what else a Linux host can balance with, in network namespaces, in one run: nftables DNAT and SNAT with
 * conntrack (the kernel's own NAT), and HAProxy in mode tcp. Packets: 64-byte frames over 1,000 established connections,
 * sent as fast as one core can, counted where they arrive. Gbit/s: one iperf3 stream with default offloads.
 * lb4 --dsr stands beside them with its packets.
 * Rounds are interleaved, so that noise falls on all alike. Root; `make bench` installs what it needs.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startBalancer } from '../test/lab/balancer.ts';
import { clientAddress, serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { compile, median, spread, table } from './measure.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const SECONDS = 2;
const FLOWS = 1000;
const PACKETS = 9000;
const IPERF = 5201;

/** Starts a balancer of VIP:PACKETS and VIP:IPERF over the one server; returns how to end it. */
type Subject = (lab: Topology) => Promise<() => Promise<unknown>>;

const subjects: Record<string, { start: Subject; packets: boolean; stream: boolean }> = {
  'lb4 --passthrough': { start: (lab) => lb4(lab), packets: true, stream: true },
  // The stream's answers would need a route around lb4: packets only.
  'lb4 --dsr': { start: (lab) => lb4(lab, '--dsr'), packets: true, stream: false },
  'nftables conntrack': { start: conntrack, packets: true, stream: true },
  'HAProxy mode tcp': { start: haproxy, packets: false, stream: true },
};

async function lb4(lab: Topology, ...args: string[]): Promise<() => Promise<unknown>> {
  const over = (port: number) => ({
    listen: `${VIP}:${port}`,
    servers: [`${serverAddress(0)}:${port}`],
    backend: 'health_check_interval = 3600',
  });
  const balancer = await startBalancer(
    lab.balancer,
    { frontends: { packets: over(PACKETS), iperf: over(IPERF) } },
    { args, healthy: false },
  );
  return () => balancer.stop();
}

async function conntrack({ balancer }: Topology): Promise<() => Promise<unknown>> {
  const to = serverAddress(0);
  balancer.sysctl('net.ipv4.ip_forward', '1');
  balancer.sh(
    'nft',
    `table ip bench {
      chain in { type nat hook prerouting priority dstnat; ip daddr ${VIP} tcp dport { ${PACKETS}, ${IPERF} } dnat to ${to}; }
      chain out { type nat hook postrouting priority srcnat; ip daddr ${to} snat to ${VIP}; }
    }`,
  );
  return async () => {
    balancer.sh('nft', 'delete table ip bench');
    balancer.sysctl('net.ipv4.ip_forward', '0');
  };
}

async function haproxy({ balancer, directory }: Topology): Promise<() => Promise<unknown>> {
  const file = join(directory, 'haproxy.cfg');
  writeFileSync(
    file,
    `defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen iperf
  bind ${VIP}:${IPERF}
  server one ${serverAddress(0)}:${IPERF}
`,
  );
  const running = balancer.start(['haproxy', '-db', '-f', file]);
  return () => running.stop();
}

/** Frames that arrive at the server a second, in thousands. */
async function packetRate(lab: Topology, traffic: string): Promise<number> {
  const [server] = lab.servers;
  const mac = lab.balancer.mac('front');
  const sender = lab.client.start([traffic, 'send', 'eth0', mac, clientAddress(0), VIP, `${PACKETS}`, `${FLOWS}`, `${SECONDS}`]);
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

async function gigabits(lab: Topology): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    const { code, stdout, stderr } = await lab.client.run('iperf3', '-J', '-c', VIP, '-p', `${IPERF}`, '-t', `${SECONDS}`);
    const result = JSON.parse(stdout || '{}') as { error?: string; end?: { sum_received?: { bits_per_second: number } } };
    if (code === 0 && result.end?.sum_received) return result.end.sum_received.bits_per_second / 1e9;
    if (attempt === 3) throw new Error(`iperf3: ${result.error ?? stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** The kernel's own TCP must not answer the generator's segments. */
function silence(lab: Topology): void {
  for (const namespace of [lab.client, lab.servers[0]]) {
    namespace.sh(
      'nft',
      `table ip bench { chain in { type filter hook prerouting priority raw; tcp dport ${PACKETS} drop; tcp sport ${PACKETS} drop; }; }`,
    );
  }
}

async function main(): Promise<void> {
  const traffic = compile('traffic');
  await using lab = new Topology({ servers: 1 });
  silence(lab);
  const server = lab.servers[0];
  server.start(['iperf3', '-s', '-p', `${IPERF}`]);
  server.start([traffic, 'answer', 'eth0', `${PACKETS}`]);
  const results = Object.fromEntries(Object.keys(subjects).map((name) => [name, { rate: [] as number[], gbit: [] as number[] }]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, { start, packets, stream }] of Object.entries(subjects)) {
      const stop = await start(lab);
      await new Promise((resolve) => setTimeout(resolve, 300));
      if (stream) results[name].gbit.push(await gigabits(lab));
      if (packets) results[name].rate.push(await packetRate(lab, traffic));
      await stop();
    }
  }
  const own = results['lb4 --passthrough'];
  console.log(`medians of ${ROUNDS} interleaved rounds of ${SECONDS} s (least–most); ratios are lb4's to the row's`);
  table([
    ['', 'thousand packets/s', 'lb4 / it', 'Gbit/s', 'lb4 / it'],
    ...Object.entries(results).map(([name, { rate, gbit }]) => [
      name,
      rate.length > 0 ? spread(rate, 0) : '–',
      rate.length > 0 ? (median(own.rate) / median(rate)).toFixed(2) : '–',
      gbit.length > 0 ? spread(gbit) : '–',
      gbit.length > 0 ? (median(own.gbit) / median(gbit)).toFixed(2) : '–',
    ]),
  ]);
}

await main();
