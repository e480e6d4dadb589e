/**
 * New connections a second, from the SYN to the end of both sides, through lb4, the kernel's own NAT (nftables with conntrack) and HAProxy
 * in mode tcp, in network namespaces, in one run; beside them the core alone (bench/handshakes.ts), which has all of a core to itself.
 * The server closes at once. Client, balancer and server share the cores; no namespace keeps TIME_WAIT, and lb4 and conntrack keep it for
 * a second, so that no ports are short. Rounds are interleaved, so that noise falls on all alike. Root.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { type Costs, openAndClose } from './handshakes.ts';
import { compile, median, spread, table } from './measure.ts';
import { conntrack, haproxy, lb4, type Subject } from './subjects.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const SECONDS = 3;
const CORE_SECONDS = 2;
const CONNECTIONS = 64;
const PORT = 9000;
const SERVERS = 4;
const DUTY = { ports: [PORT], servers: Array.from({ length: SERVERS }, (_, i) => serverAddress(i)) };

const subjects = {
  'lb4 --passthrough': lb4([], '[passthrough.timeouts]\ntime_wait = 1\n'),
  'nftables conntrack': conntrack,
  'HAProxy mode tcp': haproxy,
};

interface Round {
  /** Thousands a second. */
  readonly rate: number;
  readonly failed: number;
}

async function open(lab: Topology, peers: string): Promise<Round> {
  const { code, stdout, stderr } = await lab.client.run(peers, 'open', VIP, `${PORT}`, `${CONNECTIONS}`, `${SECONDS}`);
  if (code !== 0) throw new Error(`peers open: ${stderr}`);
  const [done, failed] = stdout.trim().split(' ').map(Number);
  return { rate: done / SECONDS / 1000, failed };
}

async function labRounds(): Promise<Map<string, Round[]>> {
  const peers = compile('peers');
  await using lab = new Topology({ servers: 1 });
  for (const namespace of lab.namespaces) namespace.sysctl('net.ipv4.tcp_max_tw_buckets', '0');
  for (const address of DUTY.servers.slice(1)) lab.servers[0].ip('address', 'add', `${address}/24`, 'dev', 'eth0');
  await lab.servers[0].start([peers, 'shut', `${PORT}`]).line(/listening/);
  const rounds = new Map(Object.keys(subjects).map((name) => [name, [] as Round[]]));
  for (let i = 0; i < ROUNDS; i++) {
    for (const [name, start] of Object.entries(subjects)) {
      const subject: Subject = await start(lab, DUTY);
      if (start === conntrack) lab.balancer.sysctl('net.netfilter.nf_conntrack_tcp_timeout_time_wait', '1');
      await new Promise((resolve) => setTimeout(resolve, 300));
      rounds.get(name)?.push(await open(lab, peers));
      await subject.stop();
    }
  }
  return rounds;
}

async function main(): Promise<void> {
  const rounds = await labRounds();
  const rates = (name: string) => (rounds.get(name) ?? []).map(({ rate }) => rate);
  console.log(`medians of ${ROUNDS} interleaved rounds of ${SECONDS} s (least–most); ratios are lb4's to the row's`);
  table([
    ['', 'thousand connections/s', 'lb4 / it', 'failed, all rounds'],
    ...[...rounds].map(([name, of]) => [
      name,
      spread(rates(name)),
      (median(rates('lb4 --passthrough')) / median(rates(name))).toFixed(2),
      `${of.reduce((sum, { failed }) => sum + failed, 0)}`,
    ]),
  ]);
  const costs = Array.from({ length: ROUNDS }, () => {
    return JSON.parse(execFileSync(process.execPath, [fileURLToPath(import.meta.url), 'core'], { encoding: 'utf8' })) as Costs;
  });
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  const microseconds = (of: (one: Costs) => number) =>
    spread(
      costs.map((one) => of(one) / 1000),
      2,
    );
  console.log(`\nthe core alone, six packets a connection, medians of ${ROUNDS} processes (least–most)`);
  table([
    ['', 'thousand connections/s', 'µs each: SYN', 'the other 5 packets', 'sweep'],
    [
      'src/forward',
      spread(
        costs.map(({ steps, sweep }) => 1e6 / (sum(steps) + sweep)),
        0,
      ),
      microseconds(({ steps }) => steps[0]),
      microseconds(({ steps }) => sum(steps.slice(1))),
      microseconds(({ sweep }) => sweep),
    ],
  ]);
}

if (process.argv[2] === 'core') console.log(JSON.stringify(openAndClose(CORE_SECONDS)));
else await main();
