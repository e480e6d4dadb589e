/**
 * UDP by lb4, beside what else a Linux host can balance it with, in network namespaces, in one run: nftables' conntrack (the kernel's own NAT)
 * and nginx' stream module. IPVS is not there: it is a module of the kernel's, which the one that this was measured on lacks.
 *
 *     packets     64-byte datagrams of 1,000 clients that have been answered, made as a NIC's driver has them (as bench/fastpath does it) and
 *                 counted where they arrive; lb4 by XDP, by tc and in user space
 *     new flows   first datagrams of clients, one each, as many as one core sends, over 64 servers, counted where they arrive; room in all tables
 *                 for all of them
 *
 * Rounds are interleaved, so that noise falls on all alike. Root; `make bench` installs what it needs.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { clientAddress, serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { compile, median, spread, table } from './measure.ts';
import { conntrack, lb4, nginx, type Start } from './subjects.ts';
import { compileDriver, driverRate, newClientRate, SECONDS, silence } from './traffic.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const PORT = 9000;
const FLOWS = 1000;
/** New flows at most, which all tables have room for twice, and their servers, each with 27,233 ports of lb4's. */
const [ROOM, SERVERS] = [800_000, 64];
const MAX = '/proc/sys/net/netfilter/nf_conntrack_max';
/** The first of addresses that nobody has (RFC 2544), which are routed to the client's end of the cable. */
const [BEFORE, STRANGERS, NETWORK] = ['198.18.0.1', '198.19.0.1', '198.18.0.0/15'];

const by = (fastPath: string) => lb4([], `[passthrough]\nfast_path = "${fastPath}"\nconnection_tracker_capacity = ${4 * ROOM}\n`);
const SUBJECTS: Readonly<Record<string, Start>> = {
  'lb4, xdp': by('xdp'),
  'lb4, tc': by('tc'),
  'lb4 in user space': by('off'),
  'nftables conntrack': conntrack,
  'nginx stream udp': nginx,
};
const OWN = 'lb4 in user space';
/** A new flow is opened in user space whatever carries it on. */
const OPENS = ['lb4 in user space', 'nftables conntrack', 'nginx stream udp'];

async function packets(): Promise<Record<string, number[]>> {
  await using lab = new Topology({ servers: 1 });
  lab.likeHardware();
  silence(lab, PORT);
  const driver = compileDriver();
  lab.servers[0].start([driver.traffic, 'answer', 'eth0', `${PORT}/udp`]);
  const what = { port: PORT, protocol: 'udp', flows: FLOWS, from: clientAddress(0), to: VIP } as const;
  const duty = { ports: [PORT], servers: [serverAddress(0)], protocol: 'udp' } as const;
  return await rounds(Object.keys(SUBJECTS), async (name) => {
    const { stop } = await SUBJECTS[name](lab, duty);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const rate = await driverRate(lab, driver, what);
    await stop();
    return rate;
  });
}

async function newFlows(): Promise<Record<string, number[]>> {
  await using lab = new Topology({ servers: 1 });
  silence(lab, PORT);
  const [server] = lab.servers;
  const servers = Array.from({ length: SERVERS }, (_, i) => serverAddress(i));
  for (const address of servers.slice(1)) server.ip('address', 'add', `${address}/24`, 'dev', 'eth0');
  lab.balancer.ip('route', 'add', NETWORK, 'via', clientAddress(0));
  const traffic = compile('traffic');
  const what = { port: PORT, protocol: 'udp', flows: ROOM, from: STRANGERS, to: VIP } as const;
  return await rounds(OPENS, async (name) => {
    const { stop } = await SUBJECTS[name](lab, { ports: [PORT], servers, protocol: 'udp', isOneWay: true });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    // What is compiled as it runs is compiled by then.
    await newClientRate(lab, traffic, { ...what, from: BEFORE });
    const { arrived } = await newClientRate(lab, traffic, what);
    await stop();
    return arrived;
  });
}

async function rounds(names: readonly string[], one: (name: string) => Promise<number>): Promise<Record<string, number[]>> {
  const results = Object.fromEntries(names.map((name) => [name, [] as number[]]));
  for (let round = 0; round < ROUNDS; round++) for (const name of names) results[name].push(await one(name));
  return results;
}

/** The kernel's limit is the whole host's, and put back. */
async function withRoom<T>(work: () => Promise<T>): Promise<T> {
  const before = readFileSync(MAX, 'latin1');
  writeFileSync(MAX, `${Math.max(Number(before), 2 * ROOM)}`);
  try {
    return await work();
  } finally {
    writeFileSync(MAX, before);
  }
}

function print(unit: string, results: Readonly<Record<string, number[]>>): void {
  table([
    ['', unit, `${OWN} / it`],
    ...Object.entries(results).map(([name, values]) => [name, spread(values, 0), (median(results[OWN]) / median(values)).toFixed(2)]),
  ]);
  console.log();
}

console.log(`medians of ${ROUNDS} interleaved rounds of ${SECONDS} s (least–most)\n`);
print('thousand packets/s', await packets());
print('thousand new flows/s', await withRoom(newFlows));
