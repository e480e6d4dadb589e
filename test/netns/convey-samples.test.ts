/** Convey's three sample files, unchanged, each in the mode it is meant for, on hosts with the addresses that it names. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { conveyStats, lb4Stats } from '../fixtures/convey-stats.schema.ts';
import { Balancer, LB4, type Mode } from '../lab/balancer.ts';
import { Lab, type Namespace, ROOT } from '../lab/lab.ts';
import { waitUntil } from '../lab/wait.ts';

const VIP = '192.168.1.140';
const SERVERS = [21, 22, 23, 24].map((host) => `192.168.1.${host}`);

interface Sample {
  readonly mode: Mode;
  readonly flags: readonly string[];
  /** Each frontend's port, which is its servers' too, its servers' names, and requests to send to it. */
  readonly frontends: readonly { name: string; port: number; servers: number; requests: number }[];
  /** How many of a frontend's requests each server answers, where the file says so. */
  readonly shares?: Record<number, Record<string, number>>;
}

const SAMPLES: readonly Sample[] = [
  {
    mode: 'proxy',
    flags: [],
    frontends: [
      { name: 'tcp_3000', port: 3000, servers: 4, requests: 112 },
      { name: 'tcp_3001', port: 3001, servers: 2, requests: 10 },
    ],
    shares: { 3000: { server1: 10, server2: 100, server3: 1, server4: 1 }, 3001: { server1: 5, server2: 5 } },
  },
  { mode: 'passthrough', flags: ['--passthrough'], frontends: [{ name: 'tcp_80', port: 80, servers: 4, requests: 80 }] },
  { mode: 'dsr', flags: ['--dsr'], frontends: [{ name: 'tcp_80', port: 80, servers: 4, requests: 80 }] },
];

/** All on one switch: client .5, balancer .140, servers .21 to .24. */
class SampleLab extends Lab {
  readonly client = this.namespace('client');
  readonly balancer = this.namespace('balancer');
  readonly servers = SERVERS.map((_, index) => this.namespace(`server${index + 1}`));

  constructor() {
    super();
    const port = this.bridge('switch');
    port(this.client, 'eth0', '192.168.1.5/24');
    port(this.balancer, 'eth0', `${VIP}/24`);
    for (const [index, server] of this.servers.entries()) port(server, 'eth0', `${SERVERS[index]}/24`);
  }

  async serve(ports: readonly number[]): Promise<void> {
    const start = (server: Namespace, index: number) =>
      server.program('backend', `server${index + 1}`, ...ports.map((port) => `http=${port}`)).line(/^listening/);
    await Promise.all(this.servers.map(start));
  }

  /** Each server's script for DSR, made from the same file. */
  installScripts(file: string): void {
    for (const [index, server] of this.servers.entries()) {
      const script = join(this.directory, `server${index + 1}.sh`);
      server.sh('sh', '-c', `${LB4} rules --dsr --for ${SERVERS[index]} --config=${file} > ${script} && sh ${script} install`);
    }
  }
}

/** How often each server answers. */
async function answers(client: Namespace, port: number, requests: number): Promise<Record<string, number>> {
  const urls = Array.from({ length: requests }, () => `http://${VIP}:${port}/`);
  const { code, stdout, stderr } = await client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
  expect(code, stderr).toBe(0);
  const counts: Record<string, number> = {};
  for (const name of stdout.trim().split('\n')) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

test.each(SAMPLES)('the $mode sample: answers through every frontend, and /stats is Convey’s document', async (sample) => {
  const file = join(ROOT, `test/fixtures/convey/${sample.mode}.toml`);
  await using lab = new SampleLab();
  await lab.serve(sample.frontends.map(({ port }) => port));
  if (sample.mode === 'dsr') lab.installScripts(file);
  // On one CPU proxy mode has one worker, and a worker keeps to the weights exactly.
  const running = lab.balancer.start(['taskset', '-c', '0', LB4, ...sample.flags, `--config=${file}`]);
  await running.line(/"msg":"ready"/);
  // One word of advice, as its documentation says, and no more.
  const advice = expect.stringMatching(
    /stats\.address: missing: the statistics are on every address of this host, as with Convey/,
  ) as string;
  // But for the control socket, which another test of this host may have.
  expect(running.lines.filter((line) => /"level":"(?!debug|info)/.test(line) && !line.includes('control:'))).toEqual([advice]);

  for (const { port, servers, requests } of sample.frontends) {
    const counts = await answers(lab.client, port, requests);
    expect(Object.keys(counts).sort()).toEqual(Array.from({ length: servers }, (_, index) => `server${index + 1}`));
    if (sample.shares !== undefined) expect(counts).toEqual(sample.shares[port]);
  }

  const balancer = new Balancer(lab.client, running, `http://${VIP}:7000/stats`);
  const sent = sample.frontends.reduce((sum, { requests }) => sum + requests, 0);
  const checked = sample.frontends.reduce((sum, { servers }) => sum + servers, 0);
  const stats = await waitUntil(
    async () => {
      const document = lb4Stats.parse(await balancer.stats());
      const states = Object.values(document.backends).flatMap(({ servers }) => Object.values(servers));
      const isDone = document.total_connections === sent && document.current_connections === 0;
      return isDone && states.length === checked && document.total_bytes_tx > 0 ? document : undefined;
    },
    { what: 'the counts and the first checks', every: 50 },
  );
  const { lb4: _, ...convey } = stats;
  expect(conveyStats.parse(convey)).toEqual(convey);
  for (const { name, port, servers, requests } of sample.frontends) {
    expect(stats.frontends[name]?.total_connections).toBe(requests);
    const backend = stats.backends[`${name.replace('_', '')}_out`];
    const states = Object.fromEntries(SERVERS.slice(0, servers).map((address) => [`${address}:${port}`, true]));
    expect([backend?.total_connections, backend?.servers]).toEqual([requests, states]);
  }
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});
