/** Steps that undo what starting did, in reverse order. */
import type { Logger } from '../log.ts';

export class Undo {
  readonly #steps: ((isKept: boolean) => unknown)[] = [];

  /** @param step told whether what the next lb4 can go on with stays */
  push(step: (isKept: boolean) => unknown): void {
    this.#steps.push(step);
  }

  /** Runs them all: one that fails must not keep the others from being done. Returns whether all were. */
  async run(log: Logger, isKept = false): Promise<boolean> {
    let isClean = true;
    for (const step of this.#steps.splice(0).reverse()) {
      try {
        await step(isKept);
      } catch (error) {
        log.error({ error: String(error) }, 'could not undo everything');
        isClean = false;
      }
    }
    return isClean;
  }
}
