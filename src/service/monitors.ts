/** What looks at a running data path every few seconds: whether its host is as it left it, and whether anything gets through. */
import type { Mode } from '../config/modes.ts';
import type { HostView } from '../control/source.ts';
import type { HealthChecker } from '../health/checker.ts';
import type { Logger } from '../log.ts';
import type { DataPath } from './data-path.ts';
import { DeadEnds } from './dead-ends.ts';
import { Guard } from './guard.ts';
import { HostChanges } from './host-changes.ts';
import { Listening } from './listening.ts';
import type { Plan } from './plan.ts';
import { Pulse } from './pulse.ts';
import type { Replanner } from './replan.ts';

export interface MonitorsParts {
  readonly mode: Mode;
  readonly path: DataPath;
  readonly health: HealthChecker;
  readonly replanner: Replanner<Plan>;
  readonly log: Logger;
  /** Called about once a second while all who forward answer. */
  readonly beat: () => void;
}

export class Monitors {
  readonly listening: Listening;
  readonly deadEnds: DeadEnds;
  readonly #guard: Guard;
  readonly #hostChanges: HostChanges;
  readonly #pulse: Pulse;
  readonly #parts: MonitorsParts;

  constructor(parts: MonitorsParts) {
    const { mode, path, health, replanner, log, beat } = parts;
    const inTurn = (work: () => Promise<void>) => replanner.inTurn(work);
    this.#parts = parts;
    this.#guard = new Guard({ states: path.hostStates, log, inTurn });
    this.#hostChanges = new HostChanges({ follow: path.follow?.bind(path), inTurn });
    this.listening = new Listening({ mode, health, log });
    this.deadEnds = new DeadEnds(mode, log);
    this.#pulse = new Pulse({ pulses: path.pulses, beat, hangs: path.hangs?.bind(path), log });
  }

  /** From now on they look. */
  start(): void {
    const { path, replanner } = this.#parts;
    this.#guard.start();
    this.#hostChanges.start();
    this.listening.start(path, () => replanner.plan);
    this.deadEnds.start(path, () => replanner.plan);
    this.#pulse.start();
  }

  /** What lb4 has put on this host, and how it fares. */
  get host(): readonly HostView[] {
    return this.#guard.view;
  }

  /** Puts back now what is missing on this host. To be called in turn. Never rejects. */
  checkHost(): Promise<void> {
    return this.#guard.check();
  }

  /** No look begins any more. Resolves when one under way has ended. */
  async stop(): Promise<void> {
    this.#hostChanges.stop();
    this.listening.stop();
    this.deadEnds.stop();
    this.#pulse.stop();
    await this.#guard.stop();
  }
}
