/**
 * `make demo`: lb4 at work, in fifteen seconds. Namespaces for a client, the balancer and three servers; real HTTP requests, a
 * connection each; one server is killed and brought back. On a terminal the table is redrawn in place.
 */
import { type Balancer, configuration, type Stats, startBalancer } from '../test/lab/balancer.ts';
import type { LoadReport } from '../test/lab/client.ts';
import { HTTP, serverAddress, Topology, VIP } from '../test/lab/topology.ts';
import { pause } from '../test/lab/wait.ts';

const SECONDS = 14;
const RATE = 300;
const SERVERS = 3;
const VICTIM = 1;

const tty = process.stdout.isTTY === true;
const paint = (code: number, text: string): string => (tty ? `\u001b[${code}m${text}\u001b[0m` : text);
const bold = (text: string): string => paint(1, text);
const dim = (text: string): string => paint(2, text);
const red = (text: string): string => paint(31, text);
const green = (text: string): string => paint(32, text);
const print = (text = ''): boolean => process.stdout.write(`${text}\n`);

const name = (index: number): string => `server${index + 1}`;
const endpoint = (index: number): string => `${serverAddress(index)}:${HTTP}`;

/** What the table shows, newest last. */
interface View {
  stats: Stats | undefined;
  load: LoadReport | undefined;
  /** Connections a second of each server, over the last half second or so. */
  rates: number[];
  event: string;
  /** Requests that had failed when the server was killed, and when it was back. */
  failed: number[];
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) {
    process.stderr.write('the demo builds network namespaces and needs root: sudo make demo\n');
    process.exitCode = 77;
    return;
  }
  await using lab = new Topology({ clients: 1, servers: SERVERS });
  print(bold('lb4 in passthrough: every packet is rewritten and handed on; no connection ends at the balancer'));
  print(drawing());
  await lab.startBackends();
  const settings = {
    frontends: {
      web: {
        listen: `${VIP}:${HTTP}`,
        servers: Array.from({ length: SERVERS }, (_, index) => endpoint(index)),
        backend: 'health_check_interval = 0.5\nhealth_check_rise = 1\nhealth_check_fall = 1',
      },
    },
    more: '[passthrough]\nfast_path = "auto"\n',
  };
  print(dim(`$ lb4 --passthrough --config=demo.toml\n${indented(configuration(settings))}`));
  const balancer = await startBalancer(lab.balancer, settings);
  print(dim(fastPathOf(balancer)));
  await show(lab, balancer);
  const { code } = await balancer.stop();
  print(code === 0 ? dim('lb4 took its firewall rules back and ended; the namespaces go too.') : red(`lb4 ended with ${code}`));
  process.exitCode = code ?? 1;
}

/** Where established connections are forwarded, or why by lb4 alone: as its log says it. */
function fastPathOf({ running: { lines } }: Balancer): string {
  const said = lines
    .filter((line) => line.includes('fast path'))
    .map((line) => JSON.parse(line) as { msg: string; tc?: string[]; xdp?: string[] });
  const at = said.flatMap(({ tc = [], xdp = [] }) => [...tc.map((name) => `tc of ${name}`), ...xdp.map((name) => `XDP of ${name}`)]);
  return at.length > 0 ? `fast path: the kernel forwards established connections, by ${at.join(', ')}` : (said[0]?.msg ?? 'no fast path');
}

async function show(lab: Topology, balancer: Balancer): Promise<void> {
  const load = lab.client.program('client', 'load', `${RATE}`, `http://${VIP}/content/20000`);
  const view: View = {
    stats: undefined,
    load: undefined,
    rates: Array.from({ length: SERVERS }, () => 0),
    event: 'all servers up',
    failed: [],
  };
  load.onLine((line) => update(view, JSON.parse(line) as LoadReport));
  const start = performance.now();
  const steps = [
    { at: SECONDS / 3, act: () => kill(lab, view) },
    { at: (SECONDS * 2) / 3, act: () => revive(lab, view) },
  ];
  let drawn = 0;
  for (let elapsed = 0; elapsed < SECONDS; elapsed = (performance.now() - start) / 1_000) {
    const [step] = steps;
    if (step !== undefined && elapsed >= step.at) {
      steps.shift();
      await step.act();
    }
    view.stats = await balancer.stats();
    drawn = draw(view, elapsed, drawn);
    await pause(tty ? 200 : 1_000);
  }
  load.end();
  await load.exited;
  const stats = await balancer
    .settled('the last connections to end', (last) => last.current_connections === 0)
    .catch(() => balancer.stats());
  closing(view, stats);
}

function update(view: View, load: LoadReport): void {
  const before = view.load;
  view.load = load;
  view.rates = view.rates.map((rate, index) => {
    const answers = (report: LoadReport | undefined): number => report?.servers[name(index)]?.answers ?? 0;
    return rate * 0.6 + (answers(load) - answers(before)) * 5 * 0.4;
  });
}

async function kill(lab: Topology, view: View): Promise<void> {
  view.failed.push(view.load?.failed ?? 0);
  await lab.killBackend(VICTIM);
  view.event = red(`${name(VICTIM)} killed: the others take over`);
}

async function revive(lab: Topology, view: View): Promise<void> {
  await lab.startBackend(VICTIM);
  view.failed.push(view.load?.failed ?? 0);
  view.event = green(`${name(VICTIM)} is back`);
}

/** Draws the table, over the last one on a terminal. Returns how many lines it took. */
function draw(view: View, elapsed: number, drawn: number): number {
  const up = view.stats?.backends['web-out']?.servers ?? {};
  const rows = view.rates.map((rate, index) => {
    const served = view.load?.servers[name(index)] ?? { answers: 0, bytes: 0 };
    const isUp = up[endpoint(index)] === true;
    const state = isUp ? green('up  ') : red('DOWN');
    const bar = '█'.repeat(Math.round(rate / 8)).padEnd(24);
    return `  ${name(index)}  ${endpoint(index)}  ${state}  ${cell(served.answers, 11)}  ${cell(rate, 6)}/s  ${size(served.bytes)}  ${isUp ? green(bar) : red(bar)}`;
  });
  const lines = [
    '',
    `${bold(`${elapsed.toFixed(0).padStart(3)} s`)}  ${view.event}`,
    dim('  server   address        state  connections      rate      bytes'),
    ...rows,
    dim(
      `  open now ${view.stats?.current_connections ?? 0} · flows ${view.stats?.lb4.flows ?? 0} · median ${(view.load?.median ?? 0).toFixed(1)} ms · failed requests ${view.load?.failed ?? 0}`,
    ),
  ];
  if (tty && drawn > 0) process.stdout.write(`\u001b[${drawn}A`);
  process.stdout.write(lines.map((line) => (tty ? `\u001b[2K${line}\n` : `${line}\n`)).join(''));
  return lines.length;
}

function closing({ load, failed: [before = 0, after = before] }: View, stats: Stats): void {
  const sent = load?.sent ?? 0;
  const failed = load?.failed ?? 0;
  const answered = Object.values(load?.servers ?? {}).reduce((sum, server) => sum + server.answers, 0);
  print();
  print(bold('In the end'));
  print(`  ${sent} requests, each on a connection of its own; ${answered} answered, ${failed} failed${whyOf(after - before, failed)}`);
  print(
    `  lb4 counted ${stats.total_connections} connections, ${size(stats.total_bytes_rx).trim()} to the client, ${size(stats.total_bytes_tx).trim()} to the servers`,
  );
  const verdicts = Object.entries(stats.lb4.verdicts).filter(([, count]) => count > 0);
  print(`  packets: ${verdicts.map(([verdict, count]) => `${count} ${verdict}`).join(', ')}`);
}

/** Why so many requests failed, of which `dead` while a server was dead. A client waits for two seconds. */
function whyOf(dead: number, failed: number): string {
  if (failed === 0) return '';
  if (dead === failed) return ' (to the dead server, until a check saw it)';
  const late = `${failed - dead} while all servers ran, so this machine is too busy to answer in time`;
  return dead === 0 ? ` (${late})` : ` (${dead} while one was dead, ${late})`;
}

function drawing(): string {
  return dim(
    [
      '',
      '  client 10.71.0.101 ──── VIP 10.71.0.1:80 [ lb4 ] 10.72.0.1 ──┬── server1 10.72.0.11',
      '                                                               ├── server2 10.72.0.12',
      '                                                               └── server3 10.72.0.13',
      '',
    ].join('\n'),
  );
}

function indented(text: string): string {
  return text.trimEnd().replaceAll(/^/gm, '    ');
}

function cell(value: number, width: number): string {
  return value.toFixed(0).padStart(width);
}

function size(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB'];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toFixed(power === 0 ? 0 : 1).padStart(6)} ${(units[power] ?? '').padEnd(2)}`;
}

await main();
