/**
 * lb4 beside what else a Linux host can balance with, in network namespaces, in one run: nftables DNAT and SNAT with
 * conntrack (the kernel's own NAT), and HAProxy in mode tcp. Packets: 64-byte frames over 1,000 established connections,
 * sent as fast as one core can, counted where they arrive. Gbit/s: one iperf3 stream with default offloads.
 * lb4 --dsr stands beside them with its packets. On one core: sender and balancer may only use the first; so the kernel, too, forwards
 * there, since veth leaves a frame to the CPU that sends it.
 * Rounds are interleaved, so that noise falls on all alike. Root; `make bench` installs what it needs.
 */
import { execFileSync } from 'node:child_process';
import { clientAddress, serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { compile, median, spread, table } from './measure.ts';
import { conntrack, haproxy, lb4 } from './subjects.ts';
import { gigabits, packetRate, SECONDS, silence } from './traffic.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const FLOWS = 1000;
const PACKETS = 9000;
const IPERF = 5201;

const DUTY = { ports: [PACKETS, IPERF], servers: [serverAddress(0)] };

/** The stream's answers of --dsr would need a route around lb4: packets only. */
const subjects = {
  'lb4 --passthrough': { start: lb4(), packets: true, stream: true },
  'lb4 --dsr': { start: lb4(['--dsr']), packets: true, stream: false, isDeaf: true },
  'nftables conntrack': { start: conntrack, packets: true, stream: true },
  'HAProxy mode tcp': { start: haproxy, packets: false, stream: true },
  'lb4, both on one core': { start: lb4(), packets: true, stream: false, onOneCore: true },
  'conntrack, both on one core': { start: conntrack, packets: true, stream: false, onOneCore: true },
};
/** Whom a row's ratios are to: who is measured alike. */
const OWN = 'lb4 --passthrough';
const OWN_ON_ONE_CORE = 'lb4, both on one core';

async function main(): Promise<void> {
  const traffic = compile('traffic');
  await using lab = new Topology({ servers: 1 });
  silence(lab, PACKETS);
  const server = lab.servers[0];
  server.start(['iperf3', '-s', '-p', `${IPERF}`]);
  server.start([traffic, 'answer', 'eth0', `${PACKETS}`]);
  const results = Object.fromEntries(Object.keys(subjects).map((name) => [name, { rate: [] as number[], gbit: [] as number[] }]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, { start, packets, stream, ...more }] of Object.entries(subjects)) {
      const pin = 'onOneCore' in more ? ['taskset', '-c', '0'] : [];
      const { pid, stop } = await start(lab, DUTY);
      if (pin.length > 0 && pid !== undefined) execFileSync('taskset', ['-apc', '0', `${pid}`], { stdio: 'ignore' });
      await new Promise((resolve) => setTimeout(resolve, 300));
      if (stream) results[name].gbit.push(await gigabits(lab, VIP, IPERF));
      if (packets)
        results[name].rate.push(
          await packetRate(lab, traffic, {
            from: clientAddress(0),
            to: VIP,
            port: PACKETS,
            flows: FLOWS,
            prefix: pin,
            isDeaf: 'isDeaf' in more,
          }),
        );
      await stop();
    }
  }
  const own = results[OWN];
  const rateOf = (name: string) => results['onOneCore' in subjects[name as keyof typeof subjects] ? OWN_ON_ONE_CORE : OWN].rate;
  console.log(`medians of ${ROUNDS} interleaved rounds of ${SECONDS} s (least–most); ratios are lb4's to the row's`);
  table([
    ['', 'thousand packets/s', 'lb4 / it', 'Gbit/s', 'lb4 / it'],
    ...Object.entries(results).map(([name, { rate, gbit }]) => [
      name,
      rate.length > 0 ? spread(rate, 0) : '–',
      rate.length > 0 ? (median(rateOf(name)) / median(rate)).toFixed(2) : '–',
      gbit.length > 0 ? spread(gbit) : '–',
      gbit.length > 0 ? (median(own.gbit) / median(gbit)).toFixed(2) : '–',
    ]),
  ]);
}

await main();
