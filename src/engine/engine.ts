/** The main thread's handle on the data path: starts its worker, tells it what to balance, reads its counters. */
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { hashKey, tableCapacity } from '../flow/table.ts';
import { assertServiceSet } from '../forward/assert-set.ts';
import type { Sign } from '../forward/trouble.ts';
import { type VerdictName, verdictNames } from '../forward/verdict.ts';
import { native } from '../io/native.ts';
import {
  ANSWERED,
  CURRENT,
  DROPPED,
  DUE,
  FLOWS,
  frontendLoad,
  frontendRow,
  RECEIVED,
  RX,
  serverRow,
  TOTAL,
  TRANSMIT_FAILED,
  TX,
} from '../layout/counters.ts';
import { type Memory, memoryIn, memorySize, writeHeader } from '../layout/memory.ts';
import { assertLittleEndian } from '../packet/address.ts';
import { filterFor } from './filter.ts';
import type { FromWorker, Ready, Settings, ToWorker, WorkerData } from './messages.ts';
import { type Ports, PortUse } from './ports.ts';
import { type DeadEnd, ServerRoutes } from './routes.ts';

export type { Settings } from './messages.ts';

export interface EngineOptions {
  /** Connections at most. */
  readonly connections: number;
  /** Receive slots of 128 KB, a power of two. */
  readonly ringSlots: number;
  /** Resets and ICMP errors a second. */
  readonly answersPerSecond: number;
  readonly settings: Settings;
  /** The worker died of an error: nothing is forwarded any more. */
  readonly failed: (error: Error) => void;
  /** Packets tell that a server (its index) may be in trouble: at most ten times a second a server and reason. */
  readonly trouble?: (server: number, reason: string) => void;
}

/** Connections and payload bytes of a frontend or a server; tx is client → server. */
export interface Counters {
  readonly total: number;
  readonly current: number;
  readonly bytesTx: number;
  readonly bytesRx: number;
  /** Connections from their SYN until they end. */
  readonly load: number;
}

const REASONS: Record<Sign['reason'], string> = {
  syn: 'a SYN was retransmitted',
  rst: 'the server reset a handshake',
};

export class Engine {
  private readonly worker: Worker;
  private readonly memory: Memory;
  private readonly memoryFd: number;
  private readonly routes: ServerRoutes;
  /** Flow entries at most. */
  private readonly entries: number;
  private readonly ports: PortUse;
  /** Settled when the worker is gone, however it went. */
  private readonly exited: Promise<unknown>;
  /** Who waits for settings to be applied, in the order in which they were sent. */
  private readonly applying: (() => void)[] = [];
  private wakeFd = -1;
  private stopped = false;

  private constructor(options: EngineOptions) {
    assertLittleEndian();
    assertServiceSet(options.settings.services);
    const capacity = tableCapacity(options.connections);
    const { fd, buffer } = native().createSharedMemory('lb4', memorySize(capacity));
    this.memoryFd = fd;
    this.memory = memoryIn(buffer, capacity);
    writeHeader(this.memory, capacity);
    this.routes = new ServerRoutes(this.memory.hops, (mtus) => this.tell({ type: 'interfaces', mtus }));
    const hops = this.routes.apply(options.settings.services);
    this.ports = new PortUse(this.memory.counters.statistics);
    this.ports.apply(options.settings.services);
    const { connections, ringSlots, answersPerSecond, settings } = options;
    const directions = settings.services.backends.some(({ mode }) => mode === 'passthrough') ? 2 : 1;
    this.entries = connections * directions;
    const key = hashKey(randomFillSync(new Uint32Array(4)));
    const data: WorkerData = {
      memoryFd: fd,
      capacity,
      entries: this.entries,
      hashKey: key,
      ringSlots,
      answersPerSecond,
      settings,
      hops,
      filter: filterFor(settings.services),
      mtus: this.routes.mtus(),
    };
    this.worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: data, name: 'lb4-worker' });
    this.worker.on('error', () => this.lose());
    this.exited = new Promise((resolve) => {
      this.worker.once('exit', (code) => {
        this.lose();
        resolve(code);
      });
    });
  }

  /** Starts forwarding. Throws the system's error (EPERM, ENOMEM …) when the packet socket cannot be opened. */
  static async start(options: EngineOptions): Promise<Engine> {
    const engine = new Engine(options);
    try {
      const died = engine.exited.then(() => Promise.reject(new Error('the worker ended before it was ready')));
      const [ready] = (await Promise.race([once(engine.worker, 'message'), died])) as [Ready];
      died.catch(() => {});
      engine.wakeFd = ready.wakeFd;
    } catch (error) {
      await engine.stop();
      throw error;
    }
    engine.worker.on('error', options.failed);
    engine.worker.on('message', (message: FromWorker) => engine.hear(message, options));
    return engine;
  }

  /**
   * Replaces everything that is balanced. Live connections stay where they are, but for those of a frontend or server that is
   * not in the set any more, or has another address or port: they end within a second. Resolves when the worker goes by it, or
   * is gone. Rejects with a RangeError, and changes nothing, when an index is out of bounds.
   */
  async configure(settings: Settings): Promise<void> {
    assertServiceSet(settings.services);
    const hops = this.routes.apply(settings.services);
    this.ports.apply(settings.services);
    if (this.stopped || this.wakeFd < 0) return;
    const applied = new Promise<void>((resolve) => this.applying.push(resolve));
    this.post({ type: 'settings', settings, hops, filter: filterFor(settings.services) });
    await applied;
  }

  /** How many packets ended how. */
  verdicts(): Record<VerdictName, number> {
    return Object.fromEntries(verdictNames.map((name, i) => [name, this.memory.counters.verdicts[i]!])) as Record<VerdictName, number>;
  }

  /** Frames through the socket, and live flow entries (two a connection) of how many at most. */
  gauges(): { received: number; dropped: number; transmitFailed: number; flows: number; flowCapacity: number } {
    const { gauges } = this.memory.counters;
    return {
      received: gauges[RECEIVED]!,
      dropped: gauges[DROPPED]!,
      transmitFailed: gauges[TRANSMIT_FAILED]!,
      flows: gauges[FLOWS]!,
      flowCapacity: this.entries,
    };
  }

  frontend(index: number): Counters {
    return this.countersAt(frontendRow(index), frontendLoad(index));
  }

  server(index: number): Counters & Ports {
    return { ...this.countersAt(serverRow(index), index), ...this.ports.of(index) };
  }

  /** Connections of a server, by index, whose answer is due, and those that were answered (layout/counters.ts). */
  answers(index: number): { due: number; answered: number } {
    return this.answersAt(serverRow(index));
  }

  /** The same of a frontend. */
  frontendAnswers(index: number): { due: number; answered: number } {
    return this.answersAt(frontendRow(index));
  }

  /** The ways from frontends to servers that lead nowhere now. */
  deadEnds(): DeadEnd[] {
    return this.routes.deadEnds();
  }

  /** Stops forwarding and waits until the worker is gone. */
  async stop(): Promise<void> {
    if (this.stopped) return;
    this.stopped = true;
    this.routes.close();
    if (this.wakeFd >= 0) this.post({ type: 'stop' });
    else await this.worker.terminate();
    await this.exited;
    native().closeFd(this.memoryFd);
  }

  private hear(message: FromWorker, { trouble }: EngineOptions): void {
    if (message.type === 'applied') this.applying.shift()?.();
    else if (message.type === 'trouble') for (const { index, reason } of message.servers) trouble?.(index, REASONS[reason]);
  }

  /** With the worker goes its eventfd, whose number may soon be somebody else's, and whoever waits for an answer waits in vain. */
  private lose(): void {
    this.wakeFd = -1;
    for (const resolve of this.applying.splice(0)) resolve();
  }

  private tell(message: ToWorker): void {
    if (!this.stopped) this.post(message);
  }

  private post(message: ToWorker): void {
    this.worker?.postMessage(message);
    if (this.wakeFd >= 0) native().wake(this.wakeFd);
  }

  private answersAt(row: number): { due: number; answered: number } {
    const { statistics } = this.memory.counters;
    return { due: statistics[row + DUE]!, answered: statistics[row + ANSWERED]! };
  }

  private countersAt(row: number, element: number): Counters {
    const { statistics } = this.memory.counters;
    return {
      total: statistics[row + TOTAL]!,
      current: statistics[row + CURRENT]!,
      bytesTx: statistics[row + TX]!,
      bytesRx: statistics[row + RX]!,
      load: this.memory.counters.loads[element]!,
    };
  }
}
