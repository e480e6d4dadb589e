/** What whoever forwards packets does now and then beside it: takes over settings, sweeps a slice of the flow table, tells counters. */
import type { Core } from '../forward/core.ts';
import type { Ports } from '../forward/crossing.ts';
import { type Endings, How } from '../forward/endings.ts';
import type { Signal } from '../forward/signals.ts';
import type { SynFlood } from '../forward/syn-guard.ts';
import type { Driver } from '../io/driver.ts';
import { FIRST, RECORD_SHIFT } from '../layout/connection.ts';
import {
  AFFINITY_EVICTED,
  DATAGRAM_FLOWS,
  DATAGRAMS_EVICTED,
  DROPPED,
  FLOWS,
  HALF_OPEN,
  HALF_OPEN_EVICTED,
  RECEIVED,
  STATIONS_EVICTED,
  SYN_FLOODS,
  WAYS_MOVED,
} from '../layout/counters.ts';
import { ENTRY_SHIFT, STATE, VERSION_SHIFT } from '../layout/flow.ts';
import type { Memory } from '../layout/memory.ts';
import type { EarlyDrops } from './early-drops.ts';
import { ORDER, type Orders, type WorkerData } from './messages.ts';
import { attempt } from './origin.ts';
import { recover } from './recovery.ts';

/** Milliseconds between ticks under load, and while connections are idle. With none at all only a message wakes us. */
const BUSY_TICK = 10;
const IDLE_TICK = 100;
const EMPTY_TICK = 1000;
/** Milliseconds between two messages about signals. */
const SIGNALS_TICK = 100;
/** Every connection is visited once in this time … */
const SWEEP_MS = 1000;
/** … but at most so many in a tick, a millisecond's work: with more than 400,000 a sweep takes longer, and no packet waits for it. */
const MOST_VISITS = 4096;
/** Those of a worker's slice of a tick, 15 µs' work or a few times as much: between two of them it looks for packets. */
export const SLICE = 128;

/** Milliseconds within which a tracker with room for so many connections visits each once, with as many as it holds, under load. */
export function sweepTime(connections: number): number {
  return Math.max(SWEEP_MS, Math.ceil(connections / MOST_VISITS) * BUSY_TICK);
}

interface DutiesParts {
  readonly core: Core;
  readonly memory: Memory;
  readonly driver: Driver;
  /** Where the kernel drops for it. */
  readonly drops?: EarlyDrops | undefined;
  readonly signals: (signals: readonly Signal[]) => void;
  /** Told all addresses of ours that connections leave from, or may, whenever others do. */
  readonly sources: (addresses: readonly number[]) => void;
  /** Told when a flood of SYNs begins, and when it is over. */
  readonly flood: (flood: SynFlood) => void;
  /** Told of connections that have ended, where the connection log is on. */
  readonly ended: (endings: Endings) => void;
}

export class Duties {
  readonly #core: Core;
  readonly #memory: Memory;
  readonly #driver: Driver;
  readonly #drops: EarlyDrops | undefined;
  readonly #signals: (signals: readonly Signal[]) => void;
  readonly #sources: (addresses: readonly number[]) => void;
  readonly #flood: (flood: SynFlood) => void;
  readonly #ended: (endings: Endings) => void;
  readonly #evictedBefore: number;
  readonly #evictedDatagramsBefore: number;
  readonly #evictedBondsBefore: number;
  readonly #evictedStationsBefore: number;
  readonly #movedBefore: number;
  #lastTick = 0;
  #sweptTo = 0;
  #lastTold = 0;
  /** Where the tick's sweep is to end, and how many connections it may still visit. */
  #sweepEnd = 0;
  #mayVisit = 0;
  /** Records that a sweep in a hurry has still to come by, whatever a tick may visit: datagrams of a lost server go within a second. */
  #hurriedLeft = 0;
  #lossesSeen = 0;
  /** Connections that an order names and that are still to be done, from there on; undefined: none are. */
  #order: { readonly records: Int32Array; readonly isEnd: boolean; at: number } | undefined;
  /** The sweep has not come there. */
  #isBehind = false;
  #sourcesTold = -1;

  constructor({ core, memory, driver, drops, signals, sources, flood, ended }: DutiesParts) {
    this.#core = core;
    this.#memory = memory;
    this.#driver = driver;
    this.#drops = drops;
    this.#signals = signals;
    this.#sources = sources;
    this.#flood = flood;
    this.#ended = ended;
    this.#evictedBefore = memory.counters.gauges[HALF_OPEN_EVICTED];
    this.#evictedDatagramsBefore = memory.counters.gauges[DATAGRAMS_EVICTED];
    this.#evictedBondsBefore = memory.counters.gauges[AFFINITY_EVICTED];
    this.#evictedStationsBefore = memory.counters.gauges[STATIONS_EVICTED];
    this.#movedBefore = memory.counters.gauges[WAYS_MOVED];
  }

  /** Applies the first orders, and takes up what an lb4 that died has left. Returns how many connections go on. */
  begin({ mtus, ports, attempts, ...orders }: WorkerData): number {
    this.#apply(orders);
    this.setInterfaces(mtus, ports);
    if (attempts === 0) return 0;
    return attempt(this.#memory.header, attempts, () => recover(this.#core, orders.settings.services, orders.hops, monotonicNow()));
  }

  apply(orders: Orders): void {
    this.#apply(orders);
    // Before the orders are answered: whoever waits for that knows what they have changed.
    this.#tellSources();
  }

  /** @param ports those that it stands between, if it does */
  setInterfaces(mtus: ReadonlyMap<number, number>, ports: Ports | undefined): void {
    if (ports === undefined) this.#core.lastHops.setInterfaces(mtus);
    else this.#core.crossing?.setPorts(ports);
  }

  /** Ends connections by order, as of EndRecords (messages.ts): {@link obey} does. */
  end(records: Int32Array): void {
    this.#order = { records, isEnd: true, at: 0 };
  }

  /** Has all packets of such connections come the long way, likewise. */
  takeBack(records: Int32Array): void {
    this.#order = { records, isEnd: false, at: 0 };
  }

  /** Whether a part of an order is left: no other one is to be given until then. */
  get isOrdered(): boolean {
    return this.#order !== undefined;
  }

  /** Does so many connections of an order: thousands at a time would have packets wait. */
  obey(most: number, now = monotonicNow()): void {
    const order = this.#order;
    if (order === undefined) return;
    const { records, isEnd } = order;
    const end = Math.min(order.at + most * ORDER, records.length);
    for (let i = order.at; i < end; i += ORDER) {
      if (!this.#isThere(records, i)) continue;
      if (isEnd) this.#core.connections.end(records[i], How.killed, now);
      else this.#core.connections.takeBack(records[i]);
    }
    order.at = end;
    if (end === records.length) this.#order = undefined;
  }

  /** Whether what stands at `i` is still the connection that was meant. */
  #isThere(records: Int32Array, i: number): boolean {
    const { table, records: all } = this.#core;
    const [record, slot, version] = [records[i], records[i + 1], records[i + 2]];
    return (
      all.isTaken(record) &&
      all.words[(record << RECORD_SHIFT) + FIRST] === slot &&
      table.words[(slot << ENTRY_SHIFT) + STATE] >>> VERSION_SHIFT === version
    );
  }

  /** Whether a tick is due under load; `now` as everywhere in milliseconds of CLOCK_MONOTONIC, modulo 2^32. */
  isDue(now: number): boolean {
    return (now - this.#lastTick) >>> 0 >= BUSY_TICK;
  }

  /** Milliseconds that may pass without a tick while nothing arrives; 0: there is more to do ({@link goOn}). */
  idleTime(): number {
    if (this.isOrdered) return 0;
    if (this.#core.endings.isWaiting || (this.#drops?.isBehind === true && !this.isSweeping)) return BUSY_TICK;
    const { guard } = this.#core;
    // The sketch ages, whoever drops by it; of a flood of all that may be the kernel, which goes by the half second that it was told last.
    if (guard.isOn && !this.isSweeping) return this.#isBehind || guard.isFlooded ? BUSY_TICK : IDLE_TICK;
    if (this.#core.table.size === 0) return EMPTY_TICK;
    if (this.isSweeping) return 0;
    return this.#isBehind ? BUSY_TICK : IDLE_TICK;
  }

  /** Whether a part of the tick's sweep is left. */
  get isSweeping(): boolean {
    return this.#isBehind && this.#mayVisit > 0;
  }

  /** Sweeps another slice. */
  goOn(now: number, slice: number): void {
    const { sweep, records } = this.#core;
    const from = this.#sweptTo;
    this.#sweptTo = sweep.visit(this.#sweptTo, this.#sweepEnd - this.#sweptTo, Math.min(slice, this.#mayVisit), now);
    this.#mayVisit -= slice;
    this.#hurriedLeft -= Math.min(this.#hurriedLeft, (this.#sweptTo || records.capacity) - from);
    this.#isBehind = this.#sweptTo !== 0 && this.#sweptTo < this.#sweepEnd;
  }

  /** @param slice connections that may be visited at once: the rest of those due {@link goOn} visits */
  tick(now: number, slice = MOST_VISITS): void {
    const { table, lastHops, signals } = this.#core;
    // After a long sleep the sweep falls behind rather than hold up the packet that woke us.
    const elapsed = Math.min((now - this.#lastTick) >>> 0, 2 * IDLE_TICK);
    this.#lastTick = now;
    if (table.size > 0) {
      this.#core.collectLatest();
      this.#beginSweep(elapsed);
      this.goOn(now, slice);
    } else lastHops.swept(now);
    this.#tellSources();
    this.#watchSyns(now);
    this.#tellEnded(now);
    if (signals.isNoted && (now - this.#lastTold) >>> 0 >= SIGNALS_TICK) {
      this.#lastTold = now;
      this.#signals(signals.take());
    }
    this.#count();
  }

  #watchSyns(now: number): void {
    const { guard, filled, halfOpen, connections, ledger } = this.#core;
    const was = guard.isFlooded;
    this.#drops?.collect();
    guard.tick(halfOpen.size, connections.completed, now);
    if (guard.isFlooded && !was) this.#flood({ isOn: true, halfOpen: halfOpen.size, most: ledger.mostHalfOpen() });
    else if (guard.isFlooded !== was) this.#flood({ isOn: false });
    for (const { frontend, isFilled } of filled.takeChanges()) this.#flood({ isOn: isFilled, frontend });
  }

  /** The worker stops: what a tick would leave to the next one is counted and told. */
  finish(now: number): void {
    this.#drops?.finish();
    this.#tellEnded(now);
    this.#count();
  }

  /** Tells of the connections that have ended since the last time. */
  #tellEnded(now: number): void {
    const { endings } = this.#core;
    if (endings.isOn) endings.tick(now);
    if (endings.isWaiting) this.#ended(endings.take());
  }

  #apply({ settings: { services: set, timeouts, endings }, hops }: Orders): void {
    this.#core.endings.apply(endings, monotonicNow());
    this.#drops?.settle(set);
    this.#core.services.apply(set, hops);
    this.#drops?.follow(set);
    this.#core.sweep.setTimeouts(timeouts);
    const { losses } = this.#core.services;
    if (losses === this.#lossesSeen) return;
    this.#lossesSeen = losses;
    this.#hurriedLeft = this.#core.records.capacity;
  }

  /** One that a reload has taken out of the file goes when its last connection has. */
  #tellSources(): void {
    const { pools } = this.#core.services;
    if (pools.version === this.#sourcesTold) return;
    this.#sourcesTold = pools.version;
    this.#sources(pools.sources());
  }

  #beginSweep(elapsed: number): void {
    const { capacity } = this.#core.records;
    this.#sweepEnd = Math.min(this.#sweptTo + Math.ceil((capacity * elapsed) / SWEEP_MS), capacity);
    this.#mayVisit = this.#hurriedLeft > 0 ? capacity : MOST_VISITS;
  }

  #count(): void {
    const { table, halfOpen, datagrams, connections, bonds, guard, crossing, wayBack } = this.#core;
    const { gauges } = this.#memory.counters;
    const { received, dropped } = this.#driver.statistics();
    gauges[RECEIVED] += received;
    gauges[DROPPED] += dropped;
    gauges[FLOWS] = table.size;
    gauges[HALF_OPEN] = halfOpen.size;
    gauges[HALF_OPEN_EVICTED] = this.#evictedBefore + connections.evicted;
    gauges[SYN_FLOODS] = Number(guard.isOn);
    gauges[DATAGRAM_FLOWS] = datagrams.size;
    gauges[DATAGRAMS_EVICTED] = this.#evictedDatagramsBefore + connections.evictedDatagrams;
    gauges[AFFINITY_EVICTED] = this.#evictedBondsBefore + bonds.evicted;
    gauges[WAYS_MOVED] = this.#movedBefore + wayBack.moved;
    if (crossing !== undefined) gauges[STATIONS_EVICTED] = this.#evictedStationsBefore + crossing.evicted;
  }
}

/** CLOCK_MONOTONIC in milliseconds, modulo 2^32: no frame has told it yet. */
export function monotonicNow(): number {
  return Number(process.hrtime.bigint() / 1_000_000n) | 0;
}
