/**
 * Floods of SYNs, of segments of no connection and of datagrams from addresses that nobody has, at 1,000 a second and as many as the machine can, an iperf3 stream of an
 * established connection, a request a moment and a question a moment to a UDP service beside them: how many packets a second reach lb4, how
 * many it opens something for, what is left of the stream and how much of what it is without a flood, and whether requests and questions are answered. Each question comes from a port of
 * its own, and is asked twice at most. One machine: sender, balancer, servers and stream share its cores. Root.
 */
import { type Balancer, startBalancer } from '../test/lab/balancer.ts';
import { type Flood, floodEnd, startFlood } from '../test/lab/flood.ts';
import { serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { startDns } from '../test/lab/udp.ts';
import { median, spread, table } from './measure.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const SECONDS = 4;
const IPERF = 5201;
const HTTP = 80;
const WHO = 9000;

interface Round {
  /** Thousands a second. */
  readonly sent: number;
  readonly received: number;
  readonly opened: number;
  /** Gbit/s. */
  readonly stream: number;
  /** Of the requests beside it, those that were answered, in percent. */
  readonly answered: number;
  /** Of the questions. */
  readonly told: number;
}

interface Flooding {
  readonly name: string;
  readonly protocol?: 'tcp' | 'udp';
  /** SYNs when left out. */
  readonly steps?: Flood['steps'];
  /** Packets a second; 0: none; undefined: as many as there can be. */
  readonly rate?: number;
}

const PORTS = { tcp: { port: HTTP, protocol: 'tcp' }, udp: { port: WHO, protocol: 'udp' } } as const;

async function round(lab: Topology, balancer: Balancer, { protocol = 'tcp', steps = ['syn'], rate }: Flooding): Promise<Round> {
  const before = await balancer.stats();
  const stream = lab.client.run('iperf3', '-c', VIP, '-p', `${IPERF}`, '-t', `${SECONDS}`, '--json');
  const flood =
    rate === 0 ? undefined : await startFlood(lab, { ...PORTS[protocol], steps, seconds: SECONDS, ...(rate !== undefined && { rate }) });
  const end = performance.now() + SECONDS * 1000;
  let [asked, answered, told] = [0, 0, 0];
  while (performance.now() < end) {
    const { code } = await lab.client.run('curl', '-sS', '--max-time', '2', '-o', '/dev/null', `http://${VIP}/`);
    asked++;
    if (code === 0) answered++;
    if (await isTold(lab)) told++;
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
    told: (100 * told) / asked,
  };
}

/** Whether the UDP service answers a new client within two seconds, asked once a second. */
async function isTold({ client }: Topology): Promise<boolean> {
  const { stdout } = await client.run('dig', `@${VIP}`, '-p', `${WHO}`, '+tries=2', '+timeout=1', '+short', 'TXT', 'who.test');
  return stdout.includes('server');
}

async function measure(): Promise<void> {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const listening = lab.servers[0].start(['iperf3', '-s', '--forceflush', '-p', `${IPERF}`]);
  await listening.line(/Server listening/);
  await startDns(lab.servers[0], 'server1', WHO);
  const over = (port: number, protocol = 'tcp') => ({
    listen: `${VIP}:${port}`,
    servers: [`${serverAddress(0)}:${port}`],
    frontend: `protocol = "${protocol}"`,
    backend: 'health_check = "none"',
  });
  const frontends = { http: over(HTTP), iperf: over(IPERF), who: over(WHO, 'udp') };
  const balancer = await startBalancer(lab.balancer, { frontends }, { healthy: false });
  const floods: readonly Flooding[] = [
    { name: 'none', rate: 0 },
    { name: 'SYNs, 1,000 a second', rate: 1000 },
    { name: 'SYNs, as many as it can' },
    { name: 'ACKs of no connection, as many as it can', steps: ['ack'] },
    { name: 'datagrams, 1,000 a second', protocol: 'udp', rate: 1000 },
    { name: 'datagrams, as many as it can', protocol: 'udp' },
  ];
  const rounds = floods.map((): Round[] => []);
  for (let i = 0; i < ROUNDS; i++) for (const [at, flood] of floods.entries()) rounds[at].push(await round(lab, balancer, flood));
  const streamOf = (at: number): number => median(rounds[at].map(({ stream }) => stream));
  const kept = (at: number): string => ((100 * streamOf(at)) / streamOf(0)).toFixed(0);
  console.log(`medians of ${ROUNDS} interleaved rounds of ${SECONDS} s (least–most)`);
  table([
    [
      'flood',
      'sent, thousand/s',
      'frames received',
      'opened',
      'stream, Gbit/s',
      'kept, %',
      'requests answered, %',
      'questions answered, %',
    ],
    ...floods.map(({ name }, at) => {
      const of = (key: keyof Round, digits = 1) =>
        spread(
          rounds[at].map((one) => one[key]),
          digits,
        );
      return [name, of('sent'), of('received'), of('opened'), of('stream', 2), kept(at), of('answered', 0), of('told', 0)];
    }),
  ]);
  await balancer.stop();
}

await measure();
