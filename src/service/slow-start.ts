/** Servers that come back grow to their weight in steps: a cold cache must not meet the full load at once. */

/** Each step is a new weight, and for hashing schedulers a new table. */
const STEPS = 10;

interface Ramp {
  readonly began: number;
  readonly durationMs: number;
}

export class SlowStart {
  readonly #ramps = new Map<string, Ramp>();

  /** A server came back at `now` (ms, monotonic). */
  begin(key: string, now: number, durationMs: number): void {
    if (durationMs > 0) this.#ramps.set(key, { began: now, durationMs });
    else this.#ramps.delete(key);
  }

  /** The share of its weight that a server has by now: 0.1, 0.2 … 1. */
  share(key: string, now: number): number {
    const ramp = this.#ramps.get(key);
    if (ramp === undefined) return 1;
    return Math.min(STEPS, Math.floor(((now - ramp.began) / ramp.durationMs) * STEPS) + 1) / STEPS;
  }

  /** Milliseconds until the next step of any server; undefined: all have their weight. */
  nextStep(now: number): number | undefined {
    let next: number | undefined;
    for (const [key, { began, durationMs }] of this.#ramps) {
      const step = durationMs / STEPS;
      if (now - began >= durationMs - step) this.#ramps.delete(key);
      else next = Math.min(next ?? Infinity, step - ((now - began) % step));
    }
    return next;
  }
}

/** Tells when servers that start slowly have come to their next step. */
export class RampTimer {
  readonly #slowStart: SlowStart;
  readonly #reached: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(slowStart: SlowStart, reached: () => void) {
    this.#slowStart = slowStart;
    this.#reached = reached;
  }

  /** To be called when a server has begun. */
  follow(): void {
    clearTimeout(this.#timer);
    const wait = this.#slowStart.nextStep(performance.now());
    if (wait === undefined) return;
    this.#timer = setTimeout(() => {
      this.#reached();
      this.follow();
    }, wait + 1);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
