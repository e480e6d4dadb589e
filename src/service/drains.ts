/** Looks after what left the file, and servers of weight 0, until their last connection has ended, and says when. */
import type { Logger } from '../log.ts';
import type { DataPath } from './data-path.ts';
import type { Gone, Members } from './members.ts';
import type { Plan, PlannedServer } from './plan.ts';
import type { Replanner } from './replan.ts';

/** How often, while anything drains. */
const EVERY_MS = 500;

export interface DrainsParts {
  readonly members: Pick<Members, 'expire' | 'isSettling'>;
  readonly path: DataPath;
  readonly replanner: Pick<Replanner<Plan>, 'plan' | 'inTurn' | 'renew'>;
  readonly log: Pick<Logger, 'info' | 'warn'>;
  /** Somebody has left for good. */
  readonly left?: () => void;
}

export class Drains {
  readonly #parts: DrainsParts;
  /** Servers of weight 0 by their keys: whether it is known that they are empty. */
  readonly #weightless = new Map<string, boolean>();
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: DrainsParts) {
    this.#parts = parts;
  }

  /**
   * To be called when something may have left the file, or got another weight.
   * @param isStart what has no connection now is not told to be empty
   */
  follow(isStart = false): void {
    this.#noteWeightless(isStart);
    this.#schedule();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    const { members, replanner } = this.#parts;
    clearTimeout(this.#timer);
    const isDue = members.isSettling || [...this.#weightless.values()].includes(false);
    if (isDue) this.#timer = setTimeout(() => void replanner.inTurn(() => this.#look()), EVERY_MS);
  }

  async #look(): Promise<void> {
    const { members, path, replanner, left } = this.#parts;
    try {
      if (members.expire(path, (gone) => this.#tellGone(gone))) {
        await replanner.renew();
        left?.();
      }
      this.#noteWeightless(false);
      for (const { key, index } of weightlessOf(replanner.plan)) if (path.server(index).load === 0) this.#tellEmpty(key);
    } finally {
      // The next look tries again.
      this.#schedule();
    }
  }

  #noteWeightless(isStart: boolean): void {
    const { path, replanner } = this.#parts;
    const now = weightlessOf(replanner.plan);
    const keys = new Set(now.map(({ key }) => key));
    for (const key of this.#weightless.keys()) if (!keys.has(key)) this.#weightless.delete(key);
    for (const { key, index } of now) if (!this.#weightless.has(key)) this.#weightless.set(key, isStart && path.server(index).load === 0);
  }

  #tellEmpty(key: string): void {
    if (this.#weightless.get(key) !== false) return;
    this.#weightless.set(key, true);
    this.#parts.log.info({ server: key }, 'server has drained: no connection is left');
  }

  #tellGone({ what, key, connections }: Gone): void {
    if (connections === 0) this.#parts.log.info({ [what]: key }, `${what} has drained: no connection is left`);
    else this.#parts.log.warn({ [what]: key, connections }, `${what} is out of time (drain_timeout): its connections end`);
  }
}

function weightlessOf({ backends }: Plan): PlannedServer[] {
  return backends.flatMap(({ servers }) => servers.filter(({ draining, weight }) => !draining && weight === 0));
}
