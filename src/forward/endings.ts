/**
 * The connection log's part of a core: what it must know of each connection beside its record, and a row for each one that has ended. Off it
 * holds no memory, and whoever asks looks at one flag. What is told is drawn and bounded here, so that a flood costs the main thread no more
 * than the lines it may write.
 *
 *     begin ─► carry … ─► settled by the sweep (FIN, reset), or by its end ─► a row, if it is drawn and there is room ─► take, at a tick
 */
import { idleOf } from '../flow/counts.ts';
import * as T from '../flow/life.ts';
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import { RateLimit } from './rate-limit.ts';

/** What the connection log asks for. */
export interface EndingOrders {
  /** What part of the connections is told of, above 0 and at most 1: drawn by lot. */
  readonly share: number;
  /** Rows a second, of this worker. */
  readonly rate: number;
  /** Those that were never established, too. */
  readonly attempts: boolean;
}

/** Why a connection is over. Those before ANSWERED can be read from its state. */
export const How = {
  fin: 0,
  resetByClient: 1,
  resetByServer: 2,
  unanswered: 3,
  idle: 4,
  /** The one answer that was awaited has passed (udp_per_packet). */
  answered: 5,
  evicted: 6,
  killed: 7,
  /** Its frontend or server left the file. */
  gone: 8,
  serverDown: 9,
  /** Its client opened another one, which this one's server does not take. */
  replaced: 10,
} as const;
export type How = (typeof How)[keyof typeof How];

// Columns of a row, a float64 each.
/** When it was written: CLOCK_MONOTONIC in milliseconds, modulo 2^32. */
export const AT = 0;
/** Milliseconds from its first packet to then, -1: that was not seen; and from its last one. */
export const AGE = 1;
export const QUIET = 2;
export const HOW = 3;
export const LIFE = 4;
export const OWNER = 5;
/** Payload bytes, client → server and back, as far as they passed here and since the log knows of it. */
export const SENT = 6;
export const RECEIVED = 7;
/** Seven words of the flow that the record names first, from STATE on (layout/flow.ts). */
export const FLOW = 8;
export const FLOW_WORDS = 7;
/** Values a row. */
export const ROW = FLOW + FLOW_WORDS;

/** Rows that wait for the next tick, half a megabyte of them at most. */
const CAPACITY = 4096;
/** Of each record: when its first packet came, 0: before the log began; bytes both ways. */
const BOOK = 3;
const WHOLE = 2 ** 32;
const EMPTY = new Float64Array(0);

/** Rows, and how many connections have none though they were drawn. */
export interface Endings {
  readonly rows: Float64Array;
  /** Beyond the rate. */
  readonly overRate: number;
  /** There was no room for them until the next tick. */
  readonly noRoom: number;
  /** There is no memory for the log: it is off here. */
  readonly isOff: boolean;
}

export class EndingLog {
  /** Looked at before anything here is called. */
  isOn = false;
  readonly #table: FlowTable;
  readonly #records: Records;
  #books: Float64Array = EMPTY;
  #rows: Float64Array = EMPTY;
  #count = 0;
  #overRate = 0;
  #noRoom = 0;
  #isOff = false;
  #share = 1;
  #attempts = false;
  #rate = 0;
  #limit = new RateLimit(0);
  /** What {@link #draw} goes on from. */
  #lot = 1;
  /** The clock at the last tick, beyond its 32 bits: never 0. */
  #clock = 0;
  /** By the same: what was over before then is none of this log's. */
  #since = 0;

  constructor(table: FlowTable, records: Records) {
    this.#table = table;
    this.#records = records;
  }

  /** Goes by them from `now` on; undefined: tells of nothing, and gives its memory back. */
  apply(orders: EndingOrders | undefined, now: number): void {
    if (orders === undefined) return this.#drop();
    if (!this.isOn) this.#start(now);
    this.#share = orders.share;
    this.#attempts = orders.attempts;
    if (orders.rate === this.#rate) return;
    this.#rate = orders.rate;
    this.#limit = new RateLimit(orders.rate);
  }

  #start(now: number): void {
    this.#clock = WHOLE + (now >>> 0);
    this.#since = this.#clock;
    this.#isOff = false;
    try {
      this.#books = new Float64Array(this.#records.capacity * BOOK);
      this.#rows = new Float64Array(CAPACITY * ROW);
      this.isOn = true;
    } catch {
      // A RangeError: whoever forwards goes on without, and says so.
      this.#drop();
      this.#isOff = true;
    }
  }

  /** What it has still to tell is told. */
  #drop(): void {
    this.isOn = false;
    this.#books = EMPTY;
    if (this.#count === 0) this.#rows = EMPTY;
  }

  /** Whether there is something to {@link take}. */
  get isWaiting(): boolean {
    return this.#count > 0 || this.#overRate > 0 || this.#noRoom > 0 || this.#isOff;
  }

  /** All that has been told since the last time. */
  take(): Endings {
    const taken = { rows: this.#rows.slice(0, this.#count * ROW), overRate: this.#overRate, noRoom: this.#noRoom, isOff: this.#isOff };
    this.#count = 0;
    this.#overRate = 0;
    this.#noRoom = 0;
    this.#isOff = false;
    if (!this.isOn) this.#rows = EMPTY;
    return taken;
  }

  /** To be called at each tick, where it is on: the clock's 32 bits come round every 49 days. */
  tick(now: number): void {
    this.#clock = this.#time(now);
  }

  /** A connection was installed, whose client's flow has SEEN set. */
  begin(record: number): void {
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    const seen = this.#table.words[(words[r + C.FIRST] << Flow.ENTRY_SHIFT) + Flow.SEEN];
    this.#open(record, words[r + C.LIFE], seen);
  }

  /** So many bytes of a direction have been collected of the connection with that record. */
  carry(record: number, isReceived: boolean, bytes: number): void {
    this.#books[record * BOOK + (isReceived ? 2 : 1)] += bytes;
  }

  /** Looks at a connection while it is in the table, its bytes collected: one that has ended is told of, once. */
  visit(record: number, now: number): void {
    const at = (record << C.RECORD_SHIFT) + C.LIFE;
    const { words } = this.#records;
    const life = words[at];
    const isOver = (life & T.STATE_MASK) >= T.TIME_WAIT;
    if (isOver === ((life & T.TOLD) !== 0)) return;
    // One that goes on after all is told of again, with all that it has carried.
    words[at] = life ^ T.TOLD;
    if (isOver) this.#tell(record, life, How.fin, now);
  }

  /** A client opens a connection anew in the place of one whose LIFE word was `life`. */
  again(record: number, life: number, now: number): void {
    if ((life & T.TOLD) === 0) this.#tell(record, life, How.fin, now);
    this.#open(record, life & T.ONE_WAY, now);
  }

  /** One leaves the table, its bytes collected. */
  end(record: number, how: How, now: number): void {
    const life = this.#records.words[(record << C.RECORD_SHIFT) + C.LIFE];
    if ((life & T.TOLD) === 0) this.#tell(record, life, how, now);
  }

  /** Of one taken up in mid-stream nobody has seen the beginning. */
  #open(record: number, life: number, now: number): void {
    const books = this.#books;
    books[record * BOOK] = (life & T.ADOPTED) === 0 ? this.#time(now) : 0;
    books[record * BOOK + 1] = 0;
    books[record * BOOK + 2] = 0;
  }

  #tell(record: number, life: number, how: How, now: number): void {
    if (!this.#attempts && isAttempt(life, how)) return;
    if (!this.#draw()) return;
    const quiet = this.#quiet(record, now);
    const time = this.#time(now);
    const isOver = (life & T.STATE_MASK) >= T.TIME_WAIT;
    if (isOver && time - quiet < this.#since) return;
    if (!this.#limit.take(now)) {
      this.#overRate++;
      return;
    }
    if (this.#count === CAPACITY) {
      this.#noRoom++;
      return;
    }
    this.#write(record, life, isOver ? endOf(life) : whyOf(life, how), quiet, now);
  }

  #write(record: number, life: number, how: How, quiet: number, now: number): void {
    const rows = this.#rows;
    const books = this.#books;
    const { words } = this.#records;
    const flows = this.#table.words;
    const to = this.#count++ * ROW;
    const from = record * BOOK;
    const began = books[from];
    rows[to + AT] = now >>> 0;
    rows[to + AGE] = began === 0 ? -1 : this.#time(now) - began;
    rows[to + QUIET] = quiet;
    rows[to + HOW] = how;
    rows[to + LIFE] = life;
    rows[to + OWNER] = words[(record << C.RECORD_SHIFT) + C.OWNER];
    rows[to + SENT] = books[from + 1];
    rows[to + RECEIVED] = books[from + 2];
    const at = words[(record << C.RECORD_SHIFT) + C.FIRST] << Flow.ENTRY_SHIFT;
    for (let i = 0; i < FLOW_WORDS; i++) rows[to + FLOW + i] = flows[at + i];
  }

  /** Milliseconds since a packet of either direction was seen. */
  #quiet(record: number, now: number): number {
    const { words } = this.#records;
    const flows = this.#table.words;
    const r = record << C.RECORD_SHIFT;
    const first = idleOf(flows, words[r + C.FIRST] << Flow.ENTRY_SHIFT, now);
    if (words[r + C.SECOND] === Flow.NONE) return first;
    return Math.min(first, idleOf(flows, words[r + C.SECOND] << Flow.ENTRY_SHIFT, now));
  }

  /** The whole of the clock of which `now` has 32 bits, and which may be a moment older than the last tick's. */
  #time(now: number): number {
    return this.#clock + ((now - this.#clock) | 0);
  }

  /** A linear congruential generator (Numerical Recipes, 7.1): connections that end in step are not to be told of in step. */
  #draw(): boolean {
    if (this.#share >= 1) return true;
    this.#lot = (Math.imul(this.#lot, 1_664_525) + 1_013_904_223) | 0;
    return (this.#lot >>> 0) / WHOLE < this.#share;
  }
}

/** Of one that has ended by itself. */
function endOf(life: number): How {
  if ((life & T.STATE_MASK) === T.TIME_WAIT) return How.fin;
  return (life & T.RESET_BY_SERVER) !== 0 ? How.resetByServer : How.resetByClient;
}

/** Never established: of a datagram with a server of its own (udp_per_packet) whatever has not got its answer. */
function isAttempt(life: number, how: How): boolean {
  return (life & T.COUNTED) === 0 || ((life & T.ANSWER_ONLY) !== 0 && how !== How.answered);
}

function whyOf(life: number, how: How): How {
  return how === How.idle && isAttempt(life, how) ? How.unanswered : how;
}
