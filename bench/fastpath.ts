/**
 * The kernel's fast path, in one run, in network namespaces:
 *
 *     packets   64-byte frames of 1,000 established connections, made as a NIC's driver has them and counted where they arrive: XDP that
 *               redirects all alike (the floor), lb4 by XDP, by tc and in user space, nftables' conntrack; all on one core, but for lb4's
 *               worker in user space
 *     stream    Gbit/s of one iperf3 stream with default offloads: lb4 by tc and in user space, conntrack, HAProxy
 *     test runs nanoseconds a packet by BPF_PROG_TEST_RUN at 1,000 to 1,000,000 flows, above those for a frame that is none of its business
 *
 * Rounds are interleaved, so that noise falls on all alike. Root; `make bench` installs what it needs.
 */
import { closeSync } from 'node:fs';
import { FlowTable, hashKey, tableCapacity } from '../src/flow/table.ts';
import { writeHop } from '../src/forward/next-hops.ts';
import { fastPathObstacle, load, mapAll } from '../src/io/fast-path.ts';
import { interfacesNow } from '../src/io/interfaces.ts';
import { native } from '../src/io/native.ts';
import { XdpLinks } from '../src/io/xdp-links.ts';
import * as Flow from '../src/layout/flow.ts';
import { HOP, HOPS } from '../src/layout/hops.ts';
import { flowWords } from '../src/layout/memory.ts';
import { parseAddress, portsWord } from '../src/packet/address.ts';
import { TCP } from '../src/packet/fields.ts';
import { buildFrame } from '../test/lab/packets.ts';
import { clientAddress, serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { median, spread, table } from './measure.ts';
import { conntrack, floor, haproxy, lb4, type Start } from './subjects.ts';
import { compileDriver, driverRate, gigabits, silence } from './traffic.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const [FLOWS, PACKETS, IPERF] = [1000, 9000, 5201];
const DUTY = { ports: [PACKETS, IPERF], servers: [serverAddress(0)] };
const by = (fastPath: string) => lb4([], `[passthrough]\nfast_path = "${fastPath}"\n`);

const PACKET_SUBJECTS: Readonly<Record<string, Start>> = {
  'XDP, redirecting all alike': floor,
  'lb4, xdp': by('xdp'),
  'lb4, tc': by('tc'),
  'lb4 in user space': by('off'),
  'nftables conntrack': conntrack,
};
const STREAM_SUBJECTS: Readonly<Record<string, Start>> = {
  'lb4, tc': by('tc'),
  'lb4 in user space': by('off'),
  'nftables conntrack': conntrack,
  'HAProxy mode tcp': haproxy,
};

async function measure(
  subjects: Readonly<Record<string, Start>>,
  lab: Topology,
  one: () => Promise<number>,
): Promise<Record<string, number[]>> {
  const results = Object.fromEntries(Object.keys(subjects).map((name) => [name, [] as number[]]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, start] of Object.entries(subjects)) {
      const { stop } = await start(lab, DUTY);
      await new Promise((resolve) => setTimeout(resolve, 300));
      results[name].push(await one());
      await stop();
    }
  }
  return results;
}

async function packets(): Promise<void> {
  await using lab = new Topology({ servers: 1 });
  lab.likeHardware();
  silence(lab, PACKETS);
  const driver = compileDriver();
  lab.servers[0].start([driver.traffic, 'answer', 'eth0', `${PACKETS}`]);
  const what = { port: PACKETS, flows: FLOWS, from: clientAddress(0), to: VIP };
  const rates = await measure(PACKET_SUBJECTS, lab, () => driverRate(lab, driver, what));
  print('thousand packets/s', rates, 0);
}

async function streams(): Promise<void> {
  await using lab = new Topology({ servers: 1 });
  lab.servers[0].start(['iperf3', '-s', '-p', `${IPERF}`]);
  print('Gbit/s', await measure(STREAM_SUBJECTS, lab, () => gigabits(lab, VIP, IPERF)), 1);
}

function print(unit: string, results: Readonly<Record<string, number[]>>, digits: number): void {
  const first = Object.entries(results).filter(([name]) => /^lb4, (xdp|tc)/.test(name));
  table([
    ['', unit, ...first.map(([name]) => `${name} / it`)],
    ...Object.entries(results).map(([name, values]) => {
      return [name, spread(values, digits), ...first.map(([, own]) => (median(own) / median(values)).toFixed(2))];
    }),
  ]);
  console.log();
}

// ---- test runs

/** TTL 255: so many runs leave a frame that can still be forwarded. */
const REPEAT = 250;
const CALLS = 400;
/** A name, and of the frames as they come and go. */
const MAC = '02:00:00:00:00:01';

/**
 * Flows of which each rewrites its packets into the next one's, in an order that jumps about: so the runs of one call walk through
 * the table, as the packets of many connections do.
 */
function chain(flows: Int32Array, capacity: number, key: Uint32Array, count: number): void {
  const hashed = new FlowTable(flows, capacity, hashKey(key));
  const step = 514_229; // prime to all three counts
  const tuple = (i: number) =>
    [parseAddress('10.0.0.0') + ((i & 0xff) << 24), parseAddress('192.0.2.1'), portsWord(1024 + (i >>> 8), 80)] as const;
  for (let n = 0, i = 0; n < count; n++) {
    const next = (i + step) % count;
    const slot = hashed.reserve(...tuple(i), 0);
    if (slot === Flow.NONE) throw new Error('no place for a flow');
    const at = slot << Flow.ENTRY_SHIFT;
    [flows[at + Flow.NEW_SOURCE], flows[at + Flow.NEW_DESTINATION], flows[at + Flow.NEW_PORTS]] = tuple(next);
    flows[at + Flow.NEXT_HOP] = 1;
    hashed.publish(slot, Flow.live(TCP) | Flow.FAST);
    i = next;
  }
}

interface Run {
  readonly tc: number[];
  readonly xdp: number[];
}

/** In a namespace with an interface `front` whose address is MAC: what comes in by it is this host's. */
function testRuns(count: number): Run {
  const key = new Uint32Array([1, 0x9e3779b1, 0x85ebca6b, 0xc2b2ae35]);
  const capacity = tableCapacity(count / 2);
  const loaded = load({ capacity, connections: count / 2, workers: 1, isInKernel: true }, hashKey(key));
  const maps = mapAll(loaded);
  const mac = Uint8Array.from(MAC.split(':'), (byte) => Number.parseInt(byte, 16));
  const ifindex = indexOf('front');
  writeHop(new Int32Array(maps.hops, 0, HOPS * HOP), 1, ifindex, 65535, mac, mac);
  chain(new Int32Array(maps.flows, 0, flowWords(capacity)), capacity, key, count);
  new XdpLinks(loaded.links).set({ index: ifindex, mac, kind: '' }, true);
  const results: Run = { tc: [], xdp: [] };
  for (let round = 0; round < ROUNDS; round++) {
    results.tc.push(nanoseconds(loaded.tc, ifindex, count) - idle(loaded.tc, ifindex));
    results.xdp.push(nanoseconds(loaded.xdp, ifindex, count) - idle(loaded.xdp, ifindex));
  }
  const expected = 2 * ROUNDS * CALLS * REPEAT;
  const taken = native().perCpuSums(loaded.counts, 0, 1)[0];
  if (taken !== expected) throw new Error(`${taken} packets were taken of ${expected}`);
  for (const fd of Object.values(loaded)) closeSync(fd);
  return results;
}

function indexOf(wanted: string): number {
  return interfacesNow().find(({ name }) => name === wanted)!.index;
}

/** A run, on average over calls that each begin at another flow. */
function nanoseconds(program: number, ifindex: number, count: number): number {
  let sum = 0;
  for (let call = 0; call < CALLS; call++) {
    const i = Math.floor(Math.random() * count);
    const tcp = { from: 1024 + (i >>> 8), to: 80 };
    const frame = buildFrame({ ethernet: [MAC, MAC], source: `10.0.0.${i & 0xff}`, destination: '192.0.2.1', ttl: 255, tcp });
    sum += native().testRun(program, frame, ifindex, 0, REPEAT).duration;
  }
  return sum / CALLS;
}

/** A frame that is not IP: what a run takes by itself. */
function idle(program: number, ifindex: number): number {
  const frame = new Uint8Array(60);
  frame.set([0x08, 0x06], 12);
  let sum = 0;
  for (let call = 0; call < CALLS; call++) sum += native().testRun(program, frame, ifindex, 0, REPEAT).duration;
  return sum / CALLS;
}

async function testRunsInNamespace(): Promise<void> {
  await using lab = new Topology({ servers: 1 });
  lab.balancer.ip('link', 'set', 'front', 'address', MAC);
  const rows = [];
  for (const count of [1_000, 100_000, 1_000_000]) {
    const running = lab.balancer.start([process.execPath, import.meta.filename, `${count}`]);
    const { xdp, tc } = JSON.parse(await running.line(/^{/, 120_000)) as Run;
    rows.push([count.toLocaleString('en'), spread(xdp), spread(tc)]);
  }
  table([['flows', 'ns a packet, xdp', 'ns a packet, tc'], ...rows]);
}

async function main(): Promise<void> {
  const obstacle = fastPathObstacle();
  if (obstacle !== undefined) throw new Error(obstacle);
  console.log(`medians of ${ROUNDS} interleaved rounds (least–most)\n`);
  await packets();
  await streams();
  await testRunsInNamespace();
}

const [, , count] = process.argv;
if (count === undefined) await main();
else console.log(JSON.stringify(testRuns(Number(count))));
