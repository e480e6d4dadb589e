/**
 * Do those who forward live? Each is asked once a second, and its loop answers. While all do there is a beat, which systemd's watchdog is fed by
 * (cli/systemd.ts): a worker that hangs, or this thread, starves it. One that hangs is told once.
 */
import type { Logger } from '../log.ts';

const EVERY_MS = 1000;
/** So many looks in a row without an answer. Looks, not seconds: a main thread that was held up finds answers before its next look. */
const LOOKS = 5;

export interface PulseParts {
  /** As {@link DataPath.pulses} (data-path.ts). */
  readonly pulses: readonly (() => Promise<void>)[];
  readonly beat: () => void;
  /** Told when a worker hangs, and when none does any more. */
  readonly hangs?: ((isHanging: boolean) => void) | undefined;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

class Worker {
  /** It has been asked, and has not answered. */
  isDue = false;
  /** In a row at which that was so. */
  looks = 0;
  readonly index: number;
  readonly ask: () => Promise<void>;

  constructor(index: number, ask: () => Promise<void>) {
    this.index = index;
    this.ask = ask;
  }
}

export class Pulse {
  readonly #workers: readonly Worker[];
  readonly #beat: () => void;
  readonly #hangs: (isHanging: boolean) => void;
  readonly #log: PulseParts['log'];
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor({ pulses, beat, hangs = () => {}, log }: PulseParts) {
    this.#workers = pulses.map((ask, index) => new Worker(index, ask));
    this.#beat = beat;
    this.#hangs = hangs;
    this.#log = log;
  }

  /** From now on. */
  start(): void {
    for (const worker of this.#workers) this.#ask(worker);
    this.#timer = setInterval(() => this.look(), EVERY_MS).unref();
  }

  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
  }

  /** A second or so after the last time. */
  look(): void {
    if (this.#workers.every(({ isDue }) => !isDue)) this.#beat();
    for (const worker of this.#workers) {
      if (worker.isDue) this.#miss(worker);
      else this.#ask(worker);
    }
  }

  #ask(worker: Worker): void {
    worker.isDue = true;
    void worker.ask().then(() => this.#hear(worker));
  }

  #hear(worker: Worker): void {
    const { looks, index } = worker;
    worker.isDue = false;
    worker.looks = 0;
    if (looks < LOOKS || this.#isStopped) return;
    this.#log.info({ worker: index }, 'the worker answers again');
    if (this.#hanging === 0) this.#hangs(false);
  }

  get #hanging(): number {
    return this.#workers.filter(({ looks }) => looks >= LOOKS).length;
  }

  #miss(worker: Worker): void {
    if (++worker.looks !== LOOKS) return;
    if (this.#hanging === 1) this.#hangs(true);
    this.#log.warn(
      { worker: worker.index, seconds: (LOOKS * EVERY_MS) / 1000 },
      'a worker does not answer, and what is its stands still: systemd restarts lb4 where the unit has WatchdogSec; elsewhere kill -KILL and start it',
    );
  }
}
