/** The main thread's handle on one worker. */
import { Worker } from 'node:worker_threads';
import type { Answer, Assignment, FromWorker, Question, ToWorker, WorkerData } from './messages.ts';

/** A worker that has not ended so long after its grace is ended by force. */
const FORCE_AFTER_MS = 2000;
/** And one that is still there so long after that hangs in the kernel, from where it does not come back to its loop. */
const GONE_AFTER_MS = 1000;

const NOTHING: Answer = { type: 'answer', flows: [], ended: 0 };

export class Thread {
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  /** Who waits for `applied`, in the order of the assignments. */
  readonly #waiting: (() => void)[] = [];
  /** And for answers, in the order of the questions. */
  readonly #asking: ((answer: Answer) => void)[] = [];
  #isGone = false;
  #isStopping = false;
  #isForced = false;
  #hangs = false;
  #force: NodeJS.Timeout | undefined;
  /** Nobody waits for its end any more. */
  #left: () => void = () => {};

  /** `died` is called at most once, also during the grace of `stop`: an end that was asked for, or forced, is no death. */
  constructor(data: WorkerData, told: (message: FromWorker) => void, died: (error: Error) => void) {
    let cause: Error | undefined;
    this.#worker = new Worker(new URL('../proxy/worker.js', import.meta.url), { workerData: data, name: `lb4-proxy-${data.worker}` });
    this.#worker.on('error', (error: Error) => (cause = error));
    this.#worker.on('message', (message: FromWorker) => {
      if (message.type === 'applied') this.#waiting.shift()?.();
      else if (message.type === 'answer') this.#asking.shift()?.(message);
      else told(message);
    });
    this.#exited = new Promise((resolve) => {
      this.#left = resolve;
      this.#worker.once('exit', (code) => {
        this.#isGone = true;
        clearTimeout(this.#force);
        if (!this.#isStopping || (code !== 0 && !this.#isForced)) died(cause ?? new Error(`a proxy worker ended with code ${code}`));
        for (const go of this.#waiting.splice(0)) go();
        for (const answer of this.#asking.splice(0)) answer(NOTHING);
        resolve();
      });
    });
  }

  /** Resolves when the assignment given to the constructor is in force, or the thread is gone. */
  started(): Promise<void> {
    return this.#applied();
  }

  /** Resolves when the assignment is in force, or the thread is gone. */
  apply(assignment: Assignment): Promise<void> {
    this.#post({ type: 'assign', assignment });
    return this.#applied();
  }

  /** Of one that is gone, nothing. */
  ask(question: Question): Promise<Answer> {
    this.#post(question);
    return this.#isGone ? Promise.resolve(NOTHING) : new Promise((resolve) => this.#asking.push(resolve));
  }

  /** It owes an answer and hangs: whoever waits for that waits no longer. Returns whether anybody did. */
  giveUp(): boolean {
    if (this.#waiting.length === 0) return false;
    this.#hangs = true;
    for (const go of this.#waiting.splice(0)) go();
    return true;
  }

  /** Resolves when the thread is gone, or will do nothing more. May be called again with less grace. */
  async stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    this.#post({ type: 'stop', graceMs });
    clearTimeout(this.#force);
    if (!this.#isGone) this.#force = setTimeout(() => this.#end(), this.#hangs ? 0 : graceMs + FORCE_AFTER_MS);
    await this.#exited;
  }

  #end(): void {
    this.#isForced = true;
    void this.#worker.terminate();
    this.#force = setTimeout(this.#left, GONE_AFTER_MS);
  }

  #applied(): Promise<void> {
    return this.#isGone ? Promise.resolve() : new Promise((resolve) => this.#waiting.push(resolve));
  }

  #post(message: ToWorker): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    if (!this.#isGone) this.#worker.postMessage(message);
  }
}
