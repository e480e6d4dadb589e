/**
 * A whole lb4 with a million connections, in network namespaces: bench/traffic.c opens them (SYN, SYN+ACK, ACK; no kernel has sockets for
 * them), and then what they cost it is measured, at rest and while it is killed, taken over from, full and emptied. Each time all of them
 * say something: a connection that is not known any more is lb4's fault and makes this fail. LB4_BENCH_CONNECTIONS: so many. Root.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Balancer, LARGE_RING, type Stats, startBalancer, UNTALKATIVE } from '../test/lab/balancer.ts';
import { openConnections, startAnswers } from '../test/lab/flood.ts';
import { serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { keptIn } from '../test/lab/traces.ts';
import { pause } from '../test/lab/wait.ts';
import { table } from './measure.ts';

const COUNT = Number(process.env['LB4_BENCH_CONNECTIONS'] ?? 1_000_000);
const PORT = 8080;
/** Servers × addresses that connections leave from × 27,233 ports are more than a million. */
const SERVERS = 4;
const SOURCES = Array.from({ length: 10 }, (_, i) => `10.72.0.${101 + i}`);
const MOST_PASSES = 8;
const REST_MS = 20_000;
const REFUSED = 20;

const settings = (more: string) => ({
  frontends: {
    many: {
      listen: `${VIP}:${PORT}`,
      servers: Array.from({ length: SERVERS }, (_, i) => `${serverAddress(i)}:${PORT}`),
      backend: `${UNTALKATIVE}\nsource_addrs = [${SOURCES.map((one) => `"${one}"`).join()}]`,
    },
  },
  more: `[passthrough]\nconnection_tracker_capacity = ${COUNT}\n${more}`,
  ring: LARGE_RING,
});

/** A client, lb4 and all servers, which are addresses of one host, as all sources are of lb4's. */
function topology(): Topology {
  const lab = new Topology({ servers: 1 });
  for (let i = 1; i < SERVERS; i++) lab.servers[0].ip('addr', 'add', `${serverAddress(i)}/24`, 'dev', 'eth0');
  for (const source of SOURCES) lab.balancer.ip('addr', 'add', `${source}/24`, 'dev', 'back');
  startAnswers(lab.servers[0], PORT);
  return lab;
}

const established = ({ frontends }: Stats) => frontends['many']?.current_connections ?? 0;

async function openAll(lab: Topology, balancer: Balancer): Promise<number> {
  for (let pass = 1; pass <= MOST_PASSES; pass++) {
    await openConnections(lab, PORT, COUNT);
    if (established(await balancer.stats()) === COUNT) return pass;
  }
  throw new Error(`${established(await balancer.stats())} connections of ${COUNT} after ${MOST_PASSES} passes`);
}

/** Each client asks once more, and its server answers. Throws where lb4 does not know one any more. */
async function allSpeak(lab: Topology, balancer: Balancer, when: string): Promise<string> {
  const before = await balancer.stats();
  if (established(before) !== COUNT) throw new Error(`${when}: ${established(before)} connections of ${COUNT}`);
  await openConnections(lab, PORT, COUNT);
  const after = await balancer.stats();
  const grown = (name: string) => (after.lb4.verdicts[name] ?? 0) - (before.lb4.verdicts[name] ?? 0);
  const odd = Object.keys(after.lb4.verdicts).filter((name) => name !== 'forwarded' && grown(name) > 0);
  if (odd.length > 0) throw new Error(`${when}: ${odd.map((name) => `${name} ${grown(name)}`).join(', ')}`);
  return 'and each was answered by its server';
}

/** Of a process, in MB. */
function memory({ running: { pid } }: Balancer): Record<'RssAnon' | 'RssShmem' | 'VmRSS', number> {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name: string) => (Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024) / 1e6;
  return { RssAnon: of('RssAnon'), RssShmem: of('RssShmem'), VmRSS: of('VmRSS') };
}

/** Milliseconds of processor time that a process has had. */
function processorTime({ running: { pid } }: Balancer): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function atRest(balancer: Balancer): Promise<number> {
  const before = processorTime(balancer);
  await pause(REST_MS);
  return ((processorTime(balancer) - before) / REST_MS) * 100;
}

/** Of clients that find the table full, how many were refused at once. */
async function refusals(lab: Topology, balancer: Balancer): Promise<[answered: number, counted: number]> {
  const before = await balancer.verdict('resetTableFull');
  const ask = () => lab.client.run('curl', '-sS', '--max-time', '20', `http://${VIP}:${PORT}/`);
  const codes = [];
  for (let i = 0; i < REFUSED; i++) codes.push((await ask()).code);
  return [codes.filter((code) => code === 7).length, (await balancer.verdict('resetTableFull')) - before];
}

async function timed(what: () => Promise<unknown>): Promise<string> {
  const began = performance.now();
  await what();
  return `${((performance.now() - began) / 1000).toFixed(2)} s`;
}

async function main(): Promise<void> {
  await using lab = topology();
  const rows: string[][] = [];
  const tell = (what: string, figure: string) => {
    rows.push([what, figure]);
    process.stderr.write(`${what}: ${figure}\n`);
  };
  const megabytes = (value: number) => `${value.toFixed(1)} MB`;
  const percent = (value: number) => `${value.toFixed(1)} % of a processor`;

  let balancer = await startBalancer(lab.balancer, settings(''));
  const file = keptIn(lab.balancer.name).map((directory) => statSync(join(directory, 'table'), { throwIfNoEntry: false }));
  const shared = (file.find((one) => one !== undefined)?.blocks ?? Number.NaN) * 512;
  // What it needs for any connection at all is there after some.
  tell('at rest, without a connection', percent(await atRest(balancer)));
  const empty = memory(balancer);
  let passes = 0;
  tell(
    `${COUNT.toLocaleString('en')} connections opened in`,
    await timed(async () => {
      passes = await openAll(lab, balancer);
    }),
  );
  const full = memory(balancer);
  tell('passes, where an ACK was lost', `${passes}`);
  tell('the table, shared', megabytes(shared / 1e6));
  tell('the process beside it, without and with them', `${megabytes(empty.RssAnon)}, ${megabytes(full.RssAnon)}`);
  tell('all that grows with them, a connection', `${((shared + (full.RssAnon - empty.RssAnon) * 1e6) / COUNT).toFixed(0)} bytes`);
  tell('at rest, with them', percent(await atRest(balancer)));
  tell('all speak', await allSpeak(lab, balancer, 'opened'));
  const [refused, counted] = await refusals(lab, balancer);
  tell(`of ${REFUSED} more, refused at once, counted as resetTableFull`, `${refused}, ${counted}`);

  await balancer.stop('SIGKILL');
  const restarted = await timed(async () => {
    balancer = await startBalancer(lab.balancer, settings(''));
  });
  tell('killed, and started again in', restarted);
  tell('of them go on', `${(JSON.parse(await balancer.running.line(/go on/)) as { connections: number }).connections}`);
  tell('all speak', await allSpeak(lab, balancer, 'after the kill'));

  const { running: last } = balancer;
  const taken = await timed(async () => {
    balancer = await startBalancer(lab.balancer, settings(''), { args: ['--takeover'] });
  });
  tell('taken over from in', taken);
  tell('packets waited', `${(JSON.parse(await balancer.running.line(/packets waited/)) as { ms: number }).ms} ms at most`);
  if ((await last.exited).code !== 0) throw new Error(last.lines.join('\n'));
  tell('all speak', await allSpeak(lab, balancer, 'after the takeover'));

  // All of them are silent for longer than that.
  await balancer.stop('SIGKILL');
  balancer = await startBalancer(lab.balancer, settings('[passthrough.timeouts]\nestablished = 1\n'), { healthy: false });
  tell('all removed, by a timeout of 1 s, in', await timed(() => balancer.settled('all to go', ({ lb4 }) => lb4.flows === 0, 120_000)));
  const { lb4, current_connections: current } = await balancer.stats();
  const ports = Object.values(lb4.servers['many-out']).reduce((sum, one) => sum + (one.ports ?? 0), 0);
  if (current !== 0 || ports !== 0) throw new Error(`${current} connections and ${ports} ports are left`);
  tell('left of them', 'nothing');
  const { code } = await balancer.stop();
  if (code !== 0) throw new Error(`lb4 ended with ${code}`);
  table([['', ''], ...rows]);
}

await main();
