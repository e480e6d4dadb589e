/** The main thread's handle on the data path: starts its workers, tells them what to balance, reads their counters. */
import { closeSync } from 'node:fs';
import { sourceMemory } from '../access/source-table.ts';
import { messageOf } from '../errors.ts';
import { Bond, Bonds } from '../forward/affinity.ts';
import { assertServiceSet } from '../forward/assert-set.ts';
import type { Endings } from '../forward/endings.ts';
import { modes } from '../forward/modes.ts';
import type { Signal } from '../forward/signals.ts';
import type { SynFlood } from '../forward/syn-guard.ts';
import type { VerdictName } from '../forward/verdict.ts';
import { Ways } from '../forward/ways.ts';
import { Attachments, type Wanted } from '../io/attachments.ts';
import { openTap } from '../io/fast-path.ts';
import { interfacesNow } from '../io/interfaces.ts';
import type { Interface } from '../io/native.ts';
import { portFilter } from '../io/port-filter.ts';
import { type HashKey, keyIn, type Room } from '../layout/memory.ts';
import { assertLittleEndian } from '../packet/address.ts';
import { AccessBook } from './access-book.ts';
import { type Acquired, acquireMemory, isFollowable, keyFor, obstacleTo, openOther, roomFor, takeoverObstacleTo } from './acquire.ts';
import { CaptureRings, CaptureRun } from './captures.ts';
import { Counts, type Gauges, type Tally } from './counts.ts';
import { WaitingCrew } from './crew.ts';
import { monotonicNow } from './duties.ts';
import { makeFastPath } from './fast-path.ts';
import { filterFor, oursIn } from './filter.ts';
import { type Ended, endFlows } from './flow-end.ts';
import { type CarriedFlow, flowAt, placesOf } from './flow-list.ts';
import type { FlowQuery } from './flow-query.ts';
import { among, type InlinePorts, indexesOf, portsOf } from './inline-ports.ts';
import { Locals } from './locals.ts';
import type { Settings, WorkerData } from './messages.ts';
import { suspect, TRIAL_MS, takeUp, trust } from './origin.ts';
import { OuterPaths } from './outer-paths.ts';
import { PcapThread } from './pcap-thread.ts';
import { type Ports, PortUse } from './ports.ts';
import { type DeadEnd, ServerRoutes } from './routes.ts';
import type { Forwarder, ThreadReports } from './thread.ts';

export { assertServiceSet } from '../forward/assert-set.ts';
export type { Gauges } from './counts.ts';
export type { Settings } from './messages.ts';

/** What moves frames: the kernel's ring (io/packet-socket.ts), or libpcap (io/pcap.ts). */
export type DriverName = 'ring' | 'pcap';

/** Where packets of established connections are forwarded: by the kernel, in these hooks (io/attachments.ts), or by the workers alone. */
export type FastPathName = Wanted | 'off';

/** How much it can hold, and by how many. */
export interface Size {
  /** Connections at most, shared out among workers. */
  readonly connections: number;
  /** Threads that forward packets; 1 with the driver `pcap`. */
  readonly workers: number;
  readonly io: DriverName;
}

export interface EngineOptions extends Size {
  readonly fastPath: FastPathName;
  /** The processors that workers are pinned to, in turn; undefined: wherever the kernel likes. */
  readonly cpus: readonly number[] | undefined;
  /** A worker's receive slots of 128 KB, a power of two. */
  readonly ringSlots: number;
  /** How long a worker looks at its ring before it sleeps, in microseconds. */
  readonly busyPollUs: number;
  /** Resets and ICMP errors a second. */
  readonly answersPerSecond: number;
  /** Those of them to one address. */
  readonly answersPerSource: number;
  /** From so many half-open connections on SYNs may be a flood; 0: never. */
  readonly floodFrom: number;
  readonly settings: Settings;
  /** It stands between these interfaces, with one worker and the driver `ring`. */
  readonly inline?: InlinePorts | undefined;
  /** Connections are to survive the process, and those of one that died to go on. */
  readonly keep: boolean;
  /** Another lb4 has the table: resolves when it has let go of it. Called when all else that can fail is done. */
  readonly turn?: (() => Promise<void>) | undefined;
  /** Called after that, before the table is asked for. */
  readonly own?: (() => void) | undefined;
  /** A worker died of an error: not everything is forwarded any more. */
  readonly failed: (error: Error) => void;
  /** Packets tell that a server (its index) may be in trouble: each worker at most ten times a second a server and reason. */
  readonly signal?: (server: number, reason: string) => void;
  /** SYNs flood the first of its workers, or none any more. */
  readonly flood?: (flood: SynFlood) => void;
  /** Connections have ended, for the connection log (ended.ts). */
  readonly ended?: (endings: Endings) => void;
  /** Something people should know. */
  readonly told?: (message: string) => void;
}

export const REASONS: Record<Signal['reason'], string> = {
  syn: 'a SYN was retransmitted',
  rst: 'the server reset a handshake',
  unreachable: 'the server says that its port is unreachable',
  claimed: 'a client is told that the port is unreachable, by the server as it seems',
};

export interface Inheritance {
  readonly isFound: boolean;
  /** Those that go on. */
  readonly connections: number;
  /** Why those that were found may not. */
  readonly refused: string | undefined;
  /** Why those of this process end with it. */
  readonly mortal: string | undefined;
}

/** Whether an engine of that size, with 1 or 2 flows a connection, would go on with those of an lb4 that died. */
export function wouldInherit({ connections, workers, io }: Size, directions: number): boolean {
  return isFollowable(roomFor(connections, workers), directions, takesMaps(io));
}

/** Why it could not take over those of an lb4 that runs, by the same; undefined: it could. */
export function takeoverObstacle({ connections, workers, io }: Size, directions: number): string | undefined {
  return takeoverObstacleTo(roomFor(connections, workers), directions, takesMaps(io));
}

/** The process of pcap would need descriptors that only this one has. */
function takesMaps(io: DriverName): boolean {
  return io !== 'pcap';
}

export interface FastPathState {
  /** Names of interfaces, by hook. */
  readonly tc: readonly string[];
  readonly xdp: readonly string[];
  /** Packets. */
  readonly forwarded: number;
  /** First packets that were dropped there; they are among the verdicts. */
  readonly dropped: number;
}

/** Has somebody forward. */
type Begin = (data: Omit<WorkerData, 'worker'>, reports: ThreadReports) => Promise<Forwarder>;

/** What an engine is made of, each of it running. */
interface EngineParts {
  readonly acquired: Acquired;
  readonly routes: ServerRoutes;
  readonly counts: Counts;
  readonly ports: PortUse;
  readonly crew: Forwarder;
  readonly attachments: Attachments | undefined;
  readonly book: AccessBook | undefined;
  readonly locals: Locals;
  readonly settings: Settings;
  readonly inline: InlinePorts | undefined;
  /** Flow entries at most. */
  readonly entries: number;
  readonly told: (message: string) => void;
}

/** A running data path: its workers, their memory, and what the main thread keeps true for them. */
export class Engine {
  /** What came of the connections of an lb4 that died, and what will come of this one's. */
  readonly inheritance: Inheritance;
  readonly #acquired: Acquired;
  readonly #routes: ServerRoutes;
  readonly #counts: Counts;
  readonly #ports: PortUse;
  readonly #crew: Forwarder;
  readonly #attachments: Attachments | undefined;
  readonly #book: AccessBook | undefined;
  readonly #locals: Locals;
  #settings: Settings;
  #inline: InlinePorts | undefined;
  readonly #entries: number;
  readonly #told: (message: string) => void;
  readonly #outerPaths: OuterPaths;
  readonly #rings = new CaptureRings();
  #isStopped = false;
  readonly #trial: NodeJS.Timeout;

  private constructor({ acquired, routes, counts, ports, crew, attachments, book, locals, settings, inline, entries, told }: EngineParts) {
    const { isFound, refused, mortal } = acquired;
    this.inheritance = { isFound, connections: crew.recovered, refused, mortal };
    this.#acquired = acquired;
    this.#routes = routes;
    this.#counts = counts;
    this.#ports = ports;
    this.#crew = crew;
    this.#attachments = attachments;
    this.#book = book;
    this.#locals = locals;
    this.#settings = settings;
    this.#inline = inline;
    this.#entries = entries;
    this.#told = told;
    this.#outerPaths = new OuterPaths({
      tunnels: () => routes.tunnels,
      fit: (way) => routes.fitOf(way),
      limit: (server, bytes) => routes.limit(server, bytes),
      told,
    });
    this.#trial = setTimeout(() => void this.#endTrial(), TRIAL_MS).unref();
  }

  /** One that hangs does not answer: then there is no end. */
  async #endTrial(): Promise<void> {
    await Promise.all(this.pulses.map((ask) => ask()));
    if (!this.#isStopped) trust(this.#acquired.memories[0]);
  }

  /** A worker hangs, or none does any more: where that goes on from one process to the next, the table is left. */
  hangs(isHanging: boolean): void {
    if (!this.#isStopped) suspect(this.#acquired.memories[0], isHanging);
  }

  /** Starts forwarding. Throws the system's error (EPERM, ENOMEM …) when the packet socket cannot be opened. */
  static async start(options: EngineOptions): Promise<Engine> {
    assertLittleEndian();
    assertServiceSet(options.settings.services);
    const { io, workers, cpus, ringSlots, busyPollUs, settings, turn } = options;
    // What cannot be followed is not even read.
    const isFollowed =
      options.keep && obstacleTo(roomFor(options.connections, workers), directionsOf(settings), takesMaps(io)) === undefined;
    const memoryFd = isFollowed ? openOther() : undefined;
    const key = keyFor(memoryFd);
    let waiting: WaitingCrew | undefined;
    let isHandedOn = false;
    let taps: number | undefined;
    try {
      // First: it takes time, and may fail.
      const tap = options.inline === undefined ? undefined : (taps = openTap());
      const ports = options.inline && indexesOf(portsOf(options.inline, interfacesNow()));
      const ring = { ringSlots, busyPollUs, filter: firstFilter(settings, ports), takesAll: ports !== undefined, ports, tap, memoryFd };
      if (io !== 'pcap') waiting = await WaitingCrew.open({ workers, cpus, key, ring, ours: oursIn(settings.services) });
      await turn?.();
      waiting?.listen();
      options.own?.();
      isHandedOn = true;
      return await Engine.#acquire(options, key, memoryFd, (data, reports) => {
        if (waiting === undefined) return PcapThread.start({ ...data, worker: 0 }, reports);
        return waiting.begin({ ...data, sources: sourceMemory(options.connections) }, reports);
      });
    } catch (error) {
      await waiting?.close();
      if (!isHandedOn && memoryFd !== undefined) closeSync(memoryFd);
      throw error;
    } finally {
      if (taps !== undefined) closeSync(taps);
    }
  }

  static async #acquire(options: EngineOptions, key: HashKey, other: number | undefined, begin: Begin): Promise<Engine> {
    const room = { ...roomFor(options.connections, options.workers), isInline: options.inline !== undefined };
    const { fastPath, io, told } = options;
    const make = (wanted: Room, hashKey: HashKey, isLost: boolean) =>
      makeFastPath(wanted, hashKey, isLost, { fastPath, takesMaps: takesMaps(io), told });
    const acquired = acquireMemory(room, directionsOf(options.settings), key, options.keep, other, make, takesMaps(io));
    try {
      return await Engine.#startIn(acquired, options, begin);
    } catch (error) {
      // What was found is kept: whatever was in the way may be mended.
      attempt(
        () => acquired.close(acquired.isFound),
        (message) => told?.(message),
      );
      throw error;
    }
  }

  static async #startIn(acquired: Acquired, options: EngineOptions, begin: Begin): Promise<Engine> {
    const { fd: memoryFd, memories, room, fastPath, isFound } = acquired;
    const { answersPerSecond, answersPerSource, floodFrom, settings, inline } = options;
    const locals = new Locals();
    let crew: Forwarder | undefined;
    let engine: Engine | undefined;
    const told = (message: string) => options.told?.(message);
    const attachments = fastPath && new Attachments(fastPath, options.fastPath, told, inline !== undefined);
    const routes = ServerRoutes.open(
      memories,
      new Ways(memories[0].ways),
      (interfaces) => {
        crew?.post({ type: 'interfaces', ...interfacesOf(routes, engine === undefined ? inline : engine.#inline) });
        if (crew !== undefined) attempt(() => stand(attachments, interfaces, engine === undefined ? inline : engine.#inline), told);
        if (engine !== undefined)
          engine.#followAddresses().catch((error: unknown) => told(`this host's addresses have changed: ${messageOf(error)}`));
      },
      inline?.backend,
    );
    try {
      const services = locals.in(settings.services);
      const orders = { settings: { ...settings, services }, hops: routes.apply(services), filter: filterFor(services) };
      const counts = new Counts(memories);
      const ports = new PortUse(counts);
      ports.apply(settings.services);
      const data = {
        memoryFd,
        room,
        maps: fastPath?.programs,
        answersPerSecond,
        answersPerSource,
        floodFrom,
        ...interfacesOf(routes, inline),
        ...orders,
      };
      const book = fastPath && new AccessBook(fastPath);
      attempt(() => book?.apply(services.frontends), told);
      // First: the packet socket goes by it.
      if (inline !== undefined) attempt(() => stand(attachments, routes.interfaces(), inline), told);
      const beginAt = (attempts: number) => begin({ ...data, attempts }, reportsOf(options));
      crew = await (isFound ? takeUp(memories[0], beginAt) : beginAt(0));
      // They may have changed meanwhile.
      crew.post({ type: 'interfaces', ...interfacesOf(routes, inline) });
      attempt(() => stand(attachments, routes.interfaces(), inline), told);
      const entries = room.connections * room.workers * directionsOf(settings);
      engine = new Engine({ acquired, routes, counts, ports, crew, attachments, book, locals, settings, inline, entries, told });
      return engine;
    } catch (error) {
      attempt(() => attachments?.close(isFound), told);
      routes.close();
      throw error;
    }
  }

  /**
   * Replaces everything that is balanced. Live connections stay where they are, but for those of a frontend or server that is
   * not in the set any more, or has another address or port: the sweep ends them. Resolves when all workers go by it, or
   * are gone. Rejects with a RangeError, and changes nothing, when an index is out of bounds.
   * @param inline the interfaces that it stands between from now on, if it does
   */
  async configure(settings: Settings, inline = this.#inline): Promise<void> {
    assertServiceSet(settings.services);
    const services = this.#locals.in(settings.services);
    const hops = this.#routes.apply(services);
    this.#ports.apply(services);
    this.#settings = settings;
    await this.#crew.apply({ settings: { ...settings, services }, hops, filter: filterFor(services) });
    if (!this.#isStopped) attempt(() => this.#book?.apply(services.frontends), this.#told);
    this.#standBetween(inline);
  }

  #standBetween(inline: InlinePorts | undefined): void {
    if (inline === undefined || JSON.stringify(inline) === JSON.stringify(this.#inline)) return;
    this.#inline = inline;
    this.#routes.leadBy(inline.backend);
    attempt(() => stand(this.#attachments, this.#routes.interfaces(), inline), this.#told);
    this.#crew.post({ type: 'interfaces', ...interfacesOf(this.#routes, inline) });
  }

  /** Whatever an address of this host means for those that answer clients. */
  async #followAddresses(): Promise<void> {
    if (!this.#isStopped && this.#locals.haveChanged()) await this.configure(this.#settings);
  }

  /** Whether connections to servers leave, or may leave, from that address of ours (native order). */
  usesSource(address: number): boolean {
    return this.#crew.usesSource(address);
  }

  /** The path of the table that was to outlive this process, where somebody has taken it away. */
  lostTable(): string | undefined {
    return this.#acquired.lost();
  }

  /** What routers have said of wrapped packets that were too big for a link. */
  get outerTooBig(): number {
    return this.#outerPaths.heard;
  }

  /** How many packets ended how. */
  verdicts(): Record<VerdictName, number> {
    return this.#counts.verdicts();
  }

  /** What all workers' gauges come to, and how many flow entries there may be. */
  gauges(): Gauges & { readonly flowCapacity: number } {
    return { ...this.#counts.gauges(), flowCapacity: this.#entries };
  }

  /** Where the kernel forwards established connections, and how many packets it has; undefined: nowhere. */
  fastPath(): FastPathState | undefined {
    const { fastPath } = this.#acquired;
    if (fastPath === undefined || this.#attachments === undefined || this.#isStopped) return undefined;
    return {
      tc: this.#attachments.names('tc'),
      xdp: this.#attachments.names('xdp'),
      forwarded: fastPath.forwarded,
      dropped: fastPath.dropped,
    };
  }

  /** Where it stood and does not any more. */
  missingHooks(): string[] {
    return this.#isStopped ? [] : (this.#attachments?.missing() ?? []);
  }

  /** Throws where it cannot be put back. */
  repairHooks(): void {
    if (!this.#isStopped) this.#attachments?.repair();
  }

  /** What of the fast path would not outlive this process. */
  unpinned(): string[] {
    return this.#isStopped ? [] : (this.#attachments?.unpinned() ?? []);
  }

  /** Throws where it cannot be pinned again. */
  pinAgain(): void {
    if (!this.#isStopped) this.#attachments?.pinAgain();
  }

  /** The gauges of each worker, in order. */
  workers(): Gauges[] {
    return this.#counts.workers();
  }

  frontend(index: number): Tally {
    return this.#counts.frontend(index);
  }

  server(index: number): Tally & Ports {
    return { ...this.#counts.server(index), ...this.#ports.of(index) };
  }

  /** Connections of a server, by index, whose answer is due, and those that were answered (layout/counters.ts). */
  answers(index: number): { due: number; answered: number } {
    return this.#counts.answers(index);
  }

  /** The same of a frontend. */
  frontendAnswers(index: number): { due: number; answered: number } {
    return this.#counts.frontendAnswers(index);
  }

  /** What a frontend's rules kept out: its row of the refusals (layout/counters.ts). */
  refusals(index: number): readonly number[] {
    return this.#counts.refusals(index);
  }

  /** Connections, and flows of datagrams, that fit; `limit` at most. */
  async flows(query: FlowQuery, limit: number): Promise<{ flows: CarriedFlow[]; more: boolean }> {
    const { memories } = this.#acquired;
    const flows: CarriedFlow[] = [];
    for await (const place of placesOf(memories, query)) {
      const flow = flowAt(memories[place.worker], place);
      if (flow === undefined) continue;
      if (flows.length === limit) return { flows, more: true };
      flows.push(flow);
    }
    return { flows, more: false };
  }

  /** The server, by its index, that a client (native order) of a frontend is to stay with, and for how many ms yet. */
  kept(frontend: number, client: number): { readonly server: number; readonly leftMs: number } | undefined {
    const { frontends, backends } = this.#settings.services;
    const entry = frontends.find(({ index }) => index === frontend);
    const backend = backends.find(({ name }) => name === entry?.backend);
    if (backend?.affinity === undefined || entry?.perPacket === true) return undefined;
    const [{ affinity, header }] = this.#acquired.memories;
    return new Bonds(affinity, keyIn(header)).peek(new Bond(backend.affinity, backend.servers, []), client, monotonicNow());
  }

  /** Ends those that fit, and tells both ends of TCP by a reset where this host has ways of its own to them. */
  async endFlows(query: FlowQuery): Promise<Ended> {
    const { memories } = this.#acquired;
    const postTo: Forwarder['postTo'] = (worker, message) => this.#crew.postTo(worker, message);
    return endFlows({ memories, postTo, canReset: this.#inline === undefined }, query);
  }

  /**
   * Has the workers copy what fits `query`, up to `snaplen` bytes of each packet. Whoever starts it closes it before the engine stops. Rejects with
   * the system's error where there is no memory for it.
   */
  capture(query: FlowQuery, snaplen: number): Promise<CaptureRun> {
    const { memories, fastPath } = this.#acquired;
    return CaptureRun.start({ rings: this.#rings, memories, crew: this.#crew, query, snaplen, hasFastPath: fastPath !== undefined });
  }

  /** As {@link Forwarder.pulses}. */
  get pulses(): Forwarder['pulses'] {
    return this.#crew.pulses;
  }

  /** The ways from frontends to servers that lead nowhere now. */
  deadEnds(): DeadEnd[] {
    return this.#routes.deadEnds();
  }

  /** As {@link Forwarder.giveUp}. */
  giveUp(): void {
    this.#crew.giveUp();
  }

  /**
   * Stops forwarding and waits until the workers are gone.
   * @param keep leaves the connections to the next lb4, and does not wait for the workers' end
   */
  async stop(keep = false): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    clearTimeout(this.#trial);
    this.#outerPaths.close();
    this.#routes.close();
    // Whatever becomes of the programs: who forwards must not go on without rules.
    attempt(() => this.#attachments?.close(keep), this.#told);
    await (keep ? this.#crew.halt() : this.#crew.stop());
    this.#rings.close();
    this.#acquired.close(keep);
  }
}

/** Has the fast path stand at the interfaces that it may stand at. */
function stand(attachments: Attachments | undefined, interfaces: readonly Interface[], inline: InlinePorts | undefined): void {
  attachments?.follow(
    among(interfaces, inline),
    inline?.frontends.map(({ name }) => name),
  );
}

/** Does what may fail without harm to what is forwarded, or without hiding why something else has failed. */
function attempt(act: () => void, told: (message: string) => void): void {
  try {
    act();
  } catch (error) {
    told(`the fast path, or what is kept for the next lb4: ${messageOf(error)}`);
  }
}

/** What the kernel hands up before there is any other word. */
function firstFilter({ services }: Settings, ports: readonly number[] | undefined): Uint32Array {
  if (ports === undefined) return filterFor(services);
  return portFilter(ports.filter((ifindex) => ifindex !== 0));
}

function interfacesOf(routes: ServerRoutes, inline: InlinePorts | undefined) {
  return { mtus: routes.mtus(), ports: inline && portsOf(inline, routes.interfaces()) };
}

/** Flow entries a connection. */
function directionsOf({ services }: Settings): number {
  return Math.max(1, ...services.backends.map(({ mode }) => modes[mode].directions));
}

function reportsOf({ failed, signal, flood, ended, told }: EngineOptions): ThreadReports {
  /** How many workers, by frontend. */
  const flooded = new Map<number | undefined, number>();
  return {
    flood: (one) => {
      const { isOn, frontend } = one;
      const count = (flooded.get(frontend) ?? 0) + (isOn ? 1 : -1);
      if (count === 0) flooded.delete(frontend);
      else flooded.set(frontend, count);
      if (count === Number(isOn)) flood?.(one);
    },
    failed,
    ended: (endings) => ended?.(endings),
    told: (message) => told?.(message),
    signals: (servers) => {
      for (const { index, reason } of servers) signal?.(index, REASONS[reason]);
    },
  };
}
