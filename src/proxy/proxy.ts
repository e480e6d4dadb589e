/** The main thread's handle on the TCP proxy: owns its listening sockets and workers, tells them the plan, sums their counters. */
import { REFUSALS, refusalRow } from '../access/guard.ts';
import type { Endings } from './endings.ts';
import type { ProxyFlow, ProxyQuery } from './flow-list.ts';
import { Listeners } from './listeners.ts';
import {
  CONNECT_FAILURES,
  createMemory,
  frontendRow,
  type Gauges,
  gaugesOf,
  REFUSED,
  RETRIES,
  RX,
  serverRow,
  TOTAL,
  TX,
} from './memory.ts';
import type { Answer, Assignment, FromWorker, Question } from './messages.ts';
import { assertWithin, type ProxyPlan } from './plan.ts';
import { Rows } from './rows.ts';
import { Thread } from './thread.ts';

/** A worker that has not answered for so long when lb4 stops hangs. */
const ANSWER_MS = 5000;

/** Fits a pino logger. */
export interface ProxyLog {
  warn(fields: object, message: string): void;
}

export interface ProxyOptions {
  readonly plan: ProxyPlan;
  /** Threads, 1 or more. */
  readonly workers: number;
  /** A connect to the server of this index failed; at most once in 100 ms a server and worker. */
  readonly signal: (server: number, reason: string) => void;
  /** A worker died: its connections are gone, and what they counted in `current` and `load` stays counted. */
  readonly failed: (error: Error) => void;
  /** Connections have ended, for the connection log. */
  readonly ended?: ((endings: Endings) => void) | undefined;
  readonly log?: ProxyLog;
  /** Listening sockets by address ({@link Proxy.listeners}) of another process, which accepts from them, too, for a while. */
  readonly listeners?: ReadonlyMap<string, number> | undefined;
}

/** Connections that have reached a server, and payload bytes; tx is client → server. */
export interface Counters {
  readonly total: number;
  readonly current: number;
  readonly bytesTx: number;
  readonly bytesRx: number;
}

export interface FrontendCounters extends Counters {
  /** Connections now, from their accept on: those that wait for room, in a queue or for a server included. */
  readonly load: number;
  /** Connections for which there was no server, no place in the queue, or no time in it. */
  readonly refused: number;
}

export interface ServerCounters extends Counters {
  /** Connections now, those still opening included. */
  readonly load: number;
  readonly connectFailures: number;
  /** Failed connects after which another server was tried. */
  readonly retries: number;
}

export class Proxy {
  readonly #options: ProxyOptions;
  readonly #listeners: Listeners;
  readonly #queueRows = new Rows();
  readonly #gauges: Gauges;
  readonly #counters: readonly Float64Array[];
  readonly #refusals: readonly Float64Array[];
  readonly #threads: readonly Thread[];
  /** Plans are put in force one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  /** The one in force. */
  #plan: ProxyPlan;
  #isStarted = false;
  #isStopped = false;
  #death: Error | undefined;

  private constructor(options: ProxyOptions) {
    assertWithin(options.plan);
    this.#options = options;
    this.#plan = options.plan;
    const memory = createMemory(options.workers);
    this.#gauges = gaugesOf(memory.gauges);
    this.#counters = memory.counters.map((region) => new Float64Array(region));
    this.#refusals = memory.refusals.map((region) => new Float64Array(region));
    this.#listeners = new Listeners(options.listeners);
    const { assignment, close } = this.#prepare(options.plan);
    close();
    const told = (message: FromWorker) => this.#told(message);
    const died = (error: Error) => this.#died(error);
    this.#threads = memory.counters.map((_, worker) => new Thread({ memory, worker, assignment }, told, died));
  }

  /** Starts to serve. Rejects with the system's error (EADDRINUSE, EACCES …) when an address cannot be listened on. */
  static async start(options: ProxyOptions): Promise<Proxy> {
    const proxy = new Proxy(options);
    await Promise.all(proxy.#threads.map((thread) => thread.started()));
    if (proxy.#death !== undefined) {
      await proxy.stop(0);
      throw proxy.#death;
    }
    proxy.#isStarted = true;
    return proxy;
  }

  /**
   * Puts a plan in force; resolves when every worker follows it. Connections of frontends and servers that it does not name
   * are reset. New addresses are listened on before old ones are given up: when one of them cannot be (also because it overlaps
   * an old one, as 0.0.0.0 does), this rejects with the system's error and nothing has changed.
   */
  async configure(plan: ProxyPlan): Promise<void> {
    if (!this.#isStopped) await this.#inTurn(() => this.#configure(plan));
  }

  /** Descriptors of its listening sockets, by address. */
  get listeners(): ReadonlyMap<string, number> {
    return this.#listeners.all;
  }

  /** Counters of the frontend that has this index now. */
  frontend(index: number): FrontendCounters {
    const { accepted, frontendCurrent, holding } = this.#gauges;
    const load = Atomics.load(accepted, index) + Atomics.load(holding, index);
    const row = frontendRow(index);
    return { ...this.#countersOf(row, frontendCurrent, index), load, refused: this.#sum(row + REFUSED) };
  }

  /** What the rules of the frontend that has this index now have refused: its row of the refusals (layout/counters.ts). */
  refusals(index: number): readonly number[] {
    const row = refusalRow(index);
    return Array.from({ length: REFUSALS }, (_, column) => this.#refusals.reduce((sum, refusals) => sum + refusals[row + column], 0));
  }

  server(index: number): ServerCounters {
    const row = serverRow(index);
    return {
      ...this.#countersOf(row, this.#gauges.serverCurrent, index),
      load: Atomics.load(this.#gauges.loads, index),
      connectFailures: this.#sum(row + CONNECT_FAILURES),
      retries: this.#sum(row + RETRIES),
    };
  }

  /** Connections that wait for a server of this backend. */
  queued(backend: string): number {
    const row = this.#queueRows.of(backend);
    return row === undefined ? 0 : Atomics.load(this.#gauges.queued, row);
  }

  /** Connections that fit, `limit` at most. */
  async flows(query: ProxyQuery, limit: number): Promise<{ flows: ProxyFlow[]; more: boolean }> {
    const answers = await this.#ask({ type: 'list', query, limit: limit + 1 });
    const flows = answers.flatMap((answer) => answer.flows);
    return { flows: flows.slice(0, limit), more: flows.length > limit };
  }

  /** Resets both sides of those that fit; returns how many there were. */
  async end(query: ProxyQuery): Promise<number> {
    const answers = await this.#ask({ type: 'end', query });
    return answers.reduce((sum, { ended }) => sum + ended, 0);
  }

  /** One for each worker: asks whether it lives, and resolves when its event loop has answered, or it is gone. */
  get pulses(): readonly (() => Promise<void>)[] {
    return this.#threads.map((thread) => async () => void (await thread.ask({ type: 'pulse' })));
  }

  #ask(question: Question): Promise<Answer[]> {
    return Promise.all(this.#threads.map((thread) => thread.ask(question)));
  }

  /** Nobody waits any longer for workers that owe an answer: they hang, and get no grace. */
  giveUp(): void {
    for (const [worker, thread] of this.#threads.entries())
      if (thread.giveUp()) this.#options.log?.warn({ worker }, 'a proxy worker does not answer: it is ended by force');
  }

  /** Accepts nothing any more; running connections may end within `graceMs`, then are reset. Again with less: that counts. */
  async stop(graceMs: number): Promise<void> {
    this.#isStopped = true;
    const hanging = setTimeout(() => this.giveUp(), ANSWER_MS);
    // The listening sockets go first: with one left open the kernel would go on shaking hands.
    await this.#inTurn(() => this.#configure(drained(this.#plan)));
    clearTimeout(hanging);
    await Promise.all(this.#threads.map((thread) => thread.stop(graceMs)));
  }

  async #inTurn(task: () => Promise<void>): Promise<void> {
    const done = this.#last.then(task);
    this.#last = done.catch(() => {});
    await done;
  }

  async #configure(plan: ProxyPlan): Promise<void> {
    assertWithin(plan);
    const { assignment, close } = this.#prepare(plan);
    this.#plan = plan;
    await Promise.all(this.#threads.map((thread) => thread.apply(assignment)));
    close();
  }

  #prepare(plan: ProxyPlan): { assignment: Assignment; close: () => void } {
    const { listeners, close } = this.#listeners.open(plan.frontends);
    return { assignment: { plan, listeners, queueRows: this.#queueRows.assign(plan.backends.map(({ name }) => name)) }, close };
  }

  #told(message: FromWorker): void {
    if (message.type === 'signal') this.#options.signal(message.server, message.reason);
    else if (message.type === 'ended') this.#options.ended?.(message.endings);
    else if (message.type === 'warn') this.#options.log?.warn(message.fields, message.message);
  }

  /** Before `start` has resolved its promise tells. */
  #died(error: Error): void {
    this.#death ??= error;
    if (this.#isStarted) this.#options.failed(error);
  }

  #countersOf(row: number, current: Int32Array, index: number): Counters {
    return {
      total: this.#sum(row + TOTAL),
      current: Atomics.load(current, index),
      bytesTx: this.#sum(row + TX),
      bytesRx: this.#sum(row + RX),
    };
  }

  #sum(element: number): number {
    return this.#counters.reduce((sum, counters) => sum + counters[element], 0);
  }
}

function drained({ frontends, ...rest }: ProxyPlan): ProxyPlan {
  return { frontends: frontends.map((frontend) => ({ ...frontend, draining: true })), ...rest };
}
