/** What an lb4 in proxy mode still counts after it has handed over, while it drains: it tells whoever serves by then (handover.ts). */
import type { Logger } from '../log.ts';
import { type Book, since } from './books.ts';
import { PATIENCE } from './handover.ts';
import { meet } from './takeover.ts';

/** Should it be killed, so much of its counts is lost. */
const EVERY_MS = 1000;

export interface AfterwardsParts {
  /** Where whoever serves is met. */
  readonly point: string | undefined;
  /** All that is counted by now. */
  readonly book: () => Book;
  /** What has been told when it begins. */
  readonly told: Book;
  readonly log: Pick<Logger, 'warn'>;
}

export class Afterwards {
  readonly #parts: AfterwardsParts;
  #told: Book;
  #last: Promise<boolean> = Promise.resolve(true);
  readonly #timer: NodeJS.Timeout;

  constructor(parts: AfterwardsParts) {
    this.#parts = parts;
    this.#told = parts.told;
    this.#timer = setInterval(() => this.#tell(), EVERY_MS).unref();
  }

  /** Tells the last of it. Never rejects, and ends soon whatever the other one does. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    await this.#tell();
    if (await this.#tell()) return;
    this.#parts.log.warn({}, 'what this lb4 counted at last could not be told to the one that took over: its statistics lack it');
  }

  /** One after the other: each begins where the one before it ended. Resolves with whether all is told. */
  #tell(): Promise<boolean> {
    return (this.#last = this.#last.then(() => this.#tellNow()).catch(() => false));
  }

  async #tellNow(): Promise<boolean> {
    const book = this.#parts.book();
    const counted = since(this.#told, book);
    if (counted === undefined) return true;
    const found = await meet(this.#parts.point);
    if (found === undefined) return false;
    found.channel.tell({ say: 'counted', counted });
    // What is not noted is told again: whoever did not come to it has ended. One that is merely busy gets time, lest it count twice.
    const isNoted = (await found.channel.next(PATIENCE.step, 'noted')) !== undefined;
    found.channel.end();
    if (isNoted) this.#told = book;
    return isNoted;
  }
}
