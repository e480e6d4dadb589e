/**
 * Floods from addresses that nobody has, 300,000 packets a second (LB4_BENCH_RATE; 0: as many as the machine can): ACKs and resets of no connection,
 * fragments that nothing follows, datagrams to the TCP port's neighbour, pings, SYNs. Beside each an iperf3 stream of a connection that was there before,
 * and requests of a client by a new connection each, one after another: what is kept of the stream that there is without a flood in the same round, and
 * how many requests succeed within five seconds. lb4 in user space, by tc and by XDP, the least that XDP could do, the kernel's NAT with conntrack, and
 * HAProxy, in turn in each round. One machine: sender, balancer, server and clients share its processors. A round takes about three minutes;
 * LB4_BENCH_ROUNDS (3); arguments: the subjects, when not all. Root.
 */
import { type Flood, floodEnd, startFlood } from '../test/lab/flood.ts';
import type { Running } from '../test/lab/processes.ts';
import { serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { median, table } from './measure.ts';
import { conntrack, floodedFloor, haproxy, lb4, type Start } from './subjects.ts';

/** Packets a second. With two processors a sender without a limit has one of them for itself, and each subject sees another flood. */
const RATE = Number(process.env['LB4_BENCH_RATE'] ?? 300_000);
const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 3);
/** Of each measurement. */
const SECONDS = 2;
/** Before that, in which the flood begins, and is told from a rush of clients. */
const BEFORE = 1;
const IPERF = 5201;
const HTTP = 80;
const ADDRESSES = 60_000;
/** A SYN that has to come twice takes its client a second. */
const PATIENCE = '5';

const by = (fastPath: string) => lb4([], `[passthrough]\nfast_path = "${fastPath}"\n`);
const all: Readonly<Record<string, Start>> = {
  'lb4, user space': by('off'),
  'lb4, tc': by('tc'),
  'lb4, XDP': by('xdp'),
  'XDP, redirecting all but the flood': floodedFloor,
  'conntrack, nft NAT': conntrack,
  HAProxy: haproxy,
};
const named = process.argv.slice(2);
const subjects = Object.fromEntries(Object.entries(all).filter(([name]) => named.length === 0 || named.includes(name)));

const floods: Readonly<Record<string, Pick<Flood, 'steps' | 'protocol'> | undefined>> = {
  none: undefined,
  ACK: { steps: ['ack'] },
  RST: { steps: ['rst'] },
  fragments: { steps: ['fragment'] },
  UDP: { protocol: 'udp' },
  ICMP: { steps: ['ping'] },
  // The last, since lb4 takes it for over only some seconds after.
  SYN: { steps: ['syn'] },
};

interface Measured {
  /** Thousands of packets a second. */
  readonly sent: number;
  /** Gbit/s. */
  readonly stream: number;
  readonly asked: number;
  readonly answered: number;
  /** Requests a second, each with its connection. */
  readonly rate: number;
}

async function measure(lab: Topology, listening: Running, kind: (typeof floods)[string]): Promise<Measured> {
  const isOpen = listening.nextLine(/connected to/);
  const options = ['-t', `${SECONDS}`, '-O', `${BEFORE}`, '--connect-timeout', '8000', '--json'];
  const stream = lab.client.run('timeout', '15', 'iperf3', '-c', VIP, '-p', `${IPERF}`, ...options);
  await isOpen;
  const seconds = SECONDS + BEFORE;
  const flood =
    kind === undefined ? undefined : await startFlood(lab, { port: HTTP, seconds, addresses: ADDRESSES, rate: RATE, count: 1e9, ...kind });
  const begin = performance.now();
  let [asked, answered] = [0, 0];
  while (performance.now() < begin + seconds * 1000) {
    const { code } = await lab.client.run('curl', '-sS', '--max-time', PATIENCE, '-o', '/dev/null', `http://${VIP}/`);
    asked++;
    if (code === 0) answered++;
  }
  const rate = (1000 * answered) / (performance.now() - begin);
  const sent = flood === undefined ? 0 : await floodEnd(flood);
  return { sent: sent / seconds / 1000, stream: speedOf((await stream).stdout), asked, answered, rate };
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

/**
 * XDP stands between cables like those of NICs: a veth takes what a driver redirects to it only so. And before it is a queue, as NICs have: without
 * one a veth drops what its ring of 256 has no room for, 4 % of packets here, whoever receives them, which ends any stream.
 */
const isHardware = (name: string) => name.includes('XDP');

interface Bed {
  readonly lab: Topology;
  /** iperf3's server. */
  readonly listening: Running;
}

async function prepare(lab: Topology, hardware: boolean): Promise<Bed> {
  if (hardware) {
    lab.likeHardware();
    lab.client.sh('tc', 'qdisc', 'replace', 'dev', 'eth0', 'root', 'pfifo', 'limit', '10000');
  }
  await lab.startBackends();
  const listening = lab.servers[0].start(['iperf3', '-s', '--forceflush', '-p', `${IPERF}`]);
  await listening.line(/Server listening/);
  return { lab, listening };
}

async function bench(): Promise<void> {
  await using cables = new Topology({ servers: 1 });
  await using cards = new Topology({ servers: 1 });
  const beds = [await prepare(cables, false), await prepare(cards, true)] as const;
  const results = Object.keys(subjects).map(() => Object.keys(floods).map((): Measured[] => []));
  for (let round = 0; round < ROUNDS; round++)
    for (const [s, [name, start]] of Object.entries(subjects).entries()) {
      const { lab, listening } = beds[isHardware(name) ? 1 : 0];
      const subject = await start(lab, { ports: [HTTP, IPERF], servers: [serverAddress(0)] });
      for (const [f, [kind, flood]] of Object.entries(floods).entries()) {
        const measured = await measure(lab, listening, flood);
        results[s][f].push(measured);
        // Whatever becomes of the rest.
        console.error(`round ${round + 1}, ${name}, ${kind}: ${JSON.stringify(measured)}`);
      }
      await subject.stop();
    }
  console.log(`medians of ${ROUNDS} interleaved rounds, ${SECONDS} s each; kept: of the stream without a flood in the same round`);
  table([
    ['', 'flood', 'sent, thousand/s', 'stream, Gbit/s', 'kept, %', 'lowest and highest', 'requests, %', 'requests a second'],
    ...Object.keys(subjects).flatMap((name, s) =>
      Object.keys(floods).map((kind, f) => {
        const of = (value: (one: Measured) => number) => median(results[s][f].map(value));
        const kept = results[s][f].map(({ stream }, round) => (100 * stream) / (results[s][0][round].stream || 1));
        const spread = `${Math.min(...kept).toFixed(0)} to ${Math.max(...kept).toFixed(0)}`;
        const answered = results[s][f].reduce((sum, one) => sum + one.answered, 0);
        const asked = results[s][f].reduce((sum, one) => sum + one.asked, 0);
        const figures = [of(({ sent }) => sent).toFixed(0), of(({ stream }) => stream).toFixed(2), median(kept).toFixed(0), spread];
        return [name, kind, ...figures, ((100 * answered) / asked).toFixed(0), of(({ rate }) => rate).toFixed(1)];
      }),
    ),
  ]);
}

await bench();
