/**
 * How long an answer takes: 64 bytes there, 64 bytes back, over kept connections, through lb4, the kernel's own NAT (nftables with
 * conntrack) and HAProxy in mode tcp, in network namespaces, in one run. Client, balancer and server share the cores.
 * Rounds are interleaved, so that noise falls on all alike. Root; `make bench` installs what it needs.
 */
import { serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { compile, median, spread, table } from './measure.ts';
import { conntrack, haproxy, lb4 } from './subjects.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const SECONDS = 2;
const PORT = 9000;
const DUTY = { ports: [PORT], servers: [serverAddress(0)] };
const CONNECTIONS = [1, 32];

const subjects = {
  'lb4 --passthrough': lb4(),
  'lb4, busy_poll = 100': lb4([], '[passthrough]\nbusy_poll = 100'),
  'nftables conntrack': conntrack,
  'HAProxy mode tcp': haproxy,
};

interface Round {
  /** Thousands a second. */
  readonly rate: number;
  /** Microseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

async function ask(lab: Topology, peers: string, connections: number): Promise<Round> {
  const { code, stdout, stderr } = await lab.client.run(peers, 'ask', VIP, `${PORT}`, `${connections}`, `${SECONDS}`);
  if (code !== 0) throw new Error(`peers ask: ${stderr}`);
  const [count, p50, p99, p999] = stdout.trim().split(' ').map(Number);
  return { rate: count / (SECONDS * 0.9) / 1000, p50, p99, p999 };
}

async function main(): Promise<void> {
  const peers = compile('peers');
  await using lab = new Topology({ servers: 1 });
  await lab.servers[0].start([peers, 'echo', `${PORT}`]).line(/listening/);
  const rounds = Object.keys(subjects).flatMap((name) => CONNECTIONS.map((connections) => ({ name, connections, of: [] as Round[] })));
  for (let i = 0; i < ROUNDS; i++) {
    for (const [name, start] of Object.entries(subjects)) {
      const subject = await start(lab, DUTY);
      for (const row of rounds.filter((one) => one.name === name)) row.of.push(await ask(lab, peers, row.connections));
      await subject.stop();
    }
  }
  console.log(`medians of ${ROUNDS} interleaved rounds of ${SECONDS} s (least–most), microseconds; ratios are lb4's to the row's`);
  for (const connections of CONNECTIONS) {
    const rows = rounds.filter((row) => row.connections === connections);
    const values = (of: readonly Round[], key: keyof Round) => of.map((one) => one[key]);
    const ratio = (of: readonly Round[], key: keyof Round) => (median(values(rows[0].of, key)) / median(values(of, key))).toFixed(2);
    table([
      [`${connections} ${connections === 1 ? 'connection' : 'connections'}`, 'thousand/s', 'p50', 'lb4 / it', 'p99', 'lb4 / it', 'p99.9'],
      ...rows.map(({ name, of }) => [
        name,
        spread(values(of, 'rate')),
        spread(values(of, 'p50'), 0),
        ratio(of, 'p50'),
        spread(values(of, 'p99'), 0),
        ratio(of, 'p99'),
        spread(values(of, 'p999'), 0),
      ]),
    ]);
    console.log();
  }
}

await main();
