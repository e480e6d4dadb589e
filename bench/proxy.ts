/**
 * lb4's proxy mode beside HAProxy (mode tcp) and nginx (stream), in network namespaces, in one run: wrk over 64 kept-alive
 * connections, wrk with a new connection for each request, and one iperf3 stream. Everybody may use both cores, with two workers,
 * threads or processes; what a request costs the balancer itself (user and system time of its processes) stands beside the rate,
 * since wrk and the server use the same cores.
 * Rounds are interleaved, so that noise falls on all alike. Root; `make bench` installs what it needs.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from '../test/lab/balancer.ts';
import type { Running } from '../test/lab/processes.ts';
import { serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { median, spread, table } from './measure.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const SECONDS = 3;
const WORKERS = 2;
const HTTP = 80;
const IPERF = 5201;
const SERVER = serverAddress(0);

/** Starts a balancer of VIP:HTTP and VIP:IPERF over the one server. */
type Subject = (lab: Topology) => Promise<Running>;

const subjects: Record<string, Subject> = {
  lb4: async (lab) => {
    const backend = (name: string, port: number) =>
      `[frontends.${name}]\nlisten_addr = "${VIP}:${port}"\nbackend = "${name}"\n` +
      `[backends.${name}]\nhealth_check_interval = 3600\n[backends.${name}.servers.one]\naddr = "${SERVER}:${port}"\n`;
    const running = launch(lab.balancer, `${backend('http', HTTP)}${backend('iperf', IPERF)}[proxy]\nworkers = ${WORKERS}\n`, 'proxy');
    await running.line(/"msg":"ready"/);
    return running;
  },
  'HAProxy mode tcp': async (lab) => {
    const listen = (name: string, port: number) => `listen ${name}\n  bind ${VIP}:${port}\n  server one ${SERVER}:${port}\n`;
    const text = `global
  nbthread ${WORKERS}
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
${listen('http', HTTP)}${listen('iperf', IPERF)}`;
    return lab.balancer.start(['haproxy', '-db', '-f', write(lab, 'haproxy.cfg', text)]);
  },
  'nginx stream': async (lab) => {
    const server = (port: number) => `  server { listen ${VIP}:${port} reuseport; proxy_pass ${SERVER}:${port}; }\n`;
    const text = `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; worker_processes ${WORKERS}; error_log stderr crit; pid ${join(lab.directory, 'balancer.pid')};
events { worker_connections 4000; }
stream {
${server(HTTP)}${server(IPERF)}}
`;
    return lab.balancer.start(['nginx', '-c', write(lab, 'balancer.conf', text)]);
  },
};

function write(lab: Topology, name: string, text: string): string {
  const file = join(lab.directory, name);
  writeFileSync(file, text);
  return file;
}

function startServers(lab: Topology): void {
  const server = lab.servers[0];
  server.start(['iperf3', '-s', '-p', `${IPERF}`]);
  const text = `daemon off; master_process off; error_log stderr crit; pid ${join(lab.directory, 'server.pid')};
events { worker_connections 4000; }
http { access_log off; keepalive_requests 100000000; server { listen ${HTTP}; location / { return 200 "hello\\n"; } } }
`;
  server.start(['nginx', '-c', write(lab, 'server.conf', text)]);
}

interface Load {
  /** Thousands a second. */
  readonly rate: number;
  /** Milliseconds, the 99th percentile. */
  readonly p99: number;
  /** Microseconds of the balancer's processor time a request. */
  readonly cost: number;
}

async function requests(lab: Topology, balancer: Running, ...headers: string[]): Promise<Load> {
  const before = cpuSeconds(lab);
  const args = headers.flatMap((header) => ['-H', header]);
  const { stdout, stderr } = await lab.client.run('wrk', '-t1', '-c64', `-d${SECONDS}s`, '--latency', ...args, `http://${VIP}:${HTTP}/`);
  const used = cpuSeconds(lab) - before;
  const [, count] = /(\d+) requests in/.exec(stdout) ?? [];
  const [, rate] = /Requests\/sec:\s+([\d.]+)/.exec(stdout) ?? [];
  const [, p99, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout) ?? [];
  const errors = /Socket errors.*|Non-2xx.*/.exec(stdout)?.[0];
  if (count === undefined || rate === undefined || p99 === undefined || errors !== undefined || balancer.exit !== undefined)
    throw new Error(`${balancer.name}: wrk: ${errors ?? (stderr || stdout)}`);
  const scale = { us: 0.001, ms: 1, s: 1000 }[unit as 'us' | 'ms' | 's'];
  return { rate: Number(rate) / 1000, p99: Number(p99) * scale, cost: (used / Number(count)) * 1e6 };
}

/** User and system time of everything in the balancer's namespace, in seconds; ticks are hundredths. */
function cpuSeconds({ balancer }: Topology): number {
  const ticks = balancer.pids().map((pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    return Number(fields[11]) + Number(fields[12]);
  });
  return ticks.reduce((sum, each) => sum + each, 0) / 100;
}

async function gigabits(lab: Topology): Promise<number> {
  const { stdout } = await lab.client.run('iperf3', '-J', '-c', VIP, '-p', `${IPERF}`, '-t', `${SECONDS}`);
  const { error, end } = JSON.parse(stdout) as { error?: string; end?: { sum_received?: { bits_per_second: number } } };
  if (end?.sum_received === undefined) throw new Error(`iperf3: ${error}`);
  return end.sum_received.bits_per_second / 1e9;
}

interface Result {
  readonly kept: Load[];
  readonly fresh: Load[];
  readonly gbit: number[];
}

async function main(): Promise<void> {
  await using lab = new Topology({ servers: 1 });
  // Ten thousand connections a second use up a host's usual ports in three seconds, whoever balances them.
  for (const namespace of [lab.client, lab.balancer]) {
    namespace.sysctl('net.ipv4.ip_local_port_range', '1024 65000');
    namespace.sysctl('net.ipv4.tcp_tw_reuse', '1');
  }
  startServers(lab);
  const results: Record<string, Result> = Object.fromEntries(
    Object.keys(subjects).map((name) => [name, { kept: [], fresh: [], gbit: [] }]),
  );
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, start] of Object.entries(subjects)) {
      const balancer = await start(lab);
      await new Promise((resolve) => setTimeout(resolve, 500));
      const { kept, fresh, gbit } = results[name];
      kept.push(await requests(lab, balancer));
      fresh.push(await requests(lab, balancer, 'Connection: close'));
      gbit.push(await gigabits(lab));
      await balancer.stop('SIGTERM');
    }
  }
  print(results);
}

function print(results: Record<string, Result>): void {
  const own = results['lb4'];
  const ratio = (mine: number[], its: number[]) => (median(mine) / median(its)).toFixed(2);
  const rows = (title: string, loads: (result: Result) => Load[]) => [
    [title, 'thousand/s', 'lb4 / it', 'p99 ms', 'its CPU, µs each', 'lb4 / it'],
    ...Object.entries(results).map(([name, result]) => {
      const [mine, its] = [loads(own), loads(result)];
      return [
        name,
        spread(its.map(({ rate }) => rate)),
        ratio(
          mine.map(({ rate }) => rate),
          its.map(({ rate }) => rate),
        ),
        spread(its.map(({ p99 }) => p99)),
        spread(its.map(({ cost }) => cost)),
        ratio(
          mine.map(({ cost }) => cost),
          its.map(({ cost }) => cost),
        ),
      ];
    }),
  ];
  console.log(`medians of ${ROUNDS} interleaved rounds of ${SECONDS} s (least–most); ratios are lb4's to the row's`);
  table(rows('requests, 64 kept connections', ({ kept }) => kept));
  console.log();
  table(rows('requests, a connection each', ({ fresh }) => fresh));
  console.log();
  table([
    ['one stream', 'Gbit/s', 'lb4 / it'],
    ...Object.entries(results).map(([name, { gbit }]) => [name, spread(gbit), ratio(own.gbit, gbit)]),
  ]);
}

await main();
