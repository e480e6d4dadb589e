/** What the fast path's programs have dropped for a worker, entered where it counts its own: so what was received is what became of it, wherever. */
import type { Core } from '../forward/core.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import { Verdict } from '../forward/verdict.ts';
import { RECEIVED, refusalRow } from '../layout/counters.ts';
import { DENIED, FIRST_SYNS } from '../layout/early-drop.ts';
import type { Memory } from '../layout/memory.ts';
import { hasList } from './access-book.ts';

/**
 * Frontends that are looked at in a tick, each two system calls: all of a file's, 1,024, are in 64 ticks. While they are, ticks come as under load, so that is
 * within 0.7 s of the round's begin, whatever else a worker does.
 */
const EACH_TICK = 16;

type Entry = ServiceSet['frontends'][number];

export interface EarlyDropsParts {
  /** What the worker's row of the map has come to, and a frontend's, by its index. */
  readonly ofWorker: () => readonly number[];
  readonly ofFrontend: (index: number) => readonly number[];
  /** It is the first one: it enters those by rule, which are all workers'. */
  readonly isFirst: boolean;
  readonly guard: Pick<Core['guard'], 'missed'>;
  readonly counters: Pick<Memory['counters'], 'verdicts' | 'gauges' | 'refusals'>;
}

export class EarlyDrops {
  readonly #parts: EarlyDropsParts;
  #last: readonly number[];
  /** Frontends that have lists, and what each row, those of others included, had come to when it was last looked at. */
  #listed: readonly Entry[] = [];
  #next = 0;
  /** Those that the round under way has still to look at. */
  #left = 0;
  readonly #lastRows = new Map<number, readonly number[]>();

  constructor(parts: EarlyDropsParts) {
    this.#parts = parts;
    this.#last = parts.ofWorker();
  }

  /** At each tick, before the guard's. */
  collect(): void {
    this.#collectOwn();
    if (this.#left === 0) this.#left = this.#listed.length;
    for (let i = Math.min(EACH_TICK, this.#left); i > 0; i--, this.#left--) {
      this.#next = (this.#next + 1) % this.#listed.length;
      this.#collectRow(this.#listed[this.#next]);
    }
  }

  /** Whether a round is under way: the next tick is not to wait for a packet, which may be a second. */
  get isBehind(): boolean {
    return this.#left > 0;
  }

  /** All there is, when the worker stops. */
  finish(): void {
    this.#collectOwn();
    for (const entry of this.#listed) this.#collectRow(entry);
  }

  /** Other frontends follow: what was counted for one that is not among them, with lists, is entered before its row is somebody else's. */
  settle({ frontends }: ServiceSet): void {
    if (this.#listed.length === 0) return;
    const following = new Map(frontends.filter(hasList).map((entry) => [entry.index, entry]));
    for (const entry of this.#listed) if (!isSame(entry, following.get(entry.index))) this.#collectRow(entry);
  }

  follow({ frontends }: ServiceSet): void {
    if (this.#parts.isFirst) this.#listed = frontends.filter(hasList);
    this.#left = 0;
  }

  #collectOwn(): void {
    const { ofWorker, guard, counters } = this.#parts;
    const row = ofWorker();
    const first = row[FIRST_SYNS] - this.#last[FIRST_SYNS];
    const denied = row[DENIED] - this.#last[DENIED];
    this.#last = row;
    counters.verdicts[Verdict.dropFirstSyn] += first;
    counters.verdicts[Verdict.denied] += denied;
    counters.gauges[RECEIVED] += first + denied;
    guard.missed(first);
  }

  #collectRow({ index }: Entry): void {
    const { ofFrontend, counters } = this.#parts;
    const row = ofFrontend(index);
    const last = this.#lastRows.get(index);
    row.forEach((number, column) => void (counters.refusals[refusalRow(index) + column] += number - (last?.[column] ?? 0)));
    this.#lastRows.set(index, row);
  }
}

/** As layout/counters.ts tells frontends apart. */
function isSame(one: Entry, other: Entry | undefined): boolean {
  return other !== undefined && one.address === other.address && one.port === other.port && one.protocol === other.protocol;
}
