import type { Check, CheckResult, Target } from './check.ts';
import { tcpCheck } from './tcp.ts';

/** `unknown` until the first check that says something. */
export type Health = 'unknown' | 'up' | 'down';

/** A server went up or down. */
export interface Change {
  target: Target;
  from: Health;
  to: Health;
  reason: string;
}

/** Fits a pino logger. */
export interface HealthLog {
  warn(fields: object, message: string): void;
}

export interface HealthCheckerOptions {
  onChange: (change: Change) => void;
  log?: HealthLog;
  /** How to look at a target; a TCP connect unless told. */
  check?: (target: Target) => Check;
}

/** Intervals vary by so much either way, lest all servers be checked at one moment for ever. */
const JITTER = 0.1;

/** One target under watch. */
interface Watch {
  target: Target;
  check: Check;
  health: Health;
  /** Results in a row that speak against `health`. */
  against: number;
  /** The reason of the last `unknown` result, so that a lasting one is logged once. */
  unknownReason: string;
  /** The next check; undefined while one runs. */
  timer: NodeJS.Timeout | undefined;
  readonly abort: AbortController;
}

/**
 * Checks servers, all at the same time, and tells when one goes up or down.
 * The first result decides at once; later ones need `rise` or `fall` in a row.
 */
export class HealthChecker {
  readonly #options: HealthCheckerOptions;
  readonly #watches = new Map<string, Watch>();

  constructor(options: HealthCheckerOptions) {
    this.#options = options;
  }

  /**
   * Makes `targets` the whole set: new ones are checked at once, missing ones forgotten without a change being told.
   * One that stays at its address keeps its state and gets its new times; one that moves is new. Idempotent.
   */
  set(targets: Target[]): void {
    const wanted = new Map(targets.map((target) => [target.id, target]));
    for (const [id, watch] of this.#watches) {
      const target = wanted.get(id);
      if (target === undefined || !isSamePlace(target, watch.target)) this.#forget(id, watch);
    }
    for (const target of wanted.values()) this.#setOne(target);
  }

  /** The state of a target; `unknown` for one that is not in the set. */
  state(id: string): Health {
    return this.#watches.get(id)?.health ?? 'unknown';
  }

  /** Ends all checks; no change is told any more. `set` would start afresh. */
  stop(): void {
    for (const [id, watch] of this.#watches) this.#forget(id, watch);
  }

  #setOne(target: Target): void {
    const known = this.#watches.get(target.id);
    if (known === undefined) this.#begin(target);
    else if (!isSameTarget(target, known.target)) {
      known.target = target;
      known.check = this.#makeCheck(target);
      if (known.timer !== undefined) this.#appoint(known, jittered(target.intervalMs));
    }
  }

  #begin(target: Target): void {
    const watch: Watch = {
      target,
      check: this.#makeCheck(target),
      health: 'unknown',
      against: 0,
      unknownReason: '',
      timer: undefined,
      abort: new AbortController(),
    };
    this.#watches.set(target.id, watch);
    void this.#round(watch);
  }

  #makeCheck(target: Target): Check {
    return this.#options.check === undefined ? tcpCheck(target) : this.#options.check(target);
  }

  #forget(id: string, watch: Watch): void {
    this.#watches.delete(id);
    clearTimeout(watch.timer);
    watch.abort.abort();
  }

  /** One check, then the next one's appointment. */
  async #round(watch: Watch): Promise<void> {
    watch.timer = undefined;
    const started = performance.now();
    const result = await watch.check.run(watch.abort.signal);
    if (watch.abort.signal.aborted) return;
    this.#appoint(watch, jittered(watch.target.intervalMs) - (performance.now() - started));
    this.#learn(watch, result);
  }

  #appoint(watch: Watch, waitMs: number): void {
    clearTimeout(watch.timer);
    watch.timer = setTimeout(() => void this.#round(watch), Math.max(0, waitMs));
  }

  #learn(watch: Watch, { outcome, reason }: CheckResult): void {
    if (outcome === 'unknown') return this.#noteUnknown(watch, reason);
    watch.unknownReason = '';
    const seen: Health = outcome === 'pass' ? 'up' : 'down';
    if (seen === watch.health) watch.against = 0;
    else if (++watch.against >= needed(watch, seen)) this.#turn(watch, seen, reason);
  }

  #turn(watch: Watch, to: Health, reason: string): void {
    const from = watch.health;
    watch.health = to;
    watch.against = 0;
    this.#options.onChange({ target: watch.target, from, to, reason });
  }

  #noteUnknown(watch: Watch, reason: string): void {
    if (reason === watch.unknownReason) return;
    watch.unknownReason = reason;
    const { id, address, port } = watch.target;
    this.#options.log?.warn({ target: id, server: `${address}:${port}`, reason }, 'health check could not be made');
  }
}

function needed(watch: Watch, seen: Health): number {
  if (watch.health === 'unknown') return 1;
  return (seen === 'up' ? watch.target.rise : watch.target.fall) ?? 1;
}

function jittered(intervalMs: number): number {
  return intervalMs * (1 - JITTER + 2 * JITTER * Math.random());
}

function isSamePlace(a: Target, b: Target): boolean {
  return a.address === b.address && a.port === b.port && a.sourceAddress === b.sourceAddress;
}

function isSameTarget(a: Target, b: Target): boolean {
  const sameTimes = a.intervalMs === b.intervalMs && a.timeoutMs === b.timeoutMs;
  return isSamePlace(a, b) && sameTimes && a.rise === b.rise && a.fall === b.fall;
}
