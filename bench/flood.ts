/**
 * SYN floods from addresses that nobody has, at 1,000 SYNs a second and as many as the machine can, an iperf3 stream of an established
 * connection and a request a moment beside them: how many SYNs a second reach lb4, how many it opens, what is left of the stream, and
 * whether requests are answered. One machine: sender, balancer, servers and stream share its cores. Root.
 */
import { type Balancer, startBalancer } from '../test/lab/balancer.ts';
import { floodEnd, startFlood } from '../test/lab/flood.ts';
import { serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { spread, table } from './measure.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const SECONDS = 4;
const IPERF = 5201;
const HTTP = 80;

interface Round {
  /** Thousands a second. */
  readonly sent: number;
  readonly received: number;
  readonly opened: number;
  /** Gbit/s. */
  readonly stream: number;
  /** Of the requests beside it, those that were answered, in percent. */
  readonly answered: number;
}

/** @param rate SYNs a second; 0: none; undefined: as many as there can be */
async function round(lab: Topology, balancer: Balancer, rate: number | undefined): Promise<Round> {
  const before = await balancer.stats();
  const stream = lab.client.run('iperf3', '-c', VIP, '-p', `${IPERF}`, '-t', `${SECONDS}`, '--json');
  const flood = rate === 0 ? undefined : await startFlood(lab, { port: HTTP, seconds: SECONDS, ...(rate !== undefined && { rate }) });
  const end = performance.now() + SECONDS * 1000;
  let [asked, answered] = [0, 0];
  while (performance.now() < end) {
    const { code } = await lab.client.run('curl', '-sS', '--max-time', '2', '-o', '/dev/null', `http://${VIP}/`);
    asked++;
    if (code === 0) answered++;
  }
  const sent = flood === undefined ? 0 : await floodEnd(flood);
  const result = JSON.parse((await stream).stdout) as { end?: { sum_received?: { bits_per_second: number } } };
  const after = await balancer.stats();
  const thousands = (count: number) => count / SECONDS / 1000;
  return {
    sent: thousands(sent),
    received: thousands(after.lb4.frames.received - before.lb4.frames.received),
    opened: thousands((after.lb4.verdicts['opened'] ?? 0) - (before.lb4.verdicts['opened'] ?? 0)),
    stream: (result.end?.sum_received?.bits_per_second ?? 0) / 1e9,
    answered: (100 * answered) / asked,
  };
}

async function measure(): Promise<void> {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const listening = lab.servers[0].start(['iperf3', '-s', '--forceflush', '-p', `${IPERF}`]);
  await listening.line(/Server listening/);
  const over = (port: number) => ({
    listen: `${VIP}:${port}`,
    servers: [`${serverAddress(0)}:${port}`],
    backend: 'health_check_interval = 3600',
  });
  const balancer = await startBalancer(lab.balancer, { frontends: { http: over(HTTP), iperf: over(IPERF) } }, { healthy: false });
  const floods: readonly [name: string, rate: number | undefined][] = [
    ['none', 0],
    ['1,000 a second', 1000],
    ['as many as it can', undefined],
  ];
  const rounds = floods.map((): Round[] => []);
  for (let i = 0; i < ROUNDS; i++) for (const [at, [, rate]] of floods.entries()) rounds[at].push(await round(lab, balancer, rate));
  console.log(`medians of ${ROUNDS} interleaved rounds of ${SECONDS} s (least–most)`);
  table([
    ['SYN flood', 'sent, thousand/s', 'frames received', 'opened', 'stream, Gbit/s', 'requests answered, %'],
    ...floods.map(([name], at) => {
      const of = (key: keyof Round, digits = 1) =>
        spread(
          rounds[at].map((one) => one[key]),
          digits,
        );
      return [name, of('sent'), of('received'), of('opened'), of('stream', 2), of('answered', 0)];
    }),
  ]);
  await balancer.stop();
}

await measure();
