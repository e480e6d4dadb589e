/** Looks after what left the file until its last connection has ended. */
import type { DataPath } from './data-path.ts';
import type { Members } from './members.ts';
import type { Plan } from './plan.ts';
import type { Replanner } from './replan.ts';

/** How often, while anything drains. */
const EVERY_MS = 500;

export interface DrainsParts {
  readonly members: Members;
  readonly path: DataPath;
  readonly replanner: Replanner<Plan>;
}

export class Drains {
  readonly #parts: DrainsParts;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: DrainsParts) {
    this.#parts = parts;
  }

  /** To be called when something may have left the file. */
  follow(): void {
    const { members, replanner } = this.#parts;
    clearTimeout(this.#timer);
    if (members.isSettling) this.#timer = setTimeout(() => void replanner.inTurn(() => this.#expire()), EVERY_MS);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  async #expire(): Promise<void> {
    const { members, path, replanner } = this.#parts;
    if (members.expire(path)) await replanner.renew();
    this.follow();
  }
}
