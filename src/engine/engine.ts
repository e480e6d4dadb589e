/** The main thread's handle on the data path: starts its worker, tells it what to balance, reads its counters. */
import { closeSync } from 'node:fs';
import { tableCapacity } from '../flow/table.ts';
import { assertServiceSet } from '../forward/assert-set.ts';
import { modes } from '../forward/modes.ts';
import type { Signal } from '../forward/signals.ts';
import { type VerdictName, verdictNames } from '../forward/verdict.ts';
import {
  ANSWERED,
  CURRENT,
  DROPPED,
  DUE,
  FLOWS,
  frontendLoad,
  frontendRow,
  HALF_OPEN,
  HALF_OPEN_EVICTED,
  RECEIVED,
  RX,
  serverRow,
  TOTAL,
  TRANSMIT_FAILED,
  TX,
} from '../layout/counters.ts';
import type { Memory, Room } from '../layout/memory.ts';
import { assertLittleEndian } from '../packet/address.ts';
import { type Acquired, acquireMemory, isFollowable, obstacleTo, openOther } from './acquire.ts';
import { filterFor } from './filter.ts';
import type { Settings, WorkerData } from './messages.ts';
import { PcapThread } from './pcap-thread.ts';
import { type Ports, PortUse } from './ports.ts';
import { type DeadEnd, ServerRoutes } from './routes.ts';
import { type Forwarder, Thread, type ThreadReports, WaitingThread } from './thread.ts';

export { assertServiceSet } from '../forward/assert-set.ts';
export type { Settings } from './messages.ts';

/** What moves frames: the kernel's ring (io/packet-socket.ts), or libpcap (io/pcap.ts). */
export type DriverName = 'ring' | 'pcap';

export interface EngineOptions {
  readonly io: DriverName;
  /** Connections at most. */
  readonly connections: number;
  /** Receive slots of 128 KB, a power of two. */
  readonly ringSlots: number;
  /** Resets and ICMP errors a second. */
  readonly answersPerSecond: number;
  readonly settings: Settings;
  /** Connections are to survive the process, and those of one that died to go on. */
  readonly keep: boolean;
  /** Another lb4 has the table: resolves when it has let go of it. Called when all else that can fail is done. */
  readonly turn?: (() => Promise<void>) | undefined;
  /** Called after that, before the table is asked for. */
  readonly own?: (() => void) | undefined;
  /** The worker died of an error: nothing is forwarded any more. */
  readonly failed: (error: Error) => void;
  /** Packets tell that a server (its index) may be in trouble: at most ten times a second a server and reason. */
  readonly signal?: (server: number, reason: string) => void;
  /** Something people should know. */
  readonly told?: (message: string) => void;
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

const REASONS: Record<Signal['reason'], string> = {
  syn: 'a SYN was retransmitted',
  rst: 'the server reset a handshake',
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

/** Whether an engine for so many connections, of 1 or 2 flows each, would go on with those of an lb4 that died. */
export function wouldInherit(connections: number, directions: number): boolean {
  return isFollowable({ capacity: tableCapacity(connections), connections }, directions);
}

/** Why it could not take over those of an lb4 that runs, by the same; undefined: it could. */
export function takeoverObstacle(connections: number, directions: number): string | undefined {
  return obstacleTo({ capacity: tableCapacity(connections), connections }, directions);
}

/** Has somebody forward. */
type Begin = (data: WorkerData, reports: ThreadReports) => Promise<Forwarder>;

/** What an engine is made of, each of it running. */
interface EngineParts {
  readonly acquired: Acquired;
  readonly routes: ServerRoutes;
  readonly ports: PortUse;
  readonly thread: Forwarder;
  /** Flow entries at most. */
  readonly entries: number;
}

/** A running data path: one worker, its memory, and what the main thread keeps true for it. */
export class Engine {
  /** What came of the connections of an lb4 that died, and what will come of this one's. */
  readonly inheritance: Inheritance;
  readonly #acquired: Acquired;
  readonly #memory: Memory;
  readonly #routes: ServerRoutes;
  readonly #ports: PortUse;
  readonly #thread: Forwarder;
  readonly #entries: number;
  #isStopped = false;

  private constructor({ acquired, routes, ports, thread, entries }: EngineParts) {
    const { isFound, refused, mortal } = acquired;
    this.inheritance = { isFound, connections: thread.recovered, refused, mortal };
    this.#acquired = acquired;
    this.#memory = acquired.memory;
    this.#routes = routes;
    this.#ports = ports;
    this.#thread = thread;
    this.#entries = entries;
  }

  /** Starts forwarding. Throws the system's error (EPERM, ENOMEM …) when the packet socket cannot be opened. */
  static async start(options: EngineOptions): Promise<Engine> {
    assertLittleEndian();
    assertServiceSet(options.settings.services);
    const { io, ringSlots, settings, turn } = options;
    // What cannot be followed is not even read.
    const isFollowed = options.keep && takeoverObstacle(options.connections, directionsOf(settings)) === undefined;
    const memoryFd = isFollowed ? openOther() : undefined;
    let waiting: WaitingThread | undefined;
    let isHandedOn = false;
    try {
      // First: it takes time, and may fail.
      if (io !== 'pcap') waiting = await WaitingThread.open({ ringSlots, filter: filterFor(settings.services), memoryFd });
      await turn?.();
      waiting?.listen();
      options.own?.();
      isHandedOn = true;
      return await Engine.#acquire(options, memoryFd, (data, reports) => {
        return waiting === undefined ? PcapThread.start(data, reports) : Thread.start(waiting, data, reports);
      });
    } catch (error) {
      await waiting?.close();
      if (!isHandedOn && memoryFd !== undefined) closeSync(memoryFd);
      throw error;
    }
  }

  static async #acquire(options: EngineOptions, other: number | undefined, begin: Begin): Promise<Engine> {
    const room = { capacity: tableCapacity(options.connections), connections: options.connections };
    const acquired = acquireMemory(room, directionsOf(options.settings), options.keep, other);
    try {
      return await Engine.#startIn(acquired, room, options, begin);
    } catch (error) {
      // What was found is kept: whatever was in the way may be mended.
      acquired.close(acquired.isFound);
      throw error;
    }
  }

  static async #startIn(acquired: Acquired, room: Room, options: EngineOptions, begin: Begin): Promise<Engine> {
    const { fd: memoryFd, memory, key: hashKey, isFound } = acquired;
    const { connections, ringSlots, answersPerSecond, settings } = options;
    let thread: Forwarder | undefined;
    const routes = ServerRoutes.open(memory.hops, (mtus) => thread?.post({ type: 'interfaces', mtus }));
    try {
      const orders = { settings, hops: routes.apply(settings.services), filter: filterFor(settings.services) };
      const ports = new PortUse(memory.counters.statistics);
      ports.apply(settings.services);
      const entries = connections * directionsOf(settings);
      const data = { memoryFd, room, hashKey, isFound, ringSlots, answersPerSecond, mtus: routes.mtus(), ...orders };
      thread = await begin(data, reportsOf(options));
      // They may have changed meanwhile.
      thread.post({ type: 'interfaces', mtus: routes.mtus() });
      return new Engine({ acquired, routes, ports, thread, entries });
    } catch (error) {
      routes.close();
      throw error;
    }
  }

  /**
   * Replaces everything that is balanced. Live connections stay where they are, but for those of a frontend or server that is
   * not in the set any more, or has another address or port: the sweep ends them. Resolves when the worker goes by it, or
   * is gone. Rejects with a RangeError, and changes nothing, when an index is out of bounds.
   */
  async configure(settings: Settings): Promise<void> {
    assertServiceSet(settings.services);
    const hops = this.#routes.apply(settings.services);
    this.#ports.apply(settings.services);
    await this.#thread.apply({ settings, hops, filter: filterFor(settings.services) });
  }

  /** Whether connections to servers leave, or may leave, from that address of ours (native order). */
  usesSource(address: number): boolean {
    return this.#thread.usesSource(address);
  }

  /** The path of the table that was to outlive this process, where somebody has taken it away. */
  lostTable(): string | undefined {
    return this.#acquired.lost();
  }

  /** How many packets ended how. */
  verdicts(): Record<VerdictName, number> {
    return Object.fromEntries(verdictNames.map((name, i) => [name, this.#memory.counters.verdicts[i]])) as Record<VerdictName, number>;
  }

  /** Frames through the socket, live flow entries (two a connection) of how many at most, half-open connections. */
  gauges() {
    const { gauges } = this.#memory.counters;
    return {
      received: gauges[RECEIVED],
      dropped: gauges[DROPPED],
      transmitFailed: gauges[TRANSMIT_FAILED],
      flows: gauges[FLOWS],
      flowCapacity: this.#entries,
      halfOpen: gauges[HALF_OPEN],
      halfOpenEvicted: gauges[HALF_OPEN_EVICTED],
    };
  }

  frontend(index: number): Counters {
    return this.#countersAt(frontendRow(index), frontendLoad(index));
  }

  server(index: number): Counters & Ports {
    return { ...this.#countersAt(serverRow(index), index), ...this.#ports.of(index) };
  }

  /** Connections of a server, by index, whose answer is due, and those that were answered (layout/counters.ts). */
  answers(index: number): { due: number; answered: number } {
    return this.#answersAt(serverRow(index));
  }

  /** The same of a frontend. */
  frontendAnswers(index: number): { due: number; answered: number } {
    return this.#answersAt(frontendRow(index));
  }

  /** The ways from frontends to servers that lead nowhere now. */
  deadEnds(): DeadEnd[] {
    return this.#routes.deadEnds();
  }

  /**
   * Stops forwarding and waits until the worker is gone.
   * @param keep leaves the connections to the next lb4, and does not wait for the worker's end
   */
  async stop(keep = false): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#routes.close();
    await (keep ? this.#thread.halt() : this.#thread.stop());
    this.#acquired.close(keep);
  }

  #answersAt(row: number): { due: number; answered: number } {
    const { statistics } = this.#memory.counters;
    return { due: statistics[row + DUE], answered: statistics[row + ANSWERED] };
  }

  #countersAt(row: number, element: number): Counters {
    const { statistics } = this.#memory.counters;
    return {
      total: statistics[row + TOTAL],
      current: statistics[row + CURRENT],
      bytesTx: statistics[row + TX],
      bytesRx: statistics[row + RX],
      load: this.#memory.counters.loads[element],
    };
  }
}

/** Flow entries a connection. */
function directionsOf({ services }: Settings): number {
  return Math.max(1, ...services.backends.map(({ mode }) => modes[mode].directions));
}

function reportsOf({ failed, signal, told }: EngineOptions): ThreadReports {
  return {
    failed,
    told: (message) => told?.(message),
    signals: (servers) => {
      for (const { index, reason } of servers) signal?.(index, REASONS[reason]);
    },
  };
}
