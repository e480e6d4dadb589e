/** What systemd is told (ready, alive), and what it may ask for: an upgrade in which the unit's process changes (docs/operations.md). */
import { spawn } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import { native } from '../io/native.ts';
import type { Logger } from '../log.ts';

/** So often and so long it is waited for a systemd that is busy, say, with many units at boot. */
const TRIES = 20;
const BETWEEN_MS = 50;

/** A beat comes about once a second (service/pulse.ts), and later on a busy host. */
const LEAST_WATCHDOG_MS = 3000;

/** How often it is asked whether bin/lb4-service is there. */
const LOOK_MS = 250;

/** bin/lb4-service, the main process of a systemd unit, whose lb4 this is. */
export class Keeper {
  readonly #pid: number;

  private constructor(pid: number) {
    this.#pid = pid;
  }

  /** Undefined where there is none. */
  static find(): Keeper | undefined {
    return Number(process.env['LB4_KEEPER']) === process.ppid ? new Keeper(process.ppid) : undefined;
  }

  get isGone(): boolean {
    return process.ppid !== this.#pid;
  }

  /** Tells it that this is the lb4 that serves now. */
  serve(): void {
    try {
      if (!this.isGone) process.kill(this.#pid, 'SIGUSR1');
    } catch {
      // It has just gone.
    }
  }

  /**
   * Calls back once it is gone: at a restart of the unit it goes before lb4 does, or it was killed. A look late: it says SIGQUIT before it goes, and where the event
   * loop was held up its timers come first. Taken for two requests, a restart would end the lb4 that has to serve until the next one does.
   */
  whenGone(callback: () => void): void {
    let wasGone = false;
    const timer = setInterval(() => {
      if (wasGone) {
        clearInterval(timer);
        callback();
      }
      wasGone = this.isGone;
    }, LOOK_MS).unref();
  }
}

/** sd_notify(3), where there is somebody to be told: that this one is ready and, unless somebody keeps it, the unit's main process. */
export async function tellReady(keeper: Keeper | undefined, log: Logger): Promise<void> {
  await tellSystemd(keeper === undefined ? `READY=1\nMAINPID=${process.pid}` : 'READY=1', log);
  keeper?.serve();
}

/**
 * systemd's watchdog (sd_watchdog_enabled(3)): where it is not fed for WatchdogSec=, it ends the unit by SIGABRT, and starts it again. Whatever process
 * WATCHDOG_PID names: that is bin/lb4-service, or the lb4 from which this one has taken over.
 */
export class Watchdog {
  readonly #path: string;
  readonly #log: Logger;
  #isTold = false;

  private constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  /** Undefined where the unit has none. */
  static find(log: Logger): Watchdog | undefined {
    const path = process.env['NOTIFY_SOCKET'] ?? '';
    const ms = Number(process.env['WATCHDOG_USEC']) / 1000;
    if (path === '' || !(ms > 0)) return undefined;
    if (ms < LEAST_WATCHDOG_MS)
      log.warn(
        { seconds: ms / 1000 },
        `WatchdogSec is too short, and will end lb4 for nothing: at least ${LEAST_WATCHDOG_MS / 1000} s, 30 s is usual`,
      );
    return new Watchdog(path, log);
  }

  /** Where systemd is busy, the next one will do. */
  feed(): void {
    try {
      if (sent(this.#path, 'WATCHDOG=1', false)) this.#isTold = false;
    } catch (error) {
      if (!this.#isTold)
        this.#log.warn({ reason: messageOf(error) }, "systemd's watchdog could not be fed (NOTIFY_SOCKET): it will end lb4");
      this.#isTold = true;
    }
  }
}

async function tellSystemd(state: string, log: Logger): Promise<void> {
  const path = process.env['NOTIFY_SOCKET'];
  if (path === undefined || path === '') return;
  try {
    for (let left = TRIES; !sent(path, state, left === 0); left--) await setTimeout(BETWEEN_MS);
  } catch (error) {
    log.warn({ reason: messageOf(error) }, 'systemd could not be told that this lb4 runs (NOTIFY_SOCKET)');
  }
}

/** False: its queue is full, which throws where it is the last time. Throws the system's error. */
function sent(path: string, state: string, isLast: boolean): boolean {
  try {
    native().sendDatagram(path, state, []);
    return true;
  } catch (error) {
    if (isLast || (error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    return false;
  }
}

/** Starts the lb4 that is installed by now, with this one's options, to take over: a child, since systemd's unit is a control group. */
export function startSuccessor(log: Logger): void {
  const [, program = '', ...args] = process.argv;
  const options = args.filter((arg) => arg !== '--takeover');
  // It outlives this one, and writes to the same log.
  const child = spawn(program, [...options, '--takeover'], { detached: true, stdio: 'inherit' });
  child.once('error', ({ message }) => log.error({ reason: message }, 'the lb4 that is to take over could not be started'));
  child.once('exit', (code, signal) => log.error({ code, signal }, 'the lb4 that was to take over has ended'));
  child.unref();
}
