/**
 * How long nothing is forwarded when lb4 is killed and started again at once, and when another one takes over; and what wrk notices of a
 * takeover. In network namespaces, everybody on the same cores.
 *
 * The gap: a thousand kept connections and twenty transfers whose hashes are compared, and each millisecond a question on another one of the
 * connections (bench/peers.c, `pace`). The longest time between two answers tells when packets flow again; the longest wait of one
 * connection has the client's TCP in it, which doubles its patience each time that nobody forwards (RFC 6298, 5.5). A connection that ends,
 * a hash that differs or a failed request is lb4's fault and makes this fail. Rounds are interleaved. Root.
 */
import { LARGE_RING, SLOW } from '../test/lab/balancer.ts';
import { contentHash } from '../test/lab/content.ts';
import { Live, MODES } from '../test/lab/live.ts';
import type { Running } from '../test/lab/processes.ts';
import { pause } from '../test/lab/wait.ts';
import { compile, spread, table } from './measure.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const KEPT = 1000;
const TRANSFERS = 20;
const SIZE = 5_000_000;
/** So long a transfer takes, whatever the machine can. */
const TRANSFER_SECONDS = 15;
const WRK_SECONDS = 5;
/** Milliseconds: of `nothing`, and of wrk before the takeover. */
const CALM = 2000;

const SUBJECTS = [
  { mode: 'passthrough', workers: 1 },
  { mode: 'passthrough', workers: 2 },
  { mode: 'dsr', workers: 1 },
] as const;

const more = (workers: number) => `[proxy]\ngrace_period = 600\n[passthrough]\nworkers = ${workers}`;
const begin = (mode: (typeof MODES)[number], workers: number) => Live.start(mode, { checks: SLOW, more: more(workers), ring: LARGE_RING });

/** Milliseconds. */
interface Gap {
  readonly packets: number;
  readonly wait: number;
  /** From the start of the process to "ready"; NaN: nothing was started. */
  readonly start: number;
}

/** Milliseconds from its start until it is ready. */
async function launch(live: Live, ...flags: string[]): Promise<number> {
  const began = performance.now();
  await live.launch(...flags);
  return performance.now() - began;
}

const EVENTS: Record<string, (live: Live) => Promise<number>> = {
  nothing: async () => {
    await pause(CALM);
    return Number.NaN;
  },
  'kill -9, start': async (live) => {
    await live.balancer.stop('SIGKILL');
    const start = await launch(live);
    await live.balancer.running.line(/an lb4 that died go on/);
    return start;
  },
  '--takeover': async (live) => {
    const { running } = live.balancer;
    const start = await launch(live, '--takeover');
    const { code } = await running.exited;
    if (code !== 0) throw new Error(`the lb4 that was taken over from ended with ${code}:\n${running.lines.join('\n')}`);
    return start;
  },
};

/** What the connections have seen since it was asked last; throws when one has died. */
async function seen(pace: Running, what: string): Promise<Omit<Gap, 'start'>> {
  const answer = pace.nextLine(/^\d/, 120_000);
  pace.write('');
  const [packets, wait, dead] = (await answer).split(' ').map(Number);
  if (dead !== 0) throw new Error(`${what}: ${dead} of ${KEPT} connections died`);
  return { packets: packets / 1000, wait: wait / 1000 };
}

async function gaps(peers: string, { mode, workers }: (typeof SUBJECTS)[number]): Promise<Gap[]> {
  await using live = await begin(mode, workers);
  const { client } = live.lab;
  const pace = client.start([peers, 'pace', live.vip, '7', `${KEPT}`]);
  await pace.line(/^holding/);
  const curl = `curl -sS --limit-rate ${Math.round(SIZE / TRANSFER_SECONDS)} http://${live.vip}/content/${SIZE} | sha256sum`;
  const transfers = Array.from({ length: TRANSFERS }, () => client.run('sh', '-c', curl));
  await live.balancer.settled('everything to be under way', (stats) => stats.total_connections === KEPT + TRANSFERS);
  const found: Gap[] = [];
  for (const [event, run] of Object.entries(EVENTS)) {
    const what = `${mode}, ${workers} workers, ${event}`;
    await seen(pace, what);
    const start = await run(live);
    found.push({ ...(await seen(pace, what)), start });
  }
  for (const { stdout, stderr } of await Promise.all(transfers))
    if (stdout.split(' ')[0] !== contentHash(SIZE)) throw new Error(`${mode}, ${workers} workers: a transfer: ${stderr || stdout}`);
  await seen(pace, `${mode}, ${workers} workers, at the end`);
  return found;
}

interface Load {
  readonly requests: number;
  /** What wrk says of failures; empty: none. */
  readonly errors: string;
}

async function wrk(mode: (typeof MODES)[number], headers: readonly string[]): Promise<Load> {
  await using live = await begin(mode, 1);
  const running = live.lab.client.run('wrk', '-t1', '-c32', `-d${WRK_SECONDS}s`, ...headers, `http://${live.vip}/`);
  await pause(CALM);
  await live.launch('--takeover');
  const { stdout, stderr } = await running;
  const [, requests] = /(\d+) requests in/.exec(stdout) ?? [];
  if (requests === undefined) throw new Error(`wrk: ${stderr || stdout}`);
  return { requests: Number(requests), errors: (stdout.match(/Socket errors.*|Non-2xx.*/g) ?? []).join('; ') };
}

async function main(): Promise<void> {
  const peers = compile('peers');
  const gapRows = SUBJECTS.flatMap((subject) => Object.keys(EVENTS).map((event) => ({ subject, event, of: [] as Gap[] })));
  const kinds = { kept: [], 'one each': ['-H', 'Connection: close'] };
  const wrkRows = MODES.flatMap((mode) => Object.entries(kinds).map(([kind, headers]) => ({ mode, kind, headers, of: [] as Load[] })));
  for (let i = 0; i < ROUNDS; i++) {
    for (const subject of SUBJECTS) {
      const rows = gapRows.filter((row) => row.subject === subject);
      for (const [at, gap] of (await gaps(peers, subject)).entries()) rows[at].of.push(gap);
    }
    for (const { mode, headers, of } of wrkRows) of.push(await wrk(mode, headers));
  }
  console.log(`medians of ${ROUNDS} interleaved rounds (least–most), ms; of ${KEPT} connections and ${TRANSFERS} transfers none was lost`);
  const ms = (values: readonly number[]) => (values.some(Number.isNaN) ? '–' : spread(values, 0));
  const column = (of: readonly Gap[], key: keyof Gap) => ms(of.map((one) => one[key]));
  table([
    ['', 'workers', 'event', 'nothing answered for', 'longest wait of one', 'start to ready'],
    ...gapRows.map(({ subject: { mode, workers }, event, of }) => {
      return [mode, `${workers}`, event, column(of, 'packets'), column(of, 'wait'), column(of, 'start')];
    }),
  ]);
  console.log(`\nwrk -t1 -c32, ${ROUNDS} rounds of ${WRK_SECONDS} s with one takeover in each`);
  const failures = (of: readonly Load[]) => of.flatMap(({ errors }) => errors || []).join('; ');
  table([
    ['', 'connections', 'requests', 'failed'],
    ...wrkRows.map(({ mode, kind, of }) => [mode, kind, `${of.reduce((sum, { requests }) => sum + requests, 0)}`, failures(of) || '0']),
  ]);
  if (wrkRows.some(({ of }) => failures(of) !== '')) process.exitCode = 1;
}

await main();
