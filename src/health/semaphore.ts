/** Lets a number of tasks run at the same time; the others wait in line. */
export class Semaphore {
  #free: number;
  readonly #line: (() => void)[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  /** Resolves or rejects as `task` does. */
  async pass<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#line.push(resolve));
    try {
      return await task();
    } finally {
      // The place is handed on, not given back: nobody may slip in between.
      const next = this.#line.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
