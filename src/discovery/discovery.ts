/** All finders of a configuration, and what is known of them by now. */
import { setTimeout as after } from 'node:timers/promises';
import type { Config, Finder } from '../config/model.ts';
import type { Logger } from '../log.ts';
import type { Answers, Found } from './answer.ts';
import { Asking } from './asking.ts';
import { describe, find } from './find.ts';

export interface DiscoveryParts {
  /** Addresses of which families are of use. */
  readonly families: readonly (4 | 6)[];
  /** An answer is another one than it was, or there is a first. */
  readonly changed: () => void;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

/** One that is asked, and what for. */
interface Asked {
  readonly what: string;
  readonly asking: Asking;
}

export class Discovery {
  readonly #parts: DiscoveryParts;
  readonly #askings = new Map<string, Asked>();
  /** By what was asked for, of whoever was asked before or of another process: used until there is a first answer. */
  #last: ReadonlyMap<string, readonly Found[]> = new Map();

  constructor(parts: DiscoveryParts) {
    this.#parts = parts;
  }

  /**
   * Asks for those of `config`, and for others no more. Resolves when each of them has an answer or a failure, after `patienceMs` at the latest.
   * What was found of those that are asked for no more is known until the next time: a reload may have to be taken back.
   */
  async follow(config: Config, patienceMs: number): Promise<void> {
    const finders = findersOf(config);
    const [wanted, asked] = [new Map(finders.map((finder) => [keyOf(finder, config), finder])), new Set(finders.map(whatOf))];
    this.#last = new Map([...[...this.#last].filter(([what]) => asked.has(what)), ...this.answers()]);
    for (const [key, { asking }] of this.#askings) {
      if (wanted.has(key)) continue;
      asking.stop();
      this.#askings.delete(key);
    }
    for (const [key, finder] of wanted)
      if (!this.#askings.has(key)) this.#askings.set(key, { what: whatOf(finder), asking: this.#begin(finder, config) });
    const firsts = Promise.all([...this.#askings.values()].map(({ asking }) => asking.first));
    const patience = new AbortController();
    await Promise.race([firsts, after(patienceMs, undefined, { signal: patience.signal }).catch(() => {})]);
    patience.abort();
  }

  /** The last answer; undefined while there was none. */
  answer(finder: Finder, config: Config): readonly Found[] | undefined {
    return this.#askings.get(keyOf(finder, config))?.asking.found ?? this.#last.get(whatOf(finder));
  }

  /** All that are known. */
  answers(): Answers {
    return [...this.#askings.values()].flatMap(({ what, asking }) => {
      const known = asking.found ?? this.#last.get(what);
      return known === undefined ? [] : [[what, known] as const];
    });
  }

  /** Goes by what another process has found where there is no answer yet. */
  seed(answers: Answers): void {
    this.#last = new Map(answers);
  }

  /** Those whose last look-up failed. */
  get failing(): number {
    return [...this.#askings.values()].filter(({ asking }) => asking.failure !== undefined).length;
  }

  stop(): void {
    for (const { asking } of this.#askings.values()) asking.stop();
    this.#askings.clear();
  }

  #begin(finder: Finder, { nameservers, holdMs = 0 }: Config): Asking {
    const { families, changed, log } = this.#parts;
    const ask = (signal: AbortSignal) => find(finder, { nameservers, families }, signal);
    // A program means what it prints.
    return new Asking({ what: describe(finder), ask, changed, log, holdMs: finder.kind === 'exec' ? 0 : holdMs });
  }
}

function findersOf({ backends }: Config): readonly Finder[] {
  return backends.flatMap(({ templates = [] }) => templates.map(({ finder }) => finder));
}

/** Whoever is asked, and however often: what another nameserver has said is better than nothing. */
function whatOf(finder: Finder): string {
  return JSON.stringify([finder.kind, describe(finder)]);
}

/** Whoever is asked is a part of the question. */
function keyOf(finder: Finder, { nameservers, holdMs }: Config): string {
  return JSON.stringify([finder, nameservers, holdMs]);
}
