/**
 * Where a connection would go, and why, without a packet: `lb4 trace`. In the order in which a data path decides: what is there already, limits,
 * affinity, the scheduler; asked of the plan that is in force, and of the schedulers themselves.
 */
import { foresee, isFull, type Loads } from '../balance/index.ts';
import { type Address, readAddress } from '../config/address.ts';
import { factsOf, fansOut, isPacketMode, type Mode } from '../config/modes.ts';
import { OrderError, type Trace, type TracedServer } from '../control/orders.ts';
import type { CarriedFlow } from '../engine/flow-list.ts';
import { hashableAddress } from '../proxy/address.ts';
import { deniedBy, wouldDeny } from './access.ts';
import type { DataPath } from './data-path.ts';
import { type ExplainParts, explain, NOT_CHOSEN } from './explain.ts';
import { flowRows, frontendsNamed } from './flow-names.ts';
import type { Plan, PlannedBackend, PlannedFrontend, PlannedServer } from './plan.ts';
import { serverName } from './server-names.ts';
import { labelOf, stateOf } from './view.ts';

export interface TraceParts extends ExplainParts {
  readonly mode: Mode;
  readonly plan: Plan;
  readonly path: Pick<DataPath, 'server' | 'frontend' | 'queued' | 'packets' | 'kept' | 'flows'>;
  /** No new connections are taken any more. */
  readonly isStopping: boolean;
}

/** What is known of a question. */
interface Asked extends TraceParts {
  readonly client: Address;
  readonly entry: PlannedFrontend;
  readonly backend: PlannedBackend;
  readonly loads: Loads;
  readonly flow: CarriedFlow | undefined;
  readonly kept: { readonly server: number; readonly leftMs: number } | undefined;
}

/** Where it goes: to the one server of `among`, or one of them. */
interface Way {
  readonly outcome: Trace['outcome'];
  readonly among: readonly number[];
  readonly reasons: readonly string[];
}

/** Servers that are asked for a port in place of the one chosen (forward/opener.ts). */
const TRIES = 16;
const MAKES_WAY = 'unless one of its connections that has been half-open for a second makes way';

/** One answer for each protocol of the frontend. Rejects with an OrderError for what is no address, and a name that there is not. */
export async function trace(client: string, frontend: string, parts: TraceParts): Promise<Trace[]> {
  const address = clientIn(client);
  const named = frontendsNamed(frontend, parts.plan);
  const all = parts.plan.frontends.filter(({ index }) => named.has(index));
  const here = all.filter(({ draining }) => !draining);
  return Promise.all((here.length > 0 ? here : all).map((entry) => traceOne(address, entry, parts)));
}

async function traceOne(client: Address, entry: PlannedFrontend, parts: TraceParts): Promise<Trace> {
  const { plan, path, mode } = parts;
  const { index, frontend } = entry;
  const { listen } = frontend;
  if (client.family !== listen.family)
    throw new OrderError('wrong', `client: ${client.ip} cannot call ${listen.text}: that is IPv${listen.family}`);
  const backend = plan.backends.find((one) => one.backend.name === frontend.backend.name);
  if (backend === undefined) throw new OrderError('refused', `the backend of ${labelOf(frontend)} has gone`);
  const bits = client.family === 6 ? 128 : 32;
  const carried = await path.flows({ frontends: new Set([index]), client: { ip: client.ip, bits, port: client.port }, ended: true }, 1);
  const flow = frontend.udpPerPacket === true ? undefined : carried.flows[0];
  const asked: Asked = { ...parts, client, entry, backend, flow, loads: loadsOf(backend, path), kept: path.kept?.(index, client.ip) };
  const way = wayOf(asked);
  const among = way.among.flatMap((one) => serverAt(asked, one) ?? []);
  const [only] = way.outcome === 'open' ? [] : among;
  return {
    client: client.text,
    frontend: labelOf(frontend),
    protocol: backend.backend.protocol.name,
    to: listen.text,
    backend: labelOf(backend.backend),
    mode,
    balance: backend.choice.scheduler,
    outcome: way.outcome,
    server: only === undefined ? null : serverName(backend.backend, only),
    address: only?.server.addr.text ?? null,
    among: among.map((one) => serverName(backend.backend, one)),
    reasons: [...aboutClient(asked), ...way.reasons, ...troubles(asked, among)],
    flow: flow === undefined ? null : (flowRows([flow], plan)[0] ?? null),
    affinity: affinityOf(asked),
    servers: backend.servers.map((server) => tracedServer(server, asked)),
  };
}

function clientIn(text: string): Address {
  const address = readAddress(text);
  if ('problem' in address)
    throw new OrderError('wrong', `client: "${text}" ${address.problem}; allowed: an address with a port, "192.0.2.1:4711"`);
  return address;
}

function loadsOf({ servers }: PlannedBackend, path: TraceParts['path']): Loads {
  const loads = new Int32Array(1 + servers.reduce((most, { index }) => Math.max(most, index), 0));
  for (const { index } of servers) loads[index] = path.server(index).load;
  return loads;
}

function wayOf(asked: Asked): Way {
  const there = goingOn(asked);
  if (there !== undefined) return there;
  const way = refusedByFrontend(asked) ?? keptWay(asked) ?? chosenWay(asked);
  const rule = asked.entry.frontend.dryRun === true ? wouldDeny(asked.entry.frontend, asked.client) : undefined;
  const would = `${rule} of ${labelOf(asked.entry.frontend)} would keep the client out, but for dry_run`;
  return rule === undefined ? way : { ...way, reasons: [...way.reasons, would] };
}

/** What is there of that client and port. */
function goingOn(asked: Asked): Way | undefined {
  const { flow } = asked;
  if (flow === undefined) return undefined;
  const name = nameAt(asked, flow.server);
  if (name === undefined) return { outcome: 'flow', among: [], reasons: [`there is one already (${flow.state}), which has no server yet`] };
  const way = (reason: string): Way => ({ outcome: 'flow', among: [flow.server], reasons: [reason] });
  const { state } = flow;
  if (state === 'time wait' || state === 'closed')
    return takes(asked, flow.server)
      ? way(`the last one from that port has ended (${state}): a new one goes to the same server`)
      : undefined;
  // It makes way for a first packet.
  if (state === 'opening' && candidateAt(asked, flow.server) === undefined) return undefined;
  return way(`there is one already (${state}), with ${name}: it goes on there`);
}

/** Whether one more may go from the frontend to a server. */
function takes(asked: Asked, server: number): boolean {
  const candidate = candidateAt(asked, server);
  if (deniedBy(asked.entry.frontend, asked.client) !== undefined) return false;
  return !asked.entry.draining && !asked.isStopping && !isFrontendFull(asked) && candidate !== undefined && !isFull(candidate, asked.loads);
}

function refusedByFrontend(asked: Asked): Way | undefined {
  const { entry, backend, client, isStopping, mode } = asked;
  const isPackets = isPacketMode(mode);
  const refused = (reason: string): Way => ({ outcome: 'refused', among: [], reasons: [reason] });
  if (isStopping) return refused('this lb4 stops: it takes no new connections');
  if (entry.draining) return refused(`${labelOf(entry.frontend)} has left the file: it takes no new connections`);
  const rule = deniedBy(entry.frontend, client);
  if (rule !== undefined) return refused(`${rule} of ${labelOf(entry.frontend)} keeps the client out`);
  if (backend.choice.candidates.length === 0) return refused(`no server of ${labelOf(backend.backend)} may be chosen`);
  if (isFrontendFull(asked)) {
    const full = `${labelOf(entry.frontend)} is full: ${asked.path.frontend(entry.index).load} connections of maxconn ${entry.frontend.maxconn}`;
    return isPackets ? refused(`${full}; ${MAKES_WAY}`) : { outcome: 'waits', among: [], reasons: [`${full}: it is not accepted yet`] };
  }
  const { flows = 0, flowCapacity = 1, halfOpen = 0, datagrams = 0 } = asked.path.packets?.() ?? {};
  return flows >= flowCapacity && halfOpen + datagrams === 0 ? refused('the flow table is full') : undefined;
}

function isFrontendFull({ entry, path }: Asked): boolean {
  const { maxconn } = entry.frontend;
  return maxconn > 0 && path.frontend(entry.index).load >= maxconn;
}

function keptWay(asked: Asked): Way | undefined {
  const { kept, loads } = asked;
  const candidate = kept && candidateAt(asked, kept.server);
  if (kept === undefined || candidate === undefined || isFull(candidate, loads)) return undefined;
  return withPort(asked, [kept.server], [`affinity: the client stays with ${nameAt(asked, kept.server)} for ${secondsOf(kept)} s`]);
}

/** Whom the scheduler chooses. */
function chosenWay(asked: Asked): Way {
  const { backend, loads, client, kept, path, entry } = asked;
  const { listen } = entry.frontend;
  const { choice } = backend;
  if (fansOut(asked.mode)) {
    return {
      outcome: 'open',
      among: choice.candidates.map(({ index }) => index),
      reasons: [`${choice.scheduler}: the kernel chooses, by its own rules`],
    };
  }
  const { among, by, full } = foresee(choice, loads, hashableAddress(client.ip), client.port, hashableAddress(listen.ip), listen.port);
  const indexOf = (position: number) => choice.candidates[position]?.index ?? -1;
  const nameOf = (position: number) => nameAt(asked, indexOf(position));
  const reasons = [
    ...(kept === undefined ? [] : [`affinity: the client was with ${nameAt(asked, kept.server)}, which may not be chosen, or is full`]),
    `${choice.scheduler}: ${by}`,
    ...(full === undefined
      ? []
      : [`that is ${nameOf(full)}, which is full: the one with the fewest connections for its weight in its place`]),
  ];
  const queued = path.queued?.(backend.backend.name) ?? 0;
  if (among.length === 0 || queued > 0) return waiting(asked, queued, reasons);
  return withPort(asked, among.map(indexOf), reasons);
}

/** All are full, or others wait already. */
function waiting({ backend: { backend }, path }: Asked, queued: number, reasons: readonly string[]): Way {
  const why = queued > 0 ? `${queued} connections wait for a server` : 'all that may be chosen are full (maxconn)';
  if (path.queued === undefined) return { outcome: 'refused', among: [], reasons: [...reasons, `${why}; ${MAKES_WAY}`] };
  const isRoom = queued < backend.maxQueue;
  const what = isRoom ? `it waits, for ${backend.queueTimeoutMs / 1000} s at most` : `no more may wait (max_queue ${backend.maxQueue})`;
  return { outcome: isRoom ? 'waits' : 'refused', among: [], reasons: [...reasons, `${why}: ${what}`] };
}

/** Where a port of lb4's own is needed towards the server, and none is left, the next ones are asked. */
function withPort(asked: Asked, among: readonly number[], reasons: readonly string[]): Way {
  const { backend, loads } = asked;
  const [chosen] = among;
  const isOne = among.length === 1 && chosen !== undefined;
  if (!isOne || hasPort(asked, chosen)) return { outcome: isOne ? 'goes' : 'open', among, reasons };
  const { candidates } = backend.choice;
  const place = candidates.findIndex(({ index }) => index === chosen);
  const next = [...candidates.slice(place + 1), ...candidates.slice(0, place)].slice(0, TRIES - 1);
  const other = next.find((candidate) => !isFull(candidate, loads) && hasPort(asked, candidate.index));
  const why = `no source port is left towards ${nameAt(asked, chosen)}`;
  if (other === undefined) return { outcome: 'refused', among: [], reasons: [...reasons, `${why}, nor the ones behind it; ${MAKES_WAY}`] };
  return { outcome: 'goes', among: [other.index], reasons: [...reasons, `${why}: the next one that has some in its place`] };
}

function hasPort({ path, mode, backend }: Asked, server: number): boolean {
  const { ports = 0, portCapacity = 0 } = path.server(server);
  return factsOf(mode, backend.backend).source !== 'pool' || portCapacity === 0 || ports < portCapacity;
}

function aboutClient({ entry: { frontend }, backend: { backend } }: Asked): string[] {
  return [
    ...(frontend.acceptProxy ? ['its PROXY header says who the client is: the address is taken for that'] : []),
    ...(frontend.udpPerPacket === true ? ['udp_per_packet: each datagram is decided on for itself'] : []),
    ...(backend.protocol.name === 'icmp' ? ["a ping's identifier stands in the port's place"] : []),
  ];
}

/** What speaks against those that it would go to, though they may be chosen. */
function troubles({ backend: { backend }, monitors }: Asked, among: readonly PlannedServer[]): string[] {
  return among.flatMap((one) => {
    const name = serverName(backend, one);
    return [
      ...(monitors.listening.isSilent(one.key) === true ? [`${name} is silent: it passes its checks, yet answers no connection`] : []),
      ...((monitors.deadEnds.of(backend.name, one.server.addr.ip) ?? 0) > 0
        ? [`no way leads to ${name} from an address of a frontend: see lb4 why ${name}`]
        : []),
    ];
  });
}

function affinityOf(asked: Asked): Trace['affinity'] {
  const { kept } = asked;
  const server = kept && nameAt(asked, kept.server);
  return server === undefined || kept === undefined ? null : { server, seconds: secondsOf(kept) };
}

function secondsOf({ leftMs }: { readonly leftMs: number }): number {
  return Math.ceil(leftMs / 1000);
}

function tracedServer(server: PlannedServer, asked: Asked): TracedServer {
  const { backend, loads } = asked;
  const candidate = candidateAt(asked, server.index);
  const eligible = candidate !== undefined && !isFull(candidate, loads);
  return {
    server: serverName(backend.backend, server),
    address: server.server.addr.text,
    state: stateOf(server),
    weight: server.weight,
    load: loads[server.index] ?? 0,
    maxconn: server.server.maxconn,
    eligible,
    reasons: eligible ? [] : whyNot(server, asked),
  };
}

function whyNot(server: PlannedServer, asked: Asked): string[] {
  const { backend, choice } = asked.backend;
  return explain({ backend, choice, server }, asked).reasons.filter((reason) => reason !== NOT_CHOSEN);
}

function candidateAt({ backend }: Asked, server: number) {
  return backend.choice.candidates.find(({ index }) => index === server);
}

function serverAt({ backend }: Asked, server: number): PlannedServer | undefined {
  return backend.servers.find(({ index }) => index === server);
}

function nameAt(asked: Asked, server: number): string | undefined {
  const found = serverAt(asked, server);
  return found && serverName(asked.backend.backend, found);
}
