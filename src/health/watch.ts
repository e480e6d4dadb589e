import { isDeepStrictEqual } from 'node:util';
import { allOf, partsOf } from './all.ts';
import { type Check, type CheckResult, endpointOf, type Target } from './check.ts';
import { type Description, HealthState, type History, type Transition } from './health-state.ts';
import type { LocalErrors } from './local-errors.ts';
import { Quiet } from './quiet.ts';
import type { Semaphore } from './semaphore.ts';
import type { Turns } from './turns.ts';

/** A server went up or down. */
export interface Change extends Transition {
  target: Target;
  /** The passive signal that brought the deciding check forward, as `suspect` was told it. */
  suspected?: string | undefined;
}

/** Fits a pino logger. */
export interface HealthLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** What a watch asks of whoever keeps it. */
export interface WatchContext {
  /** Both of a target with one kind of check. */
  readonly makeCheck: (target: Target) => Check;
  readonly semaphoreFor: (target: Target) => Semaphore;
  readonly onChange: (change: Change) => void;
  readonly log: HealthLog | undefined;
  readonly localErrors: LocalErrors;
  /** Bytes that have come from a server so far, whoever they were for; by the target's name. */
  readonly heard: (id: string) => number;
  readonly turns: Turns;
}

/** One kind of check of a target. */
interface Part {
  readonly target: Target;
  readonly check: Check;
}

/** Checks that a suspicion brings forward keep this distance, start to start, or the interval where that is shorter. */
const QUICK_MS = 250;
/** Checks that call a server: an address and port of its own. */
const PLACED = new Set(['tcp', 'http', 'udp']);

/** One target under watch: when it is checked, one check at a time, and what comes of it. */
export class Watch {
  readonly state: HealthState;
  /** When the last check that passed began, on the monotonic clock. */
  passedAt: number | undefined;
  #target: Target;
  #parts: readonly Part[];
  readonly #context: WatchContext;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  /** A check runs or waits at the gate; then there is no timer. */
  #checking = false;
  #hasBegun = false;
  #startedAt = 0;
  #dueAt = 0;
  /** Something happened that only a check that starts from now on can answer: it comes soon. */
  #owed = false;
  readonly #quiet: Quiet;
  /** The last passive signal, until a check allays it or the server is down. */
  #suspicion: string | undefined;

  /** The first check begins at once. @param known what another process knew */
  constructor(target: Target, context: WatchContext, known?: Description) {
    this.state = new HealthState(known);
    this.#target = target;
    this.#context = context;
    this.#parts = this.#partsOf(target);
    this.#quiet = new Quiet(context.turns, () => context.heard(target.id));
    void this.#round();
  }

  get id(): string {
    return this.#target.id;
  }

  /** Whether it has answered a check by datagram at the port that it serves at. */
  get answersDatagrams(): boolean {
    return this.#quiet.hasAnswered;
  }

  get history(): History {
    return this.state.history(this.#target);
  }

  /** Wherever it is looked at. */
  isAt(target: Target): boolean {
    return this.#target.address === target.address && servedPort(this.#target) === servedPort(target);
  }

  /** Goes on with new settings, counting the new interval from the last check. */
  update(target: Target): void {
    if (isDeepStrictEqual(target, this.#target)) return;
    this.#target = target;
    this.#parts = this.#partsOf(target);
    if (this.#checking) this.#owed = true;
    else this.#appoint();
  }

  /**
   * Brings the next check forward. It decides nothing by itself; of a server that is down, or held down, it says nothing
   * new. Cheap: it may be called for every packet.
   * @param isRefusal its host says that nobody serves there: then a check that hears nothing at all does not allay it
   */
  suspect(reason: string, isRefusal = false): void {
    if (isRefusal) this.#quiet.noteRefusal();
    if (this.state.health === 'down') return;
    this.#suspicion = reason;
    this.#owed = true;
    if (!this.#checking && this.#startedAt + this.#quickMs() < this.#dueAt) this.#appoint();
  }

  /** Ends the check under way and all to come; nothing is told any more. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#stop.abort();
    this.#context.localErrors.pass(this.#target.id);
  }

  #partsOf(target: Target): readonly Part[] {
    return partsOf(target).map((one) => ({ target: one, check: this.#context.makeCheck(one) }));
  }

  /** One check, of all its kinds, then the next one's appointment. */
  async #round(): Promise<void> {
    this.#checking = true;
    // Before the gate: others pass meanwhile.
    await this.#quiet.turn(this.#target, this.#stop.signal);
    if (this.#stop.signal.aborted) return;
    const parts = this.#parts;
    this.#hasBegun = false;
    const results = await Promise.all(parts.map((part) => this.#context.semaphoreFor(part.target).pass(() => this.#run(part))));
    this.#checking = false;
    if (this.#stop.signal.aborted) return;
    const targets = parts.map(({ target }) => target);
    // What a check saw whose settings have changed meanwhile counts for nothing.
    if (parts === this.#parts) this.#tryToLearn(allOf(targets, results));
    // Whoever was told of a change may have stopped this watch.
    if (!this.#stop.signal.aborted) this.#appoint();
  }

  /** Never rejects: a watch that ended so would leave its server's state as it is for ever. */
  async #run({ check, target }: Part): Promise<CheckResult> {
    if (!this.#hasBegun) this.#begin();
    this.#quiet.begin(target);
    try {
      return this.#quiet.weigh(placed(await check.run(this.#stop.signal), target), target);
    } catch (error) {
      return { outcome: 'unknown', reason: String(error) };
    }
  }

  /** With the first of its kinds that is let through its gate: what happens from now on is another check's to see. */
  #begin(): void {
    this.#hasBegun = true;
    this.#startedAt = performance.now();
    this.#owed = false;
  }

  /** A check is owed, or failures after a suspicion wait to be confirmed. */
  #isUrgent(): boolean {
    return this.#owed || (this.#suspicion !== undefined && this.state.isWavering);
  }

  #quickMs(): number {
    return Math.min(this.#target.intervalMs, QUICK_MS);
  }

  /** The next check's time is counted from the start of the last one. */
  #appoint(): void {
    clearTimeout(this.#timer);
    this.#dueAt = this.#startedAt + (this.#isUrgent() ? this.#quickMs() : this.#jitteredInterval());
    this.#timer = setTimeout(() => void this.#round(), Math.max(0, this.#dueAt - performance.now()));
  }

  #jitteredInterval(): number {
    const { intervalMs, jitter } = this.#target;
    return intervalMs * (1 - jitter + 2 * jitter * Math.random());
  }

  /** Whoever is told of a change may fail; the next check comes all the same. */
  #tryToLearn(result: CheckResult): void {
    try {
      this.#learn(result);
    } catch (error) {
      this.#warn('a change of health was not taken', { error: String(error) });
    }
  }

  #learn(result: CheckResult): void {
    if (result.outcome === 'pass') this.passedAt = this.#startedAt;
    const wasDamped = this.state.damped;
    const transition = this.state.learn(result, this.#target, performance.now());
    const suspected = this.#suspicion;
    // A check that could not be made ends the hurry, too: what it lacks will not be there in 250 ms.
    if (transition !== undefined || (result.outcome !== 'fail' && !this.#owed)) this.#suspicion = undefined;
    if (result.outcome === 'unknown' && result.isSilent !== true) return this.#noteUnknown(result.reason);
    this.#noteOver();
    if (transition !== undefined) this.#context.onChange({ target: this.#target, ...transition, suspected });
    if (!wasDamped && this.state.damped) this.#noteDamping();
  }

  #noteUnknown(reason: string): void {
    this.#noteOver(reason);
    if (this.#context.localErrors.meet(this.#target.id, reason)) this.#warn('health check could not be made', { reason });
  }

  /** What was in the way is not, or is something else by now. */
  #noteOver(now?: string): void {
    const reason = this.#context.localErrors.pass(this.#target.id, now);
    if (reason !== undefined) this.#context.log?.info({ reason }, 'health checks can be made again');
  }

  #noteDamping(): void {
    const until = new Date(Date.now() + this.state.heldForMs(this.#target)).toISOString();
    this.#warn(`server is held down: it flapped ${this.state.flaps} times; until about ${until}`);
  }

  #warn(message: string, fields: object = {}): void {
    this.#context.log?.warn({ server: this.#target.id, address: endpointOf(this.#target), ...fields }, message);
  }
}

/** A failure elsewhere than the server serves says where: a client's call may be answered all the same. */
function placed(result: CheckResult, { asked, check }: Target): CheckResult {
  const isPlaced = asked !== undefined && result.outcome === 'fail' && PLACED.has(check?.type ?? 'tcp');
  return isPlaced ? { ...result, reason: `${result.reason}, ${asked}` } : result;
}

function servedPort({ port, serverPort = port }: Target): number {
  return serverPort;
}
