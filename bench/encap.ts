/**
 * Packets inside of others (dsr = "gue"), in one run, in network namespaces:
 *
 *     packets   64-byte frames of 1,000 established connections, made as a NIC's driver has them and counted where they arrive: XDP that redirects all
 *               alike (the floor), lb4 by XDP, by tc and in user space, each wrapping, and rewriting addresses beside it; all on one core, but for
 *               lb4's worker in user space
 *     stream    Gbit/s of one iperf3 stream to a server whose program unwraps: with default offloads, beside dsr = "l2", which wraps nothing; and
 *               as between NICs, where XDP can be
 *     test runs nanoseconds a packet by BPF_PROG_TEST_RUN: the fast path's program, and that of the servers (bench/test-runs.ts)
 *
 * Rounds are interleaved, so that noise falls on all alike. Root; `make bench` installs what it needs.
 */
import { fastPathObstacle } from '../src/io/fast-path.ts';
import { LARGE_RING } from '../test/lab/balancer.ts';
import { SERVERS as DSR_SERVERS, VIP as DSR_VIP, type Dsr, DsrTopology } from '../test/lab/dsr-topology.ts';
import { holdConnections } from '../test/lab/hold.ts';
import { Iperf } from '../test/lab/iperf.ts';
import type { Program } from '../test/lab/kernel-path.ts';
import { clientAddress, serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { MAC } from '../test/lab/world.ts';
import { median, spread, table } from './measure.ts';
import { floor, lb4, type Start } from './subjects.ts';
import { type Ends, forwardingRuns, type Runs, serverRuns } from './test-runs.ts';
import { compileDriver, driverRate, gigabits, silence } from './traffic.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const [FLOWS, PACKETS, ECHO] = [1000, 9000, 7];
/** Milliseconds until what has just been started is at rest. */
const PAUSE_MS = 300;

type FastPath = Program | 'off';
type Results = Readonly<Record<string, number[]>>;

const passthrough = (fastPath: FastPath) => `[passthrough]\nfast_path = "${fastPath}"\n`;
const wraps = (fastPath: FastPath) => ({ start: lb4(['--dsr'], passthrough(fastPath), 'dsr = "gue"'), isDeaf: true });
const rewrites = (fastPath: FastPath) => ({ start: lb4([], passthrough(fastPath)), isDeaf: false });

const FLOOR = 'XDP, redirecting all alike';
const PACKET_SUBJECTS: Readonly<Record<string, { readonly start: Start; readonly isDeaf: boolean }>> = {
  [FLOOR]: { start: floor, isDeaf: false },
  'gue, xdp': wraps('xdp'),
  'gue, tc': wraps('tc'),
  'gue in user space': wraps('off'),
  'NAT, xdp': rewrites('xdp'),
  'NAT, tc': rewrites('tc'),
  'NAT in user space': rewrites('off'),
};

async function packets(): Promise<void> {
  await using lab = new Topology({ servers: 1 });
  lab.likeHardware();
  silence(lab, PACKETS);
  const driver = compileDriver();
  lab.servers[0].start([driver.traffic, 'answer', 'eth0', `${PACKETS}`]);
  const what = { port: PACKETS, flows: FLOWS, from: clientAddress(0), to: VIP };
  const results = resultsOf(Object.keys(PACKET_SUBJECTS));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, { start, isDeaf }] of Object.entries(PACKET_SUBJECTS)) {
      const { stop } = await start(lab, { ports: [PACKETS], servers: [serverAddress(0)] });
      await pause();
      results[name].push(await driverRate(lab, driver, { ...what, isDeaf }));
      await stop();
    }
  }
  print('thousand packets/s', results, 0, { 'it / the floor': () => FLOOR, 'gue / NAT': (name) => name.replace('gue', 'NAT') });
}

/** Of servers as their scripts make them. */
async function streams(subjects: readonly (readonly [Dsr, FastPath])[], isHardware: boolean): Promise<void> {
  await using lab = new DsrTopology();
  if (isHardware) lab.likeHardware();
  await lab.startServers();
  const nameOf = (dsr: Dsr, fastPath: FastPath) => (fastPath === 'off' ? `${dsr} in user space` : `${dsr}, ${fastPath}`);
  const results = resultsOf(subjects.map(([dsr, fastPath]) => nameOf(dsr, fastPath)));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [dsr, fastPath] of subjects) {
      const settings = { ...lab.settings(dsr), more: passthrough(fastPath), ring: LARGE_RING };
      const dialect = dsr === 'gue' ? ['--dialect', 'bpf'] : [];
      lab.rules(settings, 'install', ...dialect);
      const balancer = await lab.serve(settings);
      results[nameOf(dsr, fastPath)].push(await gigabits(lab, DSR_VIP, Iperf.port));
      await balancer.stop();
      lab.rules(settings, 'remove', ...dialect);
    }
  }
  const slowest = { 'it / gue in user space': () => nameOf('gue', 'off') };
  if (isHardware) print('Gbit/s, as between NICs', results, 1, slowest);
  else print('Gbit/s', results, 1, { 'gue / l2': (name) => name.replace('gue', 'l2'), ...slowest });
}

function resultsOf(names: readonly string[]): Results {
  return Object.fromEntries(names.map((name) => [name, [] as number[]]));
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
}

/** @param ratios by their headings: to which row, if there is one that is not the row's own */
function print(unit: string, results: Results, digits: number, ratios: Readonly<Record<string, (name: string) => string>>): void {
  const ratio = (name: string, other: string) =>
    other === name || results[other] === undefined ? '–' : (median(results[name]) / median(results[other])).toFixed(2);
  table([
    ['', unit, ...Object.keys(ratios)],
    ...Object.entries(results).map(([name, values]) => [
      name,
      spread(values, digits),
      ...Object.values(ratios).map((to) => ratio(name, to(name))),
    ]),
  ]);
  console.log();
}

async function forwarding(): Promise<void> {
  await using lab = new Topology({ servers: 1 });
  lab.balancer.ip('link', 'set', 'front', 'address', MAC.front);
  const rounds: Record<Program, Runs[]> = { xdp: [], tc: [] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const program of ['xdp', 'tc'] as const) {
      const running = lab.balancer.start([process.execPath, import.meta.filename, program]);
      rounds[program].push(JSON.parse(await running.line(/^{/, 120_000)) as Runs);
    }
  }
  for (const [program, runs] of Object.entries(rounds)) printRuns(`ns a packet, ${program}`, runs, 'nat');
}

/** A connection to the server's own echo port is one that it knows. */
async function unwrapping(): Promise<void> {
  await using lab = new DsrTopology();
  await lab.startBackend(0);
  const [server] = lab.servers;
  await holdConnections(server, 1, `127.0.0.1:${ECHO}`);
  const [, sourcePort] = /127\.0\.0\.1:(\d+) +127\.0\.0\.1:7\b/.exec(server.sh('ss', '-Htn')) ?? [];
  const own: Ends = { source: '127.0.0.1', sourcePort: Number(sourcePort), destination: '127.0.0.1', destinationPort: ECHO };
  const [address, other] = DSR_SERVERS;
  const runs = Array.from({ length: ROUNDS }, () => serverRuns(server, address, other, own));
  printRuns('ns a packet, at the server', runs);
}

function printRuns(unit: string, runs: readonly Runs[], other = ''): void {
  const results = Object.fromEntries(Object.keys(runs[0]).map((name) => [name, runs.map((run) => run[name])]));
  print(unit, results, 0, other === '' ? {} : { [`it / ${other}`]: () => other });
}

async function main(): Promise<void> {
  const obstacle = fastPathObstacle();
  if (obstacle !== undefined) return console.log(`no fast path on this host: ${obstacle}`);
  console.log(`medians of ${ROUNDS} interleaved rounds (least–most)\n`);
  await packets();
  await streams(
    [
      ['gue', 'tc'],
      ['gue', 'off'],
      ['l2', 'tc'],
      ['l2', 'off'],
    ],
    false,
  );
  await streams(
    [
      ['gue', 'xdp'],
      ['gue', 'tc'],
      ['gue', 'off'],
    ],
    true,
  );
  await forwarding();
  await unwrapping();
}

const [, , program] = process.argv;
if (program === undefined) await main();
else console.log(JSON.stringify(forwardingRuns(program as Program)));
