/**
 * Finds out now and then which of the ways that nobody asks for any more (forward/ways.ts) no connection names either, and has those dropped:
 * servers that come back on another port each time would use up all places, and each notice of the kernel asks about all ways.
 *
 * Workers are not asked: a connection keeps the hop it was opened with, and none is opened with one that nobody has asked for since a minute. So whoever
 * named it then still does, and one look at each record finds them all, though others come and go meanwhile.
 */
import type { Ways } from '../forward/ways.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import { SERVER_HOPS } from '../layout/hops.ts';
import type { Memory } from '../layout/memory.ts';

/** All workers go by new settings after a moment; and old ways are in nobody's way. */
const PATIENCE_MS = 60_000;
/** Of the main thread: so many records at a time, a few milliseconds' work, and then so long a pause. */
const SLICE = 65_536;
const PAUSE_MS = 50;

/** A worker's, whose connections name hops. */
export type Tables = Pick<Memory, 'flows' | 'connections' | 'hops'>;

export class OldWays {
  readonly #ways: Ways;
  readonly #memories: readonly Tables[];
  readonly #dropped: () => void;
  #timer: NodeJS.Timeout | undefined;

  /** @param dropped told when some ways are gone */
  constructor(ways: Ways, memories: readonly Tables[], dropped: () => void) {
    this.#ways = ways;
    this.#memories = memories;
    this.#dropped = dropped;
  }

  /** To be told when ways may have become old. */
  watch(): void {
    if (this.#timer !== undefined || !this.#ways.suspect()) return;
    this.#later(PATIENCE_MS, () => this.#look(new Uint8Array(SERVER_HOPS), 0, 0));
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #later(ms: number, act: () => void): void {
    this.#timer = setTimeout(act, ms);
    this.#timer.unref();
  }

  /** Looks at a slice of the records of a worker, from one on. */
  #look(named: Uint8Array, worker: number, from: number): void {
    if (worker < this.#memories.length) {
      const next = noteNamed(named, this.#memories[worker], from, from + SLICE);
      this.#later(PAUSE_MS, () => this.#look(named, next === 0 ? worker + 1 : worker, next));
      return;
    }
    this.#timer = undefined;
    if (this.#ways.dropSuspects((hop) => named[hop] !== 0)) this.#dropped();
    this.watch();
  }
}

/** Notes the server's hops that records from `from` to `to` name. Returns the record to go on from, 0 at the end. */
function noteNamed(named: Uint8Array, { flows, connections }: Tables, from: number, to: number): number {
  const end = Math.min(to << C.RECORD_SHIFT, connections.length);
  let fresh = 0;
  for (let r = from << C.RECORD_SHIFT; r < end; r += C.RECORD) {
    const first = connections[r + C.FIRST];
    if (connections[r + C.LIFE] !== 0) {
      fresh = 0;
      // One that goes just now names whatever it likes.
      const hop = flows[(first << Flow.ENTRY_SHIFT) + Flow.NEXT_HOP];
      if (hop > 0 && hop < SERVER_HOPS) named[hop] = 1;
    } else if (first !== 0 || connections[r + C.SECOND] !== 0) fresh = 0;
    // Two like this were never given out, nor is any behind them (flow/records.ts): what nobody has written to is no memory yet, and need not become any.
    else if (++fresh === 2) return 0;
  }
  return end === connections.length ? 0 : to;
}
