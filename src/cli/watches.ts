/** Watches the configuration file, and those that it names. */
import { type Watching, watchConfig } from '../config/watch.ts';
import type { Logger } from '../log.ts';

export class Watches {
  readonly #changed: () => void;
  readonly #log: Pick<Logger, 'warn'>;
  readonly #watching = new Map<string, Watching>();

  constructor(changed: () => void, log: Pick<Logger, 'warn'>) {
    this.#changed = changed;
    this.#log = log;
  }

  /** To be called before the file is read: what changes later is told. */
  readonly add = (path: string): void => {
    if (this.#watching.has(path)) return;
    this.#watching.set(path, watchConfig(path, this.#changed, { log: (message) => this.#log.warn(message) }));
  };

  /** Watches no others than these any more. */
  keep(paths: readonly string[]): void {
    for (const [path, watching] of this.#watching) {
      if (paths.includes(path)) continue;
      this.#watching.delete(path);
      watching.close();
    }
  }

  close(): void {
    this.keep([]);
  }
}
