/** What becomes of connections while no packet asks: their byte counts are collected, and those go that have been idle for too long. */
import { idleOf } from '../flow/counts.ts';
import type { HalfOpen } from '../flow/half-open.ts';
import * as T from '../flow/life.ts';
import type { Timeouts } from '../flow/protocol.ts';
import { byNumber, protocols } from '../flow/protocols.ts';
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import { HEADER, HOME, STRIDE } from '../layout/frames.ts';
import { type Connections, protocolOf } from './connections.ts';
import { type EndingLog, How } from './endings.ts';
import type { LastHops } from './next-hops.ts';
import type { SynGuard } from './syn-guard.ts';

export interface SweepParts {
  readonly table: FlowTable;
  readonly records: Records;
  readonly halfOpen: HalfOpen;
  readonly datagrams: HalfOpen;
  readonly lastHops: LastHops;
  readonly connections: Connections;
  readonly endings: EndingLog;
  readonly guard: Pick<SynGuard, 'isFloodedAt'>;
}

/** Under pressure, and while SYNs flood, one waits for its answer so much shorter: most of them come to nothing. */
const HASTE = 8;
/** What share of the records must be in use before connections that the hash finds again get less time. */
const CROWDED = 3 / 4;
/** Records of a sweep whose flows are read at a time, before they are looked at. */
const TOUCHED = 32;
/** Frames of a batch by which byte counts are collected between two sweeps. */
const LOOKED_AT = 8;
/** Nothing is in flight on a connection that has been silent for so many milliseconds. */
const QUIET_MS = 2000;
/** Since the last sweep, where that keeps its time: those of datagrams without any payload are seen by this. */
const RECENT_MS = 1000;

/** Walks the connections of one core. */
export class Sweep {
  readonly #table: FlowTable;
  readonly #records: Records;
  readonly #halfOpen: HalfOpen;
  readonly #datagrams: HalfOpen;
  readonly #lastHops: LastHops;
  readonly #connections: Connections;
  readonly #endings: EndingLog;
  readonly #guard: Pick<SynGuard, 'isFloodedAt'>;
  /** By protocol, as it has them. */
  readonly #timeouts: Int32Array[] = byNumber.map(() => new Int32Array(T.STATES));
  /** What was read ahead: kept, lest the reading be left out. */
  readonly #touched = new Int32Array(1);

  constructor({ table, records, halfOpen, datagrams, lastHops, connections, endings, guard }: SweepParts) {
    this.#table = table;
    this.#records = records;
    this.#halfOpen = halfOpen;
    this.#datagrams = datagrams;
    this.#lastHops = lastHops;
    this.#connections = connections;
    this.#endings = endings;
    this.#guard = guard;
  }

  setTimeouts(timeouts: Timeouts): void {
    for (const protocol of protocols) this.#timeouts[protocol.number] = protocol.timeoutTable(timeouts);
  }

  /**
   * Visits the connections among `count` records from `from` on, `most` of them: collects their byte counts, removes those that have been
   * idle for too long, those whose frontend or server is no more, and flows of datagrams whose server is lost. Returns the record to go on from, 0 at the end. All should be
   * visited once a second, as far as `most` allows; what is empty costs next to nothing.
   */
  visit(from: number, count: number, most: number, now: number): number {
    const records = this.#records;
    const end = Math.min(from + count, records.capacity);
    let left = most;
    let record = records.skipFree(from, end);
    let touched = record;
    while (record < end && left > 0) {
      if (record >= touched) touched = this.touch(record);
      if (records.isTaken(record)) {
        this.#visit(record, now);
        left--;
      }
      record = records.skipFree(record + 1, end);
    }
    const next = Math.max(Math.min(record, end), from);
    if (next < records.capacity) return next;
    this.#lastHops.swept(now);
    this.#halfOpen.measure();
    this.#datagrams.measure();
    return 0;
  }

  /**
   * Collects the byte counts of flows that packets of the last batch went by: of whatever stands at and behind their homes.
   * A direction's BYTES have 32 bits, and with ten million connections a sweep takes 25 s. Who carries 2 GB meanwhile has sent
   * 32,768 frames at least, and is in one of the batches that are looked at, at each tick: a million frames a second, eight of them a tick
   * and a hundred ticks a second look at 50 of those.
   */
  collectLatest(frames: Int32Array): void {
    for (let f = HEADER; f < HEADER + LOOKED_AT * STRIDE; f += STRIDE) this.#collectFrom(frames[f + HOME] >>> Flow.ENTRY_SHIFT);
  }

  #collectFrom(home: number): void {
    const flows = this.#table.words;
    const { words } = this.#records;
    for (let slot = home; slot < home + Flow.PROBES; slot++) {
      const at = slot << Flow.ENTRY_SHIFT;
      const presence = flows[at + Flow.STATE] & Flow.PRESENCE;
      if (presence === Flow.EMPTY) return;
      if (presence !== Flow.LIVE) continue;
      const r = flows[at + Flow.CONNECTION] << C.RECORD_SHIFT;
      this.#connections.collect(r, words[r + C.FIRST] !== slot);
    }
  }

  /** Reads a word of each flow of the next records, so that cache misses overlap. Returns the first record behind them. */
  touch(from: number): number {
    const flows = this.#table.words;
    const { words, capacity } = this.#records;
    const end = Math.min(from + TOUCHED, capacity);
    let sum = 0;
    for (let r = from << C.RECORD_SHIFT; r < end << C.RECORD_SHIFT; r += C.RECORD) {
      if (words[r + C.LIFE] === 0) continue;
      const first = words[r + C.FIRST];
      const second = words[r + C.SECOND];
      sum ^= flows[first << Flow.ENTRY_SHIFT] ^ flows[(second === Flow.NONE ? first : second) << Flow.ENTRY_SHIFT];
    }
    this.#touched[0] = sum;
    return end;
  }

  #visit(record: number, now: number): void {
    const r = record << C.RECORD_SHIFT;
    const flows = this.#table.words;
    const { words } = this.#records;
    const first = words[r + C.FIRST] << Flow.ENTRY_SHIFT;
    const isOneWay = words[r + C.SECOND] === Flow.NONE;
    const isExpired = this.#isExpired(r, now);
    // A live one that was silent ends now.
    if (isExpired && (words[r + C.LIFE] & T.STATE_MASK) < T.TIME_WAIT) this.#connections.bind(record, now);
    const isOrphan = this.#connections.isOrphan(record);
    if (isExpired || isOrphan || this.#connections.isLost(record)) {
      this.#connections.end(record, isExpired ? How.idle : isOrphan ? How.gone : How.serverDown, now);
      return;
    }
    this.#connections.recount(record);
    let isUsed = this.#connections.collect(r, false);
    this.#lastHops.keep(flows[first + Flow.NEXT_HOP]);
    if (!isOneWay) {
      isUsed = this.#connections.collect(r, true) || isUsed;
      const second = words[r + C.SECOND] << Flow.ENTRY_SHIFT;
      this.#lastHops.keep(flows[second + Flow.NEXT_HOP]);
      this.#connections.noteClient(r);
      if (T.isFast(words[r + C.LIFE])) protocolOf(flows, first).settle(flows, first, second, now, QUIET_MS);
    }
    if (this.#endings.isOn) this.#endings.visit(record, now);
    if ((words[r + C.LIFE] & T.STATE_MASK) < T.TIME_WAIT) this.#connections.bind(record, now);
    if ((words[r + C.LIFE] & T.DATAGRAM) !== 0 && (isUsed || !this.#isIdle(r, RECENT_MS, now))) this.#connections.renew(record);
  }

  #isExpired(r: number, now: number): boolean {
    return this.#isIdle(r, this.#timeoutOf(r), now);
  }

  /** Whether no packet of either direction was seen for more than so many milliseconds. */
  #isIdle(r: number, milliseconds: number, now: number): boolean {
    const { words } = this.#records;
    if (this.#idle(words[r + C.FIRST], now) <= milliseconds) return false;
    return words[r + C.SECOND] === Flow.NONE || this.#idle(words[r + C.SECOND], now) > milliseconds;
  }

  /** Milliseconds since a packet of a flow was last seen, here or by the kernel. */
  #idle(slot: number, now: number): number {
    return idleOf(this.#table.words, slot << Flow.ENTRY_SHIFT, now);
  }

  #timeoutOf(r: number): number {
    const { words } = this.#records;
    const life = words[r + C.LIFE];
    const protocol = protocolOf(this.#table.words, words[r + C.FIRST] << Flow.ENTRY_SHIFT);
    const table = this.#timeouts[protocol.number];
    const timeout = protocol.timeoutOf(table, life);
    if ((life & T.STATE_MASK) <= T.ANSWERED) return this.#isHasty(r) ? timeout / HASTE : timeout;
    const isSpare = (life & T.HASHED) !== 0 && this.#records.size > this.#records.capacity * CROWDED;
    return isSpare ? Math.min(timeout, table[T.CLOSING]) : timeout;
  }

  /** Whether one that nobody has answered yet gets less time. A flood of SYNs is none of datagrams. */
  #isHasty(r: number): boolean {
    const { words } = this.#records;
    const isHandshake = (words[r + C.LIFE] & T.DATAGRAM) === 0;
    return (isHandshake && this.#guard.isFloodedAt(words[r + C.OWNER] >>> 16)) || this.#connections.isPressed(r);
  }
}
