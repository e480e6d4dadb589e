/**
 * Keeps the data path in step: whatever changed, other than the file, soon makes a new plan. Work on the data path is done one piece
 * after the other.
 *
 *     request ── not too often ──► queue ──► make ──► apply ──► the plan in force
 *        ▲                                              │
 *        └──────────── refused: a second later ◄────────┘
 */

export interface ReplanParts<P> {
  /** In force by now. */
  readonly first: P;
  /** A plan of all that is known now. */
  readonly make: () => P;
  /** Puts a plan in force. Rejects when it cannot, and then the last one stays in force. */
  readonly apply: (plan: P) => Promise<void>;
  readonly complain: (error: unknown) => void;
}

/** A plan that was refused is made again after so long. */
const RETRY_MS = 1000;
/** Of the time that the last plan took to make: so long the next one waits, and plans take a quarter of this thread at most. */
const REST = 3;

export class Replanner<P> {
  readonly #parts: ReplanParts<P>;
  #plan: P;
  #queue: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  /** No plan is made before then, on the monotonic clock. */
  #restsUntil = 0;
  #isStopped = false;

  constructor(parts: ReplanParts<P>) {
    this.#parts = parts;
    this.#plan = parts.first;
  }

  /** The plan in force. */
  get plan(): P {
    return this.#plan;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /**
   * Does `work` when what was queued before it is done; not at all once stopped. Resolves when it is done. Never rejects: a failure is
   * complained of.
   */
  inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(() => (this.#isStopped ? undefined : work())).catch((error) => this.#parts.complain(error));
    this.#queue = done;
    return done;
  }

  /**
   * Something changed: a new plan follows at once. But plans with large lookup tables take long to make: after one the next waits a
   * while, and many changes then make one plan.
   */
  request(): void {
    if (this.#timer !== undefined || this.#isStopped) return;
    const wait = Math.max(0, this.#restsUntil - performance.now());
    this.#timer = setTimeout(() => void this.inTurn(() => this.#answer()), wait);
  }

  /** Makes a plan now and puts it in force; where that fails (say, iptables is locked) it is tried again. To be called in turn. */
  async renew(): Promise<void> {
    const began = performance.now();
    try {
      const plan = this.#parts.make();
      const now = performance.now();
      this.#restsUntil = now + REST * (now - began);
      await this.apply(plan);
    } catch (error) {
      this.#parts.complain(error);
      this.#restsUntil = performance.now() + RETRY_MS;
      this.request();
    }
  }

  /** Puts `plan` in force. To be called in turn. Rejects when it cannot, and then the last one stays in force. */
  async apply(plan: P): Promise<void> {
    await this.#parts.apply(plan);
    this.#plan = plan;
  }

  /** No work begins any more. Resolves when the piece under way has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#queue;
  }

  async #answer(): Promise<void> {
    this.#timer = undefined;
    await this.renew();
  }
}
