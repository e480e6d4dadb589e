/** What the fast path's programs have dropped for a worker, entered where it counts its own: so what was received is what became of it, wherever. */
import type { Core } from '../forward/core.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import { Verdict } from '../forward/verdict.ts';
import { dropsOfFrontend, dropsOfWorker } from '../io/fast-path.ts';
import { RECEIVED, refusalRow } from '../layout/counters.ts';
import { DENIED, FIRST_SYNS } from '../layout/early-drop.ts';
import type { Memory } from '../layout/memory.ts';

/** Frontends that are looked at in a tick, each a system call. */
const EACH_TICK = 16;

export interface EarlyDropsParts {
  /** The map. */
  readonly drops: number;
  /** Whose. The first one enters those by rule, which are all workers'. */
  readonly worker: number;
  readonly guard: Core['guard'];
  readonly counters: Memory['counters'];
}

export class EarlyDrops {
  readonly #parts: EarlyDropsParts;
  #last: readonly number[];
  /** Frontends that have lists, and what each row, those of others included, had come to when it was last looked at. */
  #listed: readonly number[] = [];
  #next = 0;
  readonly #lastRows = new Map<number, readonly number[]>();

  constructor(parts: EarlyDropsParts) {
    this.#parts = parts;
    this.#last = dropsOfWorker(parts.drops, parts.worker);
  }

  /** At each tick, before the guard's. */
  collect(): void {
    const { drops, worker, guard, counters } = this.#parts;
    const row = dropsOfWorker(drops, worker);
    const first = row[FIRST_SYNS] - this.#last[FIRST_SYNS];
    const denied = row[DENIED] - this.#last[DENIED];
    this.#last = row;
    counters.verdicts[Verdict.dropFirstSyn] += first;
    counters.verdicts[Verdict.denied] += denied;
    counters.gauges[RECEIVED] += first + denied;
    guard.missed(first);
    this.#collectRules(Math.min(EACH_TICK, this.#listed.length));
  }

  /** Other frontends follow: what was counted for those until now is entered before their rows are somebody else's. */
  settle(): void {
    this.#collectRules(this.#listed.length);
  }

  follow({ frontends }: ServiceSet): void {
    if (this.#parts.worker !== 0) return;
    this.#listed = frontends.filter(({ access }) => access?.table !== undefined).map(({ index }) => index);
  }

  #collectRules(count: number): void {
    const { refusals } = this.#parts.counters;
    for (let i = 0; i < count; i++) {
      this.#next = (this.#next + 1) % this.#listed.length;
      const index = this.#listed[this.#next];
      const row = dropsOfFrontend(this.#parts.drops, index);
      const last = this.#lastRows.get(index);
      row.forEach((number, column) => void (refusals[refusalRow(index) + column] += number - (last?.[column] ?? 0)));
      this.#lastRows.set(index, row);
    }
  }
}
