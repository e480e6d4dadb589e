/** All finders of a configuration, and what is known of them by now. */
import { setTimeout as after } from 'node:timers/promises';
import type { Config, Finder } from '../config/model.ts';
import type { Logger } from '../log.ts';
import type { Found } from './answer.ts';
import { Asking } from './asking.ts';
import { describe, find } from './find.ts';

/** A start, or a reload, waits so long for those that are new: then it goes on without. */
const PATIENCE_MS = 4000;

/** As plain data, for a next process: questions and their last answers. */
export type Answers = readonly (readonly [question: string, found: readonly Found[]])[];

export interface DiscoveryParts {
  /** Addresses of which families are of use. */
  readonly families: readonly (4 | 6)[];
  /** An answer is another one than it was, or there is a first. */
  readonly changed: () => void;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

export class Discovery {
  readonly #parts: DiscoveryParts;
  readonly #askings = new Map<string, Asking>();
  /** Of another process; used until there is a first answer. */
  #last: ReadonlyMap<string, readonly Found[]> = new Map();

  constructor(parts: DiscoveryParts) {
    this.#parts = parts;
  }

  /** Asks for those of `config`, and for others no more. Resolves when each of them has an answer or a failure, after four seconds at the latest. */
  async follow(config: Config): Promise<void> {
    const wanted = new Map(findersOf(config).map((finder) => [keyOf(finder, config), finder]));
    for (const [key, asking] of this.#askings) {
      if (wanted.has(key)) continue;
      asking.stop();
      this.#askings.delete(key);
    }
    for (const [key, finder] of wanted) if (!this.#askings.has(key)) this.#askings.set(key, this.#begin(finder, config));
    const firsts = Promise.all([...this.#askings.values()].map(({ first }) => first));
    const patience = new AbortController();
    await Promise.race([firsts, after(PATIENCE_MS, undefined, { signal: patience.signal }).catch(() => {})]);
    patience.abort();
  }

  /** The last answer; undefined while there was none. */
  answer(finder: Finder, config: Config): readonly Found[] | undefined {
    const key = keyOf(finder, config);
    return this.#askings.get(key)?.found ?? this.#last.get(key);
  }

  /** All that are known. */
  answers(): Answers {
    return [...this.#askings].flatMap(([key, { found }]) => {
      const known = found ?? this.#last.get(key);
      return known === undefined ? [] : [[key, known] as const];
    });
  }

  /** Goes by what another process has found where there is no answer yet. */
  seed(answers: Answers): void {
    this.#last = new Map(answers);
  }

  /** Those whose last look-up failed. */
  get failing(): number {
    return [...this.#askings.values()].filter(({ failure }) => failure !== undefined).length;
  }

  stop(): void {
    for (const asking of this.#askings.values()) asking.stop();
    this.#askings.clear();
  }

  #begin(finder: Finder, { nameservers }: Config): Asking {
    const { families, changed, log } = this.#parts;
    const ask = (signal: AbortSignal) => find(finder, { nameservers, families }, signal);
    return new Asking({ what: describe(finder), ask, changed, log });
  }
}

function findersOf({ backends }: Config): readonly Finder[] {
  return backends.flatMap(({ templates = [] }) => templates.map(({ finder }) => finder));
}

/** Whoever is asked is a part of the question. */
function keyOf(finder: Finder, { nameservers }: Config): string {
  return JSON.stringify([finder, nameservers]);
}
