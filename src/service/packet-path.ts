/** The packet modes as a data path: the engine, and the firewall rules that go with it. */
import type { Candidate } from '../balance/index.ts';
import { serverPort } from '../config/endpoint.ts';
import type { Backend, Config, Inline, Passthrough } from '../config/model.ts';
import { factsOf, hopsIn, isWrapped, MODES, type PacketMode } from '../config/modes.ts';
import type { PacketCounters } from '../control/source.ts';
import { endedFlows } from '../engine/ended.ts';
import {
  Engine,
  type FastPathState,
  type Inheritance,
  type Settings,
  type Size,
  takeoverObstacle,
  wouldInherit,
} from '../engine/engine.ts';
import type { FlowQuery } from '../engine/flow-query.ts';
import type { InlinePorts } from '../engine/inline-ports.ts';
import { TakeoverError } from '../errors.ts';
import { memoryLimit } from '../io/kept-places.ts';
import { deathIsOver, lockNamespace, type NamespaceLock } from '../io/namespace-lock.ts';
import { assertPackages } from '../io/pcap-packages.ts';
import type { Logger } from '../log.ts';
import { parseAddress, swap32 } from '../packet/address.ts';
import { readCounters } from '../rules/run.ts';
import { countedBy } from '../rules/saved.ts';
import { accessOf } from './access.ts';
import { Arrival } from './arrival.ts';
import type { CarriedCapture, CarriedQuery, DataPath, Reports } from './data-path.ts';
import { endingOrders } from './ended.ts';
import { fastPathHooks, fastPathPins } from './fast-path-hooks.ts';
import { Firewall } from './firewall.ts';
import type { HostState } from './guard.ts';
import { rulesLeftToUser } from './hand-rules.ts';
import { hostLock } from './host-lock.ts';
import { type HostRules, InlineHost, portStates, portsIn } from './inline-host.ts';
import { forgetNotes } from './kept-note.ts';
import { keptTable } from './kept-table.ts';
import { memoryShortage } from './memory-room.ts';
import type { Plan, PlannedBackend, PlannedServer } from './plan.ts';
import { keptReturns } from './returns-file.ts';
import type { Takeover } from './takeover.ts';
import { Undo } from './undo.ts';
import { type Listened, witnessOf } from './witness.ts';

/** An lb4 that fails so soon after it has found its table may have failed by it. */
const SUSPECT_MS = 60_000;

export interface PacketPathOptions {
  readonly mode: PacketMode;
  /** False: the user looks after the firewall rules. */
  readonly rules: boolean;
  /** Writes down who has which index, before the engine goes by it. */
  readonly remember: () => void;
  /** From which it takes over, if any. */
  readonly takeover?: Pick<Takeover, 'take' | 'isTaken' | 'isOrphan' | 'goesOn'> | undefined;
}

interface Begun {
  readonly claim: Claim;
  /** An lb4 that died, or hands over, has left connections that go on. */
  readonly isLeft: boolean;
  readonly undo: Undo;
}

/** The lock of this network namespace, once it is this process's. */
class Claim {
  #lock: NamespaceLock | undefined;
  readonly #about: Parameters<typeof lockNamespace>[0];

  constructor({ mode, rules }: PacketPathOptions) {
    this.#about = { mode, rules };
  }

  get lock(): NamespaceLock | undefined {
    return this.#lock;
  }

  take(): NamespaceLock {
    return (this.#lock ??= lockNamespace(this.#about));
  }

  /** Where nobody else has it. */
  tryTake(): void {
    try {
      this.take();
    } catch {
      // What is left is somebody else's.
    }
  }

  /** @param isKept as a kill does */
  end(isKept: boolean): void {
    if (isKept) this.#lock?.abandon();
    else this.#lock?.release();
  }
}

/** What a packet path is made of, each of it running. */
interface PacketPathParts {
  readonly mode: PacketMode;
  readonly log: Logger;
  readonly remember: () => void;
  readonly lock: NamespaceLock;
  /** Undefined: the user looks after the firewall rules. */
  readonly firewall: HostRules | undefined;
  readonly engine: Engine;
  /** Takes back all of it. */
  readonly undo: Undo;
  /** What the engine goes by. */
  readonly plan: Plan;
}

export class PacketPath implements DataPath {
  readonly mode: PacketMode;
  readonly hasPorts: boolean;
  readonly hostStates: readonly HostState[];
  readonly #log: Logger;
  readonly #remember: () => void;
  readonly #firewall: HostRules | undefined;
  readonly #engine: Engine;
  readonly #undo: Undo;
  readonly #since = performance.now();
  readonly #isInline: boolean;
  #plan: Plan;
  /** What it had is the next lb4's: nothing more is said of it, or done to it. */
  #isLetGo = false;

  private constructor({ mode, log, remember, lock, firewall, engine, undo, plan }: PacketPathParts) {
    this.mode = mode;
    this.hasPorts = MODES[mode].source === 'pool';
    this.#log = log;
    this.#remember = remember;
    this.#firewall = firewall;
    this.#engine = engine;
    this.#undo = undo;
    this.#plan = plan;
    const isInline = (this.#isInline = isBetween(mode, plan));
    const byHand = rulesLeftToUser(mode, () => this.#plan);
    // Without rules of lb4's own there is nothing that counts, and iptables-legacy would make a table by being asked.
    const watched = isInline
      ? [
          ...(firewall?.states ?? []),
          ...portStates(
            () => portsIn(this.#plan),
            () => engine.verdicts(),
          ),
        ]
      : firewall === undefined
        ? [byHand]
        : [...firewall.states, this.#frames()];
    // First: scripts that repair what comes after it keep their notes beside it.
    this.hostStates = [hostLock(lock), keptTable(() => engine.lostTable()), fastPathHooks(engine), fastPathPins(engine), ...watched];
  }

  /**
   * Starts forwarding. Rejects with an Lb4Error or the system's error; then everything that was begun is undone, but for what an lb4
   * that died has left, where the next start can go on with it.
   */
  static async start(plan: Plan, options: PacketPathOptions, reports: Reports): Promise<PacketPath> {
    if (plan.config.passthrough.io === 'pcap') assertPackages();
    const undo = new Undo();
    const claim = new Claim(options);
    const { mode, takeover } = options;
    if (takeover === undefined) {
      await deathIsOver();
      claim.take();
    }
    undo.push((isKept) => claim.end(isKept));
    undo.push((isKept) => {
      // Another lb4's lock, another lb4's notes.
      if (!isKept && claim.lock !== undefined && claim.lock.missing() === undefined) forgetNotes();
    });
    const isLeft = takeover !== undefined || canGoOn(plan.config, mode);
    try {
      return new PacketPath(await open(plan, options, reports, { claim, isLeft, undo }));
    } catch (error) {
      // Rules and all else are still those of the one that runs.
      if (takeover?.isTaken === false && (await takeover.goesOn())) await undo.run(reports.log, true);
      else {
        // The one that ran may have ended meanwhile.
        claim.tryTake();
        // Asked once more: the start may have got so far as to lose it.
        await leave(undo, isLeft && canGoOn(plan.config, mode), reports.log);
      }
      throw error;
    }
  }

  async apply(plan: Plan): Promise<void> {
    // First, where it needs more: without its rule the kernel would answer for a new frontend.
    const putBack = this.#firewall?.lacks(plan) ? await this.#firewall.install(plan) : undefined;
    try {
      this.#remember();
      const { inline } = plan.config;
      await this.#engine.configure(settingsOf(plan, this.mode), this.#isInline && inline !== undefined ? inlineOf(inline) : undefined);
    } catch (error) {
      await putBack?.();
      throw error;
    }
    this.#plan = plan;
    await this.#firewall?.prune(plan);
  }

  async follow(): Promise<void> {
    await this.#firewall?.follow();
  }

  hangs(isHanging: boolean): void {
    this.#engine.hangs(isHanging);
  }

  giveUp(): void {
    this.#engine.giveUp();
  }

  async stop(): Promise<void> {
    if (!(await this.#undo.run(this.#log))) throw tracesLeft();
  }

  obstacle(): string | undefined {
    if (this.#isLetGo) return undefined;
    const { mortal } = this.#engine.inheritance;
    const reason = mortal ?? this.#engine.lostTable();
    return reason === undefined ? undefined : `its table cannot outlive it: ${reason}`;
  }

  async letGo(): Promise<void> {
    this.#isLetGo = true;
    await this.#undo.run(this.#log, true);
  }

  async abandon(hasServed: boolean): Promise<void> {
    if (this.#isLetGo) return;
    if (!(await leave(this.#undo, this.#isWorthKeeping(hasServed), this.#log))) throw tracesLeft();
  }

  #isWorthKeeping(hasServed: boolean): boolean {
    const { isFound, mortal } = this.#engine.inheritance;
    if (mortal !== undefined || this.#engine.lostTable() !== undefined) return false;
    if (!hasServed) return isFound;
    if (!isFound || performance.now() - this.#since >= SUSPECT_MS) return true;
    this.#log.warn('what an lb4 that died had left may be what ended this one so soon: its connections end');
    return false;
  }

  usesSource(ip: string) {
    return this.#engine.usesSource(parseAddress(ip));
  }

  frontend(index: number) {
    return this.#engine.frontend(index);
  }

  server(index: number) {
    return this.#engine.server(index);
  }

  answers(index: number) {
    return this.#engine.answers(index);
  }

  flows(query: CarriedQuery, limit: number) {
    return this.#engine.flows(queryOf(query), limit);
  }

  endFlows(query: CarriedQuery) {
    return this.#engine.endFlows(queryOf(query));
  }

  async capture(query: CarriedQuery, snaplen: number): Promise<CarriedCapture> {
    const run = await this.#engine.capture(queryOf(query), snaplen);
    return {
      get lost() {
        return run.lost;
      },
      takesBack: run.takesBack,
      read: (most) => run.read(most),
      follow: (now) => run.follow(queryOf(now)),
      close: () => run.close(),
    };
  }

  kept(frontend: number, ip: string) {
    return this.#engine.kept(frontend, parseAddress(ip));
  }

  get pulses() {
    return this.#engine.pulses;
  }

  deadEnds() {
    return this.#engine.deadEnds();
  }

  refusals(index: number) {
    return this.#engine.refusals(index);
  }

  frontendAnswers(index: number) {
    return this.#engine.frontendAnswers(index);
  }

  /** Whether what clients send arrives. */
  #frames(): Arrival {
    const engine = this.#engine;
    const received = () => engine.gauges().received;
    const counted = async () => countedBy(await readCounters());
    const arrival = new Arrival({ received, counted, frontends: () => this.#listened(), witnessOf });
    this.#undo.push(() => arrival.close());
    return arrival;
  }

  /** The frontends, each with all that is in its books. */
  #listened(): Listened[] {
    return this.#plan.frontends.map(({ index, frontend: { name, listen, backend } }) => {
      const counts = JSON.stringify([this.#engine.frontend(index), this.#engine.frontendAnswers(index)]);
      return { name, ip: listen.ip, port: listen.port, protocol: backend.protocol, counts };
    });
  }

  packets(): PacketCounters {
    const fastPath = this.#engine.fastPath();
    const { outerTooBig } = this.#engine;
    return { verdicts: this.#engine.verdicts(), ...this.#engine.gauges(), workers: this.#engine.workers(), outerTooBig, fastPath };
  }
}

function isBetween(mode: PacketMode, { config }: Plan): boolean {
  return !MODES[mode].ownsAddresses && config.inline !== undefined;
}

/** Of an IPv6 client there is nothing. */
function queryOf({ client, ...indexes }: CarriedQuery): FlowQuery {
  if (client === undefined) return indexes;
  if (client.ip.includes(':')) return { servers: new Set() };
  // A shift by 32 bits is none.
  const mask = client.bits === 0 ? 0 : swap32(-1 << (32 - client.bits));
  return { ...indexes, client: { network: parseAddress(client.ip) & mask, mask, port: client.port } };
}

function sizeOf({ connectionTrackerCapacity: connections, workers, io }: Passthrough): Size {
  return { connections, workers, io };
}

/** Whether an lb4 that died has left connections that one with this configuration goes on with. */
export function canGoOn({ passthrough }: Config, mode: PacketMode): boolean {
  return wouldInherit(sizeOf(passthrough), MODES[mode].directions);
}

/** Throws TakeoverError where the table of the lb4 that runs is none that one with this configuration could go on with. */
export function assertTakable({ passthrough }: Config, mode: PacketMode): void {
  const obstacle = takeoverObstacle(sizeOf(passthrough), MODES[mode].directions);
  if (obstacle !== undefined) throw new TakeoverError(`the table of the lb4 that runs cannot be taken over, and it goes on: ${obstacle}`);
}

/** Takes back everything; with `isKept` all but what connections need to go on by the next lb4, and says so. Returns whether all was. */
async function leave(undo: Undo, isKept: boolean, log: Logger): Promise<boolean> {
  if (isKept) log.warn('connections wait for the next start: their table and the firewall rules stay, as after a kill');
  return undo.run(log, isKept);
}

function tracesLeft(): Error {
  return new Error('traces of lb4 are left on this host');
}

/** Whatever it begins it can take back by `undo`, also where it fails. */
async function open(
  plan: Plan,
  { mode, rules, remember, takeover }: PacketPathOptions,
  reports: Reports,
  { claim, isLeft, undo }: Begun,
): Promise<PacketPathParts> {
  const { log, failed, signal, ended, nameOf } = reports;
  const { inline } = plan.config;
  const isInline = isBetween(mode, plan);
  const firewall = rules ? (isInline ? new InlineHost() : new Firewall(mode, log, keptReturns(isLeft, log))) : undefined;
  if (firewall !== undefined) {
    // All or nothing: where it fails there is nothing to take back.
    const putBack = await firewall.install(plan);
    undo.push((isKept) => {
      if (isKept) return takeover?.isTaken === false ? putBack() : undefined;
      return claim.lock === undefined ? undefined : firewall.remove();
    });
    // What is to be taken back stands in the notes, which are there again when they are needed.
    undo.push(() => claim.lock?.putBack());
  }
  const {
    cpus,
    ringSlots,
    busyPollUs,
    io,
    fastPath,
    resetsPerSecond: answersPerSecond,
    resetsPerSource: answersPerSource,
    synFloodFrom: floodFrom,
  } = plan.config.passthrough;
  const settings = settingsOf(plan, mode);
  const shortage = memoryShortage(plan.config.passthrough, settings.services.frontends, memoryLimit());
  if (shortage !== undefined) log.warn(shortage);
  let began = performance.now();
  const turn = async () => {
    began = performance.now();
    await takeover?.take();
    if (takeover?.isOrphan !== true) return;
    claim.take();
    // Where it stopped it took all rules away, these, too.
    await firewall?.again();
  };
  const own = () => {
    // Whoever removes the notes later finds them known.
    claim.take().missing();
    remember();
  };
  const told = (message: string) => log.warn(message);
  const engine = await Engine.start({
    fastPath,
    inline: isInline && inline !== undefined ? inlineOf(inline) : undefined,
    ...sizeOf(plan.config.passthrough),
    cpus,
    ringSlots,
    busyPollUs,
    answersPerSecond,
    answersPerSource,
    floodFrom,
    settings,
    keep: true,
    turn,
    own,
    failed,
    signal,
    flood: ({ isOn, frontend, halfOpen, most }) => {
      if (frontend !== undefined) tellFilled(isOn, nameOf(frontend), log);
      else tellFlood(isOn, { half_open: halfOpen, most_of: most === undefined ? undefined : nameOf(most) }, log);
    },
    ended: (endings) => {
      if (endings.isOff) log.error('there is no memory for the connection log: a packet worker goes on without');
      ended(endedFlows(endings), endings);
    },
    told,
  });
  undo.push((isKept) => engine.stop(isKept));
  // What an lb4 before this one stood between, and this one does not, is the kernel's again.
  if (isInline) await firewall?.prune(plan);
  if (io === 'pcap') log.warn('packets go through libpcap (io = "pcap"): several times slower than the ring');
  tellFastPath(engine.fastPath(), fastPath !== 'off' && engine.inheritance.isFound, log);
  tellInheritance(engine.inheritance, takeover === undefined ? 'an lb4 that died' : 'the lb4 that handed over', log);
  if (takeover !== undefined)
    log.info({ ms: Math.ceil(performance.now() - began) }, 'packets waited for so long at most, while the other lb4 handed over');
  return { mode, log, remember, lock: claim.take(), firewall, engine, undo, plan };
}

/** @param isLate it is wanted, and connections of another lb4 go on where they are */
function tellFastPath(fastPath: FastPathState | undefined, isLate: boolean, log: Logger): void {
  if (fastPath === undefined && isLate) log.warn(NO_FAST_PATH_YET);
  const { tc, xdp } = fastPath ?? { tc: [], xdp: [] };
  if (tc.length + xdp.length === 0) return;
  log.info({ tc, ...(xdp.length > 0 && { xdp }) }, 'established connections are forwarded in the kernel (fast path)');
}

function tellFlood(isOn: boolean, by: { readonly half_open: number | undefined; readonly most_of: string | undefined }, log: Logger): void {
  if (isOn)
    log.warn(
      by,
      'SYNs flood, and few of them lead to a connection: until that is over one is taken in when it comes the second time, which takes clients a second',
    );
  else log.info('the flood of SYNs is over: they are taken in at once');
}

function tellFilled(isOn: boolean, frontend: string | undefined, log: Logger): void {
  if (isOn)
    log.warn(
      { frontend },
      'SYNs fill the limit (maxconn) of a frontend or its servers, and few of them lead to a connection: until that is over one to it is taken in when it comes the second time, which takes its clients a second',
    );
  else log.info({ frontend }, 'SYNs fill the limit of a frontend no more: they are taken in at once');
}

const NO_FAST_PATH_YET =
  'no fast path in the kernel: the table of the connections that go on is not in its maps; a stop, which ends them, and a start make another one';

function tellInheritance({ isFound, connections, refused, mortal }: Inheritance, whose: string, log: Logger): void {
  if (isFound) log.info({ connections }, `the connections of ${whose} go on`);
  if (refused !== undefined) log.warn({ reason: refused }, `${whose} has left a table that cannot be followed: its connections are lost`);
  if (mortal !== undefined) log.info({ reason: mortal }, 'connections will not survive the death of this process');
}

function inlineOf({ backend, frontends }: Inline): InlinePorts {
  const prefix = ({ address, bits }: { readonly address: string; readonly bits: number }) => ({ address: parseAddress(address), bits });
  return { backend, frontends: frontends.map(({ name, clients }) => ({ name, clients: clients.map(prefix) })) };
}

/** What the engine is told. */
export function settingsOf({ config, frontends, backends, formerSources }: Plan, mode: PacketMode): Settings {
  const { timeouts } = config.passthrough;
  const peers = peersOf(backends);
  return {
    services: {
      frontends: frontends.map(({ index, draining, frontend }) => {
        const { listen, backend, maxconn, udpPerPacket = false, icmpEcho } = frontend;
        return {
          index,
          address: parseAddress(listen.ip),
          port: listen.port,
          protocol: backend.protocol.number,
          backend: backend.name,
          maxconn,
          draining,
          perPacket: udpPerPacket,
          echo: icmpEcho === 'balancer',
          access: accessOf(frontend),
        };
      }),
      backends: backends.map((backend) => backendOf(backend, mode, peers)),
      formerSources: formerSources.map(parseAddress),
    },
    timeouts: {
      syn: timeouts.synMs,
      established: timeouts.establishedMs,
      fin: timeouts.finMs,
      timeWait: timeouts.timeWaitMs,
      closed: timeouts.closedMs,
      udp: timeouts.udpMs,
      udpStream: timeouts.udpStreamMs,
      icmp: timeouts.icmpMs,
    },
    endings: endingOrders(config.connectionLog, config.passthrough.workers),
  };
}

/** Who is one server by several protocols: the index of the first of them, by what they have in common. */
type Peers = ReadonlyMap<string, number>;

/** Where clients stay with a server over protocols. */
function peersOf(backends: readonly PlannedBackend[]): Peers {
  const across = backends.filter(({ backend }) => backend.affinityAcross === true);
  const all = across.flatMap(({ backend, servers }) => servers.map(({ index, server }) => [peerKey(backend, server), index] as const));
  return new Map(all.toReversed());
}

function peerKey({ name, label = name }: PlannedBackend['backend'], { name: server, addr }: PlannedServer['server']): string {
  return JSON.stringify([label, server, addr.ip]);
}

function backendOf({ backend, choice, servers }: PlannedBackend, mode: PacketMode, peers: Peers): Settings['services']['backends'][number] {
  const { forwards, source } = factsOf(mode, backend);
  const chosen = new Set(choice.candidates.filter(takesOthers).map(({ index }) => index));
  return {
    name: backend.name,
    mode: forwards,
    choice,
    servers: servers.map(({ index, server, state }) => {
      const lost = (backend.udpFailover ?? true) && state === 'down' && !chosen.has(index) && chosen.size > 0;
      const peer = peers.size === 0 ? undefined : peers.get(peerKey(backend, server));
      const [address, port] = [parseAddress(server.addr.ip), serverPort(backend, server)];
      return { index, address, port, protocol: backend.protocol.number, lost, ...(peer !== undefined && { peer }) };
    }),
    ...(source === 'client' && backend.srcIpRewrite !== undefined && { prefix: prefixOf(backend.srcIpRewrite) }),
    ...(backend.affinityMs !== undefined && { affinity: { ms: backend.affinityMs } }),
    ...(isWrapped(mode, backend) && backend.tunnel !== undefined && { tunnel: tunnelOf(backend.tunnel, backend.glb) }),
    sources: source === 'pool' ? backend.sourceAddrs.map(parseAddress) : [],
  };
}

/** Whether a candidate gets what others lose: in a table of GLB's there are those that are down, or drain, as well. */
function takesOthers({ standing }: Candidate): boolean {
  return standing === undefined || (standing.healthy && standing.state === 'active');
}

/** In native order; 0: the kernel's choice. */
function tunnelOf({ port, source }: NonNullable<Backend['tunnel']>, glb: Backend['glb']) {
  const hops = glb === undefined || port === 0 ? 0 : hopsIn(glb);
  return { port, source: source === undefined ? 0 : parseAddress(source), hops };
}

/** In native order. */
function prefixOf({ clients, as }: NonNullable<Backend['srcIpRewrite']>) {
  return { mask: swap32(-1 << (32 - clients.bits)), from: swap32(clients.first), to: swap32(as.first) };
}
