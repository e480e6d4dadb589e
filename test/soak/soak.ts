/**
 * Mixed churn for minutes: `node dist/test/soak/soak.js [MINUTES [FAST_PATH]]`, as root. Short connections that get random bytes of their own back, transfers
 * whose hash is known, and a hundred that stay, while things happen to lb4, in two halves:
 *
 *     rough   kill -9, takeovers, reloads, servers that die        connections go on; nothing is left at the end
 *     steady  reloads and servers that die, one process all along  memory, descriptors and pins stay flat
 *
 * A line a round, then what is wrong, and status 1 if anything is. What a dead server had under way may end, and only that; nothing may ever get another's bytes.
 * After each round all that is under way is stopped, and the books have to balance (books.ts): whoever is denied is among those who try.
 */
import { QUICK } from '../lab/balancer.ts';
import type { EchoReport } from '../lab/client.ts';
import { contentHash } from '../lab/content.ts';
import { holdConnections, report } from '../lab/hold.ts';
import { Live } from '../lab/live.ts';
import { Topology } from '../lab/topology.ts';
import { NOTHING, pinsIn, traces } from '../lab/traces.ts';
import { Books } from './books.ts';
import { Figures } from './figures.ts';

const [minutes = 5, fastPath = 'off'] = [Number(process.argv[2] ?? 5), process.argv[3]];
const HELD = 100;
/** Of a round: connections at a time and bytes each; transfers and bytes each. */
const [ECHOES, ECHOED] = [50, 20_000];
const [TRANSFERS, SIZE] = [4, 5_000_000];
/** Milliseconds that any of it may take: a connection that was cut off by a kill asks again after up to a minute. */
const LIMIT = 180_000;
/** Another address of the client's, whom the frontends deny, and how often it tries in a round. */
const STRANGER = '10.71.0.200';
const TRIES = 5;
/** curl(1). */
const TIMED_OUT = 28;
const FRONTEND = `deny = ["${STRANGER}"]`;
const MORE = `[passthrough]\nfast_path = "${fastPath}"\n[passthrough.timeouts]\ntime_wait = 1\nfin = 5`;

const wrong: string[] = [];
const note = (what: string): void => {
  wrong.push(what);
  process.stdout.write(`WRONG: ${what}\n`);
};

await using live = await Live.start('passthrough', { more: MORE, frontend: FRONTEND });
const { client, balancer: host } = live.lab;
client.ip('address', 'add', `${STRANGER}/24`, 'dev', 'eth0');
const held = await holdConnections(client, HELD, `${live.vip}:7`, 200);
/** Whether a server has died in this round: what it had under way may end. */
let hasDied = false;
let turn = 0;

const reload = (): Promise<void> =>
  live.reload({ more: MORE, frontend: FRONTEND, weights: [1 + (turn % 3), 1 + ((turn + 1) % 2)], checks: QUICK });

async function killAndGoOn(): Promise<void> {
  await live.balancer.stop('SIGKILL');
  await live.launch();
}

async function takeOver(): Promise<void> {
  const old = live.balancer.running;
  await live.launch('--takeover');
  const { code } = await old.exited;
  if (code !== 0) note(`a takeover: the old lb4 ended with ${code}`);
}

/** The second server, on which none of those that stay may be. */
async function serverDies(): Promise<void> {
  if (!(live.lab instanceof Topology)) return;
  hasDied = true;
  await live.lab.killBackend(1);
  await live.lab.startBackend(1);
}

const ROUGH = [killAndGoOn, reload, takeOver, serverDies];
const STEADY = [reload, serverDies];

/** What connections of a round have seen that they may not see. */
async function churn(): Promise<void> {
  const curl = `curl -sS --max-time ${LIMIT / 1000} http://${live.vip}/content/${SIZE} | sha256sum`;
  const echoes = client.program('client', 'echo', `${ECHOES}`, `${ECHOED}`, `${live.vip}:7`);
  const stranger = `curl -sS --interface ${STRANGER} --connect-timeout 1 http://${live.vip}/`;
  const tries = Array.from({ length: TRIES }, () => client.run('sh', '-c', stranger));
  const transfers = Array.from({ length: TRANSFERS }, () => client.runFor(LIMIT, 'sh', '-c', curl));
  const { errors } = JSON.parse(await echoes.line(/^\{/, LIMIT)) as EchoReport;
  for (const error of errors) if (!hasDied || /other data/.test(error)) note(`an echo: ${error}`);
  for (const { stdout, stderr } of await Promise.all(transfers)) {
    const isRight = stdout.startsWith(contentHash(SIZE));
    // One that was cut off has another hash, and curl says so.
    if (!isRight && !(hasDied && /transfer closed|reset by peer|connect to|Empty reply/.test(stderr)))
      note(`a transfer: ${stdout.trim()} ${stderr.trim()}`);
  }
  for (const { code, stdout } of await Promise.all(tries))
    if (code !== TIMED_OUT) note(`who is denied: curl ended with ${code}, and got ${stdout}`);
}

async function stayed(): Promise<void> {
  for (const [index, { server, ended }] of (await report(held)).entries()) {
    const isExcused = server === 'server2' && died.has('server2') && ended?.startsWith('got ') !== true;
    if (ended !== undefined && !isExcused && !told.has(index)) {
      told.add(index);
      note(`connection ${index} to ${server}: ${ended}`);
    }
  }
}
const died = new Set<string>();
const told = new Set<number>();

async function round(events: readonly (() => Promise<void>)[]): Promise<string> {
  hasDied = false;
  const event = events[turn++ % events.length];
  const under = churn();
  await event();
  if (hasDied) died.add('server2');
  await under;
  await stayed();
  return event.name;
}

/** What the books say while nothing is under way. */
async function audit(event: string): Promise<string> {
  held.signal('SIGSTOP');
  try {
    const { wrong: errors, seen } = await books.audit(live.balancer, event === killAndGoOn.name);
    for (const error of errors) note(`after ${event}: ${error}`);
    return seen;
  } finally {
    held.signal('SIGCONT');
  }
}

async function half(name: string, events: readonly (() => Promise<void>)[], figures: Figures): Promise<void> {
  const end = Date.now() + (minutes * 60_000) / 2;
  // A whole turn at the least.
  for (let rounds = 0; rounds < events.length || Date.now() < end; rounds++) {
    const event = await round(events);
    const counted = await audit(event);
    const seen = await figures.take(live.balancer, host.sh('sh', '-c', `ls ${pinsIn(host.name)} 2>/dev/null | wc -l`));
    process.stdout.write(`${name} ${rounds + 1}: ${event}; ${counted}; ${seen}\n`);
  }
}

const books = new Books();
await half('rough', ROUGH, new Figures());
// From here on it is one process.
await killAndGoOn();
await audit(killAndGoOn.name);
const figures = new Figures();
await half('steady', STEADY, figures);
for (const what of figures.grown()) note(what);
held.end();
await held.exited;
await live.balancer.settled('every flow to end', ({ lb4 }) => lb4.flows === 0, LIMIT);
const { current_connections: current } = await live.balancer.stats();
if (current !== 0) note(`${current} connections are in the books, and none is there`);
if ((await live.metric('lb4_port_pool_ports_in_use')) !== 0) note('ports are in use, and no connection is there');
for (const error of (await books.audit(live.balancer, false)).wrong) note(`at the end: ${error}`);
if (books.denied < turn) note(`${books.denied} tries of who is denied are in the books, of ${turn * TRIES}`);
const { code } = await live.balancer.stop();
if (code !== 0) note(`it ended with ${code}`);
const left = JSON.stringify(traces(host));
if (left !== JSON.stringify(NOTHING)) note(`it left ${left}`);
process.stdout.write(
  wrong.length === 0 ? `nothing was wrong in ${turn} rounds\n` : `${wrong.length} things were wrong in ${turn} rounds\n`,
);
process.exitCode = wrong.length === 0 ? 0 : 1;
