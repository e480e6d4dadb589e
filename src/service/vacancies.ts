/** Backends of which no server may be chosen any more: whoever calls their frontends is refused. */
import type { Logger } from '../log.ts';
import type { Plan } from './plan.ts';

export class Vacancies {
  readonly #log: Logger;
  #vacant: ReadonlySet<string> = new Set();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Tells of each backend once when its last server is gone, and once when one is there again. */
  follow({ config, backends }: Plan): void {
    const ofFile = new Set(config.backends.map(({ name }) => name));
    const vacant = backends.filter(({ backend, choice }) => ofFile.has(backend.name) && choice.candidates.length === 0);
    const before = this.#vacant;
    this.#vacant = new Set(vacant.map(({ backend }) => backend.name));
    for (const name of this.#vacant)
      if (!before.has(name)) this.#log.warn({ backend: name }, 'no server of this backend is left: its clients are refused');
    for (const name of before)
      if (ofFile.has(name) && !this.#vacant.has(name)) this.#log.info({ backend: name }, 'this backend has a server again');
  }
}
