/**
 * Frontends whose limit, or whose servers', is full of handshakes that nobody completes. A few hundred made-up SYNs fill a `maxconn` of a hundred
 * each second, long before there are as many half-open connections as make a flood for all (syn-guard.ts). Under a limit the oldest handshake makes way after
 * a second, so clients are kept out only by more SYNs a second than there are places: then some are refused, and of those let in most come to nothing.
 *
 *     a SYN is refused ─► WATCHED for two seconds ─ most of those let in are connected ─► IDLE
 *                                                 └ fewer than half ─► FILLED ─ five seconds without such a flood ─► IDLE
 */
import { MAX_FRONTENDS } from '../layout/counters.ts';
import type { Ledger } from './ledger.ts';

const [IDLE, WATCHED, FILLED] = [0, 1, 2];
/** Longer than a handshake, and than those let in first need to make way; in milliseconds. */
const LOOK_MS = 2000;
/** How long such a flood must be over. */
const CALM_MS = 5000;

/** One is filled from now on, or is not any more. */
export interface FilledChange {
  readonly frontend: number;
  readonly isFilled: boolean;
}

type FilledLedger = Pick<Ledger, 'completed' | 'halfOpen' | 'generation'>;

/** By the index of a frontend. What is counted is since the last look at it. */
export class FilledLimits {
  readonly #ledger: FilledLedger;
  readonly #states = new Uint8Array(MAX_FRONTENDS);
  readonly #looked = new Int32Array(MAX_FRONTENDS);
  readonly #asked = new Int32Array(MAX_FRONTENDS);
  readonly #opened = new Int32Array(MAX_FRONTENDS);
  /** Of those of a frontend that is filled: how many have come before. */
  readonly #proven = new Int32Array(MAX_FRONTENDS);
  /** Handshakes completed by then. */
  readonly #completed = new Float64Array(MAX_FRONTENDS);
  /** How many handshakes a flood had begun when it was found, and when there was a reason last to go on. */
  readonly #room = new Int32Array(MAX_FRONTENDS);
  readonly #calmSince = new Int32Array(MAX_FRONTENDS);
  /** Whose the index was when it stopped being IDLE: a reload may give it to another frontend. */
  readonly #generations = new Uint16Array(MAX_FRONTENDS);
  /** Those that are not IDLE. */
  readonly #listed = new Uint16Array(MAX_FRONTENDS);
  #listedCount = 0;
  #changes: FilledChange[] = [];
  #filledCount = 0;

  constructor(ledger: FilledLedger) {
    this.#ledger = ledger;
  }

  /** Whether any is filled. */
  get isAny(): boolean {
    return this.#filledCount > 0;
  }

  isFilled(frontend: number): boolean {
    return this.#states[frontend] === FILLED;
  }

  /** A SYN of a client without a connection has come. */
  ask(frontend: number): void {
    if (this.#states[frontend] !== IDLE) this.#asked[frontend]++;
  }

  /** It is the second one of its client, whatever becomes of it. */
  prove(frontend: number): void {
    this.#proven[frontend]++;
  }

  /** One was let in. */
  open(frontend: number): void {
    if (this.#states[frontend] !== IDLE) this.#opened[frontend]++;
  }

  /** One found the limit full, and nothing to make way. `now` in milliseconds modulo 2^32. */
  refuse(frontend: number, now: number): void {
    if (this.#states[frontend] !== IDLE) return;
    this.#states[frontend] = WATCHED;
    this.#generations[frontend] = this.#generation(frontend);
    this.#listed[this.#listedCount++] = frontend;
    this.#look(frontend, now);
  }

  /**
   * Looks at those that are not idle, each every two seconds, and whether each is still who it was; at each tick.
   * @param isFlooded there is a flood of all: the kernel may drop SYNs that would be asked for here, so none that is filled is over
   */
  tick(now: number, isFlooded: boolean): void {
    const listed = this.#listed;
    for (let i = this.#listedCount - 1; i >= 0; i--) {
      const frontend = listed[i];
      if (this.#generation(frontend) !== this.#generations[frontend]) this.#forget(frontend);
      else if ((now - this.#looked[frontend]) >>> 0 >= LOOK_MS) {
        this.#judge(frontend, now, isFlooded);
        this.#look(frontend, now);
      }
      if (this.#states[frontend] === IDLE) listed[i] = listed[--this.#listedCount];
    }
  }

  #judge(frontend: number, now: number, isFlooded: boolean): void {
    if (this.#states[frontend] === FILLED) {
      // Each client's SYN comes twice, and is taken once.
      const unproven = this.#asked[frontend] - 2 * this.#proven[frontend];
      if (isFlooded || unproven * 2 > this.#room[frontend]) this.#calmSince[frontend] = now;
      else if ((now - this.#calmSince[frontend]) >>> 0 >= CALM_MS) this.#setFilled(frontend, IDLE);
      return;
    }
    const begun = this.#opened[frontend];
    const completed = this.#ledger.completed(frontend) - this.#completed[frontend];
    this.#room[frontend] = begun;
    this.#calmSince[frontend] = now;
    // One may be anybody's who has gone away.
    if (begun > 2 * completed + 1) this.#setFilled(frontend, FILLED);
    else this.#states[frontend] = IDLE;
  }

  /** Those since the last call. */
  takeChanges(): readonly FilledChange[] {
    const changes = this.#changes;
    if (changes.length > 0) this.#changes = [];
    return changes;
  }

  #forget(frontend: number): void {
    if (this.#states[frontend] === FILLED) this.#setFilled(frontend, IDLE);
    else this.#states[frontend] = IDLE;
  }

  #generation(frontend: number): number {
    return this.#ledger.generation(frontend << 16) >>> 16;
  }

  #setFilled(frontend: number, state: number): void {
    const isFilled = state === FILLED;
    this.#states[frontend] = state;
    this.#filledCount += isFilled ? 1 : -1;
    this.#changes.push({ frontend, isFilled });
  }

  #look(frontend: number, now: number): void {
    this.#looked[frontend] = now;
    this.#asked[frontend] = 0;
    // Those that wait already were let in, too.
    this.#opened[frontend] = this.#states[frontend] === WATCHED ? this.#ledger.halfOpen(frontend) : 0;
    this.#proven[frontend] = 0;
    this.#completed[frontend] = this.#ledger.completed(frontend);
  }
}
