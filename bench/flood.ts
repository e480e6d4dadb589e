/**
 * Floods from addresses that nobody has, as many packets as the machine can: SYNs, ACKs and resets of no connection, fragments that nothing follows,
 * datagrams to the TCP port's neighbour, pings. Beside each an iperf3 stream of an established connection, and requests of a client by a new connection
 * each: what is kept of the stream that there is without a flood in the same round, and how many requests succeed within five seconds. lb4 in user
 * space, by tc and by XDP, the kernel's NAT with conntrack, and HAProxy, in turn in each round. One machine: sender, balancer, server and clients share
 * its processors. A round takes less than two minutes; LB4_BENCH_ROUNDS (3). Root.
 */
import { type Flood, floodEnd, startFlood } from '../test/lab/flood.ts';
import { serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { median, table } from './measure.ts';
import { conntrack, haproxy, lb4, type Start } from './subjects.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 3);
/** Of each measurement; the stream takes a second more, in which the flood begins. */
const SECONDS = 2;
const IPERF = 5201;
const HTTP = 80;
/** Two processors: without a limit the sender alone has one of them. */
const ADDRESSES = 60_000;
/** A SYN that has to come twice takes its client a second. */
const PATIENCE = '5';

const by = (fastPath: string) => lb4([], `[passthrough]\nfast_path = "${fastPath}"\n`);
const subjects: Readonly<Record<string, Start>> = {
  'lb4, user space': by('off'),
  'lb4, tc': by('tc'),
  'lb4, XDP': by('xdp'),
  'conntrack, nft NAT': conntrack,
  HAProxy: haproxy,
};

const floods: Readonly<Record<string, Pick<Flood, 'steps' | 'protocol'> | undefined>> = {
  none: undefined,
  SYN: { steps: ['syn'] },
  ACK: { steps: ['ack'] },
  RST: { steps: ['rst'] },
  fragments: { steps: ['fragment'] },
  UDP: { protocol: 'udp' },
  ICMP: { steps: ['ping'] },
};

interface Measured {
  /** Thousands of packets a second. */
  readonly sent: number;
  /** Gbit/s. */
  readonly stream: number;
  readonly asked: number;
  readonly answered: number;
}

async function measure(lab: Topology, kind: (typeof floods)[string]): Promise<Measured> {
  const flood =
    kind === undefined ? undefined : await startFlood(lab, { port: HTTP, seconds: SECONDS + 2, addresses: ADDRESSES, count: 1e9, ...kind });
  // The first second is the flood's: it is told from a rush of clients by then.
  const options = ['-t', `${SECONDS}`, '-O', '1', '--connect-timeout', '8000', '--json'];
  const stream = lab.client.run('timeout', '15', 'iperf3', '-c', VIP, '-p', `${IPERF}`, ...options);
  const end = performance.now() + (SECONDS + 1) * 1000;
  let [asked, answered] = [0, 0];
  while (performance.now() < end) {
    const { code } = await lab.client.run('curl', '-sS', '--max-time', PATIENCE, '-o', '/dev/null', `http://${VIP}/`);
    asked++;
    if (code === 0) answered++;
  }
  const sent = flood === undefined ? 0 : await floodEnd(flood);
  return { sent: sent / (SECONDS + 2) / 1000, stream: speedOf((await stream).stdout), asked, answered };
}

/** 0: it never began, or broke off. */
function speedOf(stdout: string): number {
  try {
    const result = JSON.parse(stdout) as { end?: { sum_received?: { bits_per_second: number } } };
    return (result.end?.sum_received?.bits_per_second ?? 0) / 1e9;
  } catch {
    return 0; // it was ended by force
  }
}

async function bench(): Promise<void> {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const listening = lab.servers[0].start(['iperf3', '-s', '--forceflush', '-p', `${IPERF}`]);
  await listening.line(/Server listening/);
  const results = Object.keys(subjects).map(() => Object.keys(floods).map((): Measured[] => []));
  for (let round = 0; round < ROUNDS; round++)
    for (const [s, [name, start]] of Object.entries(subjects).entries()) {
      const subject = await start(lab, { ports: [HTTP, IPERF], servers: [serverAddress(0)] });
      for (const [f, [kind, flood]] of Object.entries(floods).entries()) {
        const measured = await measure(lab, flood);
        results[s][f].push(measured);
        // Whatever becomes of the rest.
        console.error(`round ${round + 1}, ${name}, ${kind}: ${JSON.stringify(measured)}`);
      }
      await subject.stop();
    }
  console.log(`medians of ${ROUNDS} interleaved rounds, ${SECONDS} s each; kept: of the stream without a flood in the same round`);
  table([
    ['', 'flood', 'sent, thousand/s', 'stream, Gbit/s', 'kept, %', 'new connections, %'],
    ...Object.keys(subjects).flatMap((name, s) =>
      Object.keys(floods).map((kind, f) => {
        const of = (value: (one: Measured, round: number) => number) => median(results[s][f].map(value));
        const kept = of(({ stream }, round) => (100 * stream) / (results[s][0][round].stream || 1));
        const answered = results[s][f].reduce((sum, one) => sum + one.answered, 0);
        const asked = results[s][f].reduce((sum, one) => sum + one.asked, 0);
        const figures = [of(({ sent }) => sent).toFixed(0), of(({ stream }) => stream).toFixed(2), kept.toFixed(0)];
        return [name, kind, ...figures, ((100 * answered) / asked).toFixed(0)];
      }),
    ),
  ]);
}

await bench();
