/** One finder, asked again and again. What fails keeps the last answer: a nameserver that is down takes no server with it. */
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { type Answer, type Found, MOST_FOUND } from './answer.ts';

/** After a failure; twice as long after each further one. */
const RETRY_MS = { first: 1000, most: 30_000 } as const;

export interface AskingParts {
  /** For people. */
  readonly what: string;
  readonly ask: (signal: AbortSignal) => Promise<Answer>;
  /** There is another answer than before. */
  readonly changed: () => void;
  readonly log: Pick<Logger, 'info' | 'warn'>;
  /** So long a server stays that answers have no more. */
  readonly holdMs?: number;
  /** After a failure; for tests. */
  readonly retryMs?: number;
}

export class Asking {
  readonly #parts: AskingParts;
  readonly #stop = new AbortController();
  /** Resolves with the first answer or failure. */
  readonly first: Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  #found: readonly Found[] | undefined;
  #failure: string | undefined;
  #failures = 0;
  /** When an answer last had each server, by its address, on the monotonic clock: of those in `#found`. */
  #seen: ReadonlyMap<string, number> = new Map();

  /** Asks at once. */
  constructor(parts: AskingParts) {
    this.#parts = parts;
    this.first = this.#ask();
  }

  /** The last answer; undefined while there was none. */
  get found(): readonly Found[] | undefined {
    return this.#found;
  }

  /** Why the last time failed; undefined: it did not. */
  get failure(): string | undefined {
    return this.#failure;
  }

  stop(): void {
    this.#stop.abort();
    clearTimeout(this.#timer);
  }

  async #ask(): Promise<void> {
    let next = this.#parts.retryMs ?? Math.min(RETRY_MS.first * 2 ** this.#failures, RETRY_MS.most);
    try {
      const { found, holdsMs } = await this.#parts.ask(this.#stop.signal);
      next = holdsMs;
      this.#take(found);
    } catch (error) {
      this.#fail(messageOf(error));
    }
    if (!this.#stop.signal.aborted) this.#timer = setTimeout(() => void this.#ask(), next);
  }

  #take(all: readonly Found[]): void {
    const { log, what, changed } = this.#parts;
    if (this.#stop.signal.aborted) return;
    if (this.#failure !== undefined) log.info({ name: what }, 'its servers are found again');
    this.#failure = undefined;
    this.#failures = 0;
    const found = this.#withHeld([...all].sort(inOrder).slice(0, MOST_FOUND));
    const isNew = this.#found === undefined || JSON.stringify(found) !== JSON.stringify(this.#found);
    if (isNew && all.length > MOST_FOUND)
      log.warn({ name: what, servers: all.length }, `it has too many servers: the first ${MOST_FOUND} are used`);
    this.#found = found;
    if (isNew) changed();
  }

  /** And those that answers had until a while ago. */
  #withHeld(answered: readonly Found[]): readonly Found[] {
    const { holdMs = 0 } = this.#parts;
    if (holdMs === 0) return answered;
    const now = performance.now();
    const seen = new Map(answered.map(({ addr }) => [addr.text, now]));
    const held = (this.#found ?? []).filter(({ addr: { text } }) => !seen.has(text) && now - (this.#seen.get(text) ?? 0) < holdMs);
    const found = [...answered, ...held].slice(0, MOST_FOUND).sort(inOrder);
    this.#seen = new Map(found.map(({ addr: { text } }) => [text, seen.get(text) ?? this.#seen.get(text) ?? now]));
    return found;
  }

  #fail(reason: string): void {
    const { log, what } = this.#parts;
    if (this.#stop.signal.aborted) return;
    const stays =
      this.#found === undefined
        ? 'its servers cannot be found: it has none until they are'
        : 'its servers cannot be found: the last that were stay';
    if (this.#failure === undefined) log.warn({ name: what, reason }, stays);
    this.#failure = reason;
    this.#failures++;
  }
}

/** Nameservers turn their answers round: the same ones are no change, also where an address is there twice. */
function inOrder(a: Found, b: Found): number {
  if (a.addr.text !== b.addr.text) return a.addr.text < b.addr.text ? -1 : 1;
  return Number(a.backup) - Number(b.backup) || b.weight - a.weight;
}
