/** A running lb4's part in a takeover (handover.ts): from the one before it, until that one ends, and by the one after it. */
import type { Config } from '../config/model.ts';
import { isPacketMode } from '../config/modes.ts';
import { FailureError, messageOf, TakeoverError } from '../errors.ts';
import type { HealthChecker } from '../health/checker.ts';
import { isPoint, unitPoint } from '../io/meeting-point.ts';
import { Afterwards } from './afterwards.ts';
import { addBook, type Book, bookOf } from './books.ts';
import type { ControlPort } from './control-port.ts';
import type { DataPath } from './data-path.ts';
import { type Asker, Door } from './door.ts';
import type { Members } from './members.ts';
import type { Monitors } from './monitors.ts';
import type { Operator } from './operator.ts';
import { assertTakable } from './packet-path.ts';
import type { Plan } from './plan.ts';
import type { Replanner } from './replan.ts';
import { assertFree, type StatsPort } from './stats-port.ts';
import { dismiss, pointFor, Takeover, type TakeoverOptions } from './takeover.ts';

export interface SuccessionOptions extends TakeoverOptions {
  /** The data path died: nothing is forwarded any more. */
  readonly failed: (error: Error) => void;
  /** Another lb4 has taken over: this one has connections to drain, if anything. */
  readonly handedOver: () => void;
}

export interface StartOptions extends TakeoverOptions {
  /** Takes over from the lb4 that runs. */
  readonly takeover: boolean;
  /** A systemd unit's: takes over from the one that a restart of it has left behind, if any. */
  readonly isUnit: boolean;
}

export interface SuccessionParts {
  readonly options: SuccessionOptions;
  readonly path: DataPath;
  readonly members: Members;
  readonly health: Pick<HealthChecker, 'all'>;
  readonly replanner: Replanner<Plan>;
  readonly monitors: Pick<Monitors, 'checkHost' | 'stop'>;
  readonly stats: StatsPort;
  readonly control: ControlPort;
  readonly operator: Pick<Operator, 'close'>;
  /** As it was last taken over. */
  readonly config: () => Config;
  /** From which it takes over, if any. */
  readonly takeover: Takeover | undefined;
}

/** Longer than a start takes that is tried again; a unit that is over for systemd does not live on for ever. */
const STAY_MS = 60_000;

const LOST = 'the lb4 that took over has ended, or hangs: connections wait for the next start, their table and the firewall rules stay';

export class Succession {
  readonly #parts: SuccessionParts;
  /** Until the other one is told to end. */
  #takeover: Takeover | undefined;
  #door: Door | undefined;
  /** Where the next lb4 of this unit asks. */
  #unitDoor: Door | undefined;
  #wait: NodeJS.Timeout | undefined;
  #afterwards: Afterwards | undefined;

  constructor(parts: SuccessionParts) {
    this.#parts = parts;
    this.#takeover = parts.takeover;
    // Before anybody is told what this one counts: no counter is seen to fall.
    if (parts.takeover?.counted !== undefined) this.#note(parts.takeover.counted);
  }

  /** Nobody else forwards, nor would if this one ended. */
  get isAlone(): boolean {
    return this.#takeover?.isTaken === true && isPacketMode(this.#parts.options.mode);
  }

  /** It began by taking over. */
  get hasTaken(): boolean {
    return this.#parts.takeover !== undefined;
  }

  /** From now on this one is in charge: the one from which it takes over, if any, ends, and another may take over from this one. */
  async open(): Promise<void> {
    const { options, config } = this.#parts;
    // First: at no moment there is nobody to be asked.
    this.#door = await this.#openAt(() => pointFor(options.mode, config()));
    this.#takeover?.done();
    this.#takeover = undefined;
  }

  /**
   * Its unit is restarted: it serves until the next one takes over.
   * @param giveUp none has, for so long that nobody reckons with this one any more; or none can
   */
  async stay(giveUp: () => void): Promise<void> {
    const { log } = this.#parts.options;
    this.#wait = setTimeout(() => {
      log.warn({ seconds: STAY_MS / 1000 }, 'nobody has taken over: this one ends');
      giveUp();
    }, STAY_MS);
    log.info({ seconds: STAY_MS / 1000 }, 'left behind by a restart: serves until the next lb4 takes over');
    this.#unitDoor = await this.#openAt(unitPoint);
    if (this.#unitDoor === undefined) giveUp();
  }

  /** Whoever wants to take over finds nobody any more. */
  close(): void {
    clearTimeout(this.#wait);
    this.#door?.close();
    this.#unitDoor?.close();
    // Where it was not told that this one runs: in proxy mode it goes on.
    this.#takeover?.abandon();
  }

  /** Whether connections can wait for the next lb4. */
  get canRest(): boolean {
    const { path } = this.#parts;
    try {
      return path.letGo !== undefined && path.obstacle?.() === undefined;
    } catch {
      return false; // nothing may keep it from ending
    }
  }

  /** Leaves everything to the next lb4, as the mode can. */
  async letGo(): Promise<void> {
    const { replanner, monitors, path } = this.#parts;
    // Not awaited: they wait for what is in turn now.
    void replanner.stop();
    void monitors.stop();
    await path.letGo?.();
  }

  /** The last connection is over: what they have counted goes to the one that took over, if any. Never rejects. */
  async end(): Promise<void> {
    await this.#afterwards?.end();
  }

  #openAt(point: () => string | undefined): Promise<Door | undefined> {
    const { mode, rules, log } = this.#parts.options;
    const handOver = (asker: Asker) => this.#parts.replanner.inTurn(() => this.#handOver(asker));
    return Door.open(point, { mode, rules, log, handOver, note: (counted) => this.#note(counted) });
  }

  /** In turn: meanwhile no plan is made, and nothing repaired. */
  async #handOver(asker: Asker): Promise<void> {
    const { options, path, health, replanner, monitors, stats, control, operator, config } = this.#parts;
    const { log, failed, handedOver } = options;
    const obstacle = path.obstacle?.();
    if (obstacle !== undefined) return asker.refuse(obstacle);
    const listeners = path.listeners?.() ?? new Map<string, number>();
    const offer = { health: health.all(), stats: config().stats?.listen.text };
    if (!(await asker.takes(offer, listeners)) || !(await asker.isThere())) {
      log.warn({ pid: asker.pid }, 'it does not take over: this one goes on');
      // It may have put rules of its own in the place of this one's.
      return monitors.checkHost();
    }
    const isOver = path.letGo !== undefined;
    // First: nothing waits for it, and what is told from now on is told by the other one.
    await Promise.all([stats.close(), control.close()]);
    if (isOver) {
      // While there is a data path to read from. Not awaited: a worker that hangs would hold up who waits for the connections.
      operator.close().catch((error: unknown) => log.warn({ reason: messageOf(error) }, 'what is captured for somebody'));
      await this.letGo();
    }
    const book = path.credit && this.#book();
    if (await asker.begins(book)) {
      log.info({ pid: asker.pid }, 'handed over');
      void replanner.stop();
      if (book !== undefined) this.#tellAfterwards(book);
      handedOver();
    } else if (isOver) failed(new FailureError(`${LOST} (pid ${asker.pid})`));
    else {
      log.warn({ pid: asker.pid }, 'it does not take over: this one goes on');
      await Promise.all([stats.move(config().stats?.listen), control.move(config().control)]);
    }
  }

  #tellAfterwards(told: Book): void {
    const { mode, log } = this.#parts.options;
    this.#afterwards = new Afterwards({ point: pointFor(mode, this.#parts.config()), book: () => this.#book(), told, log });
  }

  #book(): Book {
    const { replanner, members, path } = this.#parts;
    return bookOf(replanner.plan, members, path);
  }

  #note(counted: Book): void {
    const { replanner, members, path } = this.#parts;
    addBook(counted, replanner.plan, members, path);
  }
}

/**
 * From whom a start takes over: as it was told to or, in a unit that was restarted, from the lb4 that was left behind. Where that one
 * cannot hand over (its mode, workers or capacity have changed, say), it ends first. Undefined: from nobody.
 */
export async function predecessor(config: Config, options: StartOptions): Promise<Takeover | undefined> {
  if (options.takeover) return takeoverFor(config, options);
  const point = options.isUnit ? unitPoint() : undefined;
  if (!isPoint(point)) return undefined;
  try {
    return await takeoverFor(config, options, point);
  } catch (error) {
    if (!(error instanceof TakeoverError)) throw error;
    options.log.info({ reason: error.message }, 'an ordinary start');
    await dismiss(point);
    return undefined;
  }
}

/** Throws TakeoverError where there is nobody to take over from, or its connections could not go on. */
async function takeoverFor(config: Config, options: TakeoverOptions, point?: string): Promise<Takeover> {
  const takeover = await Takeover.begin(config, options, point);
  try {
    if (isPacketMode(options.mode)) assertTakable(config, options.mode);
    // Where it is, it stays; elsewhere somebody else may be.
    if (config.stats?.listen.text !== takeover.stats) await assertFree(config.stats?.listen);
    return takeover;
  } catch (error) {
    takeover.abandon();
    throw error;
  }
}
