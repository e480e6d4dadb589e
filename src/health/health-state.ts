import type { CheckResult, Target } from './check.ts';
import { Damping, halfLifeOf } from './damping.ts';

/** `unknown` until the first check that says something. */
export type Health = 'unknown' | 'up' | 'down';

/** A step from one state to another. */
export interface Transition {
  from: Health;
  to: Health;
  reason: string;
}

/** A server's health for statistics, and for who comes after this process. */
export interface Description {
  readonly state: Health;
  /** Held down because it flapped, whatever its checks say. */
  readonly damped: boolean;
  /** Failed checks in total. */
  readonly failures: number;
  /** Checks that could not be made from this host, in total. */
  readonly unmade: number;
  /** Changes told in total, the first included. */
  readonly changes: number;
  /** Those from up to down. */
  readonly falls: number;
  /** Of the last check; empty before it. */
  readonly lastReason: string;
  /** The last check; undefined before it, and in an older lb4. */
  readonly last?: PastCheck | undefined;
  /** When the state began, epoch ms. */
  readonly since: number;
}

/** A check that was made, or could not be. */
export interface PastCheck extends Pick<CheckResult, 'outcome' | 'reason'> {
  /** When it ended, epoch ms. */
  readonly at: number;
}

/** Why a server's health is what it is, for people. */
export interface History {
  /** The last checks, the latest first. */
  readonly checks: readonly PastCheck[];
  /** When the state began, epoch ms. */
  readonly since: number;
  /** How often it has flapped lately, and for how many ms it is held down if it does not again; 0: it is not. */
  readonly flaps: number;
  readonly heldForMs: number;
  /** Checks in a row that bring a failed server back, or take one out, and the time between two. */
  readonly rise: number;
  readonly fall: number;
  readonly intervalMs: number;
}

/** Checks that are remembered. */
const REMEMBERED = 5;

/** What the checks of one server add up to: rise, fall, damping and a few counts. It knows no timer and no clock. */
export class HealthState {
  /** What the rest of the program goes by. */
  health: Health = 'unknown';
  /** Failed checks in total. */
  failures = 0;
  /** Checks that could not be made, in total. */
  unmade = 0;
  /** Transitions in total, the first included. */
  changes = 0;
  /** Transitions from up to down. */
  falls = 0;
  /** Of the last check, whatever its outcome. */
  lastReason = '';
  /** Of the last transition, or of the beginning; epoch ms. */
  since = Date.now();
  /** What the checks say, by rise and fall: differs from `health` only while the server is held down. */
  #seen: Health = 'unknown';
  /** Results in a row that speak against `seen`. */
  #against = 0;
  #checks: readonly PastCheck[] = [];
  readonly #damping = new Damping();

  /** @param known goes on from there; that the server was held down, and why, is forgotten: it is down until checks pass again */
  constructor(known?: Description) {
    if (known === undefined) return;
    const { state, failures, unmade, changes, falls, lastReason, last, since } = known;
    Object.assign(this, { health: state, failures, unmade, changes, falls, lastReason, since });
    this.#seen = state;
    if (last !== undefined) this.#checks = [last];
  }

  description(): Description {
    const { health: state, damped, failures, unmade, changes, falls, lastReason, since } = this;
    return { state, damped, failures, unmade, changes, falls, lastReason, last: this.#checks[0], since };
  }

  history(target: Target): History {
    const { since, flaps, damped } = this;
    const { rise, fall, intervalMs } = target;
    return { checks: this.#checks, since, flaps, heldForMs: damped ? this.heldForMs(target) : 0, rise, fall, intervalMs };
  }

  /** Whether the server is held down because it flapped. */
  get damped(): boolean {
    return this.#damping.held;
  }

  get flaps(): number {
    return this.#damping.flaps;
  }

  /** Whether failures have begun to count against a server that is up. */
  get isWavering(): boolean {
    return this.#seen === 'up' && this.#against > 0;
  }

  /** How long a held server stays so if it does not flap again, in ms. */
  heldForMs(target: Target): number {
    return this.#damping.remainingMs(halfLifeOf(target));
  }

  /** Takes a result in; returns the transition that it made, if any. @param now ms on a clock that never goes back */
  learn({ outcome, reason, isSilent = false }: CheckResult, target: Target, now: number): Transition | undefined {
    this.lastReason = reason;
    this.#checks = [{ at: Date.now(), outcome, reason }, ...this.#checks.slice(0, REMEMBERED - 1)];
    if (outcome === 'unknown') {
      if (!isSilent) this.unmade++;
      return undefined;
    }
    if (outcome === 'fail') this.failures++;
    const wasDamped = this.damped;
    this.#see(outcome === 'pass' ? 'up' : 'down', target, now);
    this.#damping.ease(now, halfLifeOf(target));
    return this.#transition(wasDamped ? `${reason}; no longer held down` : reason);
  }

  /** The first result decides at once, later ones need `rise` or `fall` in a row. */
  #see(says: Health, target: Target, now: number): void {
    const { rise, fall } = target;
    this.#against = says === this.#seen ? 0 : this.#against + 1;
    const needed = this.#seen === 'unknown' ? 1 : says === 'up' ? rise : fall;
    if (this.#against < needed) return;
    if (this.#seen === 'up') this.#damping.flap(now, halfLifeOf(target));
    this.#seen = says;
    this.#against = 0;
  }

  #transition(reason: string): Transition | undefined {
    const [from, to] = [this.health, this.damped ? 'down' : this.#seen];
    if (from === to) return undefined;
    this.health = to;
    this.changes++;
    if (from === 'up') this.falls++;
    this.since = Date.now();
    return { from, to, reason };
  }
}
