/**
 * Looks after what lb4 has put on this host and others can take away: a restart of the firewall, `sysctl --system`, a person. What
 * is missing is put back at once, told in one line and counted; while it is missing, /healthz is not ok.
 *
 * Whatever else lb4 installs is one more {@link HostState} in its data path's `hostStates`.
 */
import { type HostView, summarize } from '../control/source.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';

/** One kind of thing that lb4 has put on this host. */
export interface HostState {
  /** For metrics: "rules". */
  readonly what: string;
  /** For people: "firewall rules". */
  readonly name: string;
  /** Who usually takes it away: "a firewall restart does this". */
  readonly usually: string;
  /** Where it is not that something is missing: what goes wrong, and how it is when it no longer does. */
  readonly words?: { readonly wrong: string; readonly well: string };
  /** lb4 serves all the same while it is missing. */
  readonly serves?: true;
  /** Put there just before the guard starts, and dear to look at: the first look passes it by. */
  readonly fresh?: true;
  /** What is not as lb4 left it, each in a few words; nothing when all is. Cheap where all is. Rejects when it cannot be found out. */
  verify(): Promise<readonly string[]>;
  /** Puts it back. Rejects with the reason when it cannot. */
  repair(): Promise<void>;
}

export interface GuardOptions {
  readonly states: readonly HostState[];
  readonly log: Logger;
  /** Does work on the data path in turn: never while a plan is being installed. */
  readonly inTurn: (work: () => Promise<void>) => Promise<void>;
}

/** Between two looks. One costs 20 to 40 ms of CPU with 1,000 servers, nearly all of it iptables-save's. */
const EVERY_MS = 5000;
/** A repair that takes so long waits for a tool that hangs. */
const HANGING_MS = 15_000;
/** Looks in vain after which lb4 no longer believes that all is well: one may meet a package upgrade. */
const BLIND = 2;

export class Guard {
  readonly #states: readonly GuardedState[];
  readonly #inTurn: GuardOptions['inTurn'];
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #stopped = false;
  /** Milliseconds that the longest repair of the last look kept plans waiting. */
  #lastTurn = 0;

  constructor({ states, log, inTurn }: GuardOptions) {
    this.#states = states.map((state) => new GuardedState(state, log));
    this.#inTurn = inTurn;
  }

  /** Looks now, and every few seconds from now on. */
  start(): void {
    this.#lookAfter(0, true);
  }

  #lookAfter(wait: number, isFirst = false): void {
    if (this.#stopped || this.#states.length === 0) return;
    this.#timer = setTimeout(() => {
      this.#looking = this.#look(isFirst);
      // A tool that hangs must leave most of the time to plans.
      void this.#looking.then(() => this.#lookAfter(this.#lastTurn < HANGING_MS ? EVERY_MS : 3 * this.#lastTurn));
    }, wait);
  }

  /** No look begins any more. Resolves when one under way has ended; it repairs nothing then. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }

  /** Looks now, and puts back what is missing. To be called in turn. Never rejects. */
  async check(): Promise<void> {
    for (const state of this.#states) if (!this.#stopped) await state.check();
  }

  /** Out of turn: a tool that hangs must not keep plans waiting. What seems to be missing, or a plan is just changing, is looked at in turn. */
  async #look(isFirst: boolean): Promise<void> {
    this.#lastTurn = 0;
    for (const state of this.#states) {
      if (isFirst && state.isFresh) continue;
      const stands = await state.stands();
      if (this.#stopped) return;
      if (!stands) await this.#inTurn(() => this.#timed(state));
    }
  }

  async #timed(state: GuardedState): Promise<void> {
    const began = performance.now();
    if (!this.#stopped) await state.check();
    this.#lastTurn = Math.max(this.#lastTurn, performance.now() - began);
  }

  get view(): readonly HostView[] {
    return this.#states.map((state) => state.view);
  }
}

/** One state, and how it fares. */
class GuardedState {
  readonly #state: HostState;
  readonly #log: Logger;
  #missing: readonly string[] = [];
  #reason: string | undefined;
  /** Looks in vain in a row. */
  #blind = 0;
  #repairs = 0;

  constructor(state: HostState, log: Logger) {
    this.#state = state;
    this.#log = log;
  }

  get isFresh(): boolean {
    return this.#state.fresh === true;
  }

  get view(): HostView {
    const { what, name, serves = false } = this.#state;
    return { what, name, serves, missing: this.#missing, reason: this.#reason, repairs: this.#repairs };
  }

  /** Whether there is nothing to repair, as far as can be known. */
  async stands(): Promise<boolean> {
    return ((await this.#find()) ?? []).length === 0;
  }

  async check(): Promise<void> {
    const missing = (await this.#find()) ?? [];
    if (missing.length > 0) await this.#putBack(missing);
  }

  /** What is missing; undefined where that cannot be found out. */
  async #find(): Promise<readonly string[] | undefined> {
    try {
      const missing = await this.#state.verify();
      this.#blind = 0;
      if (missing.length === 0) this.#stands();
      return missing;
    } catch (error) {
      this.#cannotLook(messageOf(error));
      return undefined;
    }
  }

  #cannotLook(reason: string): void {
    if (++this.#blind >= BLIND && this.#missing.length === 0) this.#missing = ['cannot be verified'];
    this.#tell(reason, 'cannot be verified');
  }

  async #putBack(missing: readonly string[]): Promise<void> {
    const { name, usually, what } = this.#state;
    this.#missing = missing;
    try {
      await this.#state.repair();
      const left = await this.#state.verify();
      if (left.length > 0) throw new Error(`put back, and missing again at once: ${summarize(left)}`);
    } catch (error) {
      const wrong = this.#state.words?.wrong;
      const all = summarize(missing);
      this.#tell(messageOf(error), wrong === undefined ? `missing (${all}) and cannot be put back` : `${wrong} (${all})`);
      return;
    }
    this.#missing = [];
    this.#reason = undefined;
    this.#repairs++;
    this.#log.warn(
      { what },
      `${name} were missing and are put back (${summarize(missing)}): ${usually}; see "What can change under lb4" in operations.md`,
    );
  }

  /** Once, until all is well again. */
  #tell(reason: string, what: string): void {
    if (this.#reason === undefined) {
      const means = this.#state.serves ? 'lb4 forwards all the same' : 'lb4 goes on trying, and /healthz says 503 meanwhile';
      // The reason stands in the line alone: on a terminal, fields are printed behind it.
      this.#log.error({ what: this.#state.what }, `${this.#state.name}: ${what}: ${reason}; ${means}`);
    }
    this.#reason = reason;
  }

  #stands(): void {
    if (this.#reason !== undefined)
      this.#log.info({ what: this.#state.what }, `${this.#state.name}: ${this.#state.words?.well ?? 'all there again'}`);
    this.#missing = [];
    this.#reason = undefined;
  }
}
