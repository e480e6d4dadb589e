/** A running lb4's log, on standard error. Everything that would print goes through it, since printing can wait or fail. */
import { closeSync, fstatSync } from 'node:fs';
import { isatty } from 'node:tty';
import { format } from 'node:util';
import { addonError, FailureError, messageOf } from '../errors.ts';
import { LogSink } from '../io/log-sink.ts';
import { createLogger, type Logger, withPriority } from '../log.ts';

const STDERR = 2;
/** What waits at the end is given so long to be written. */
const LAST_MS = 1000;

export interface RunLog {
  readonly log: Logger;
  /** Lines lost so far. */
  readonly lost: () => number;
  /** Lines for a person: why lb4 ends. */
  readonly say: (line: string) => void;
  /** Gives what waits a second to be written, and leaves terminals as they are. Nothing is logged after it. */
  readonly end: () => void;
}

/** Throws UsageError for a level that does not exist, NativeAddonError, or FailureError where there is no thread for the log. */
export function openRunLog(): RunLog {
  const sink = openSink();
  // Asked of the system: process.stderr would set a pipe O_NONBLOCK, also for the shell and its other programs.
  const priorities = isJournal(STDERR);
  const log = createLogger({ stream: sink, pretty: isatty(STDERR), priorities });
  sink.onLoss((lines) => log.warn({ lines }, 'lines of this log were lost: it could not be written, or was not read'));
  const terminals = [0, 1, 2].filter((fd) => isatty(fd));
  const end = () => {
    sink.close(LAST_MS);
    terminals.forEach(leaveTerminal);
  };
  process.on('exit', end);
  adoptPrints(log);
  return {
    log,
    lost: () => sink.lost,
    say: (line) => sink.write(priorities ? line.replaceAll(/^(?=.)/gm, () => withPriority('error', '')) : line),
    end,
  };
}

/** Whether what is written to `fd` goes to the journal (systemd.exec(5), JOURNAL_STREAM). */
export function isJournal(fd: number): boolean {
  const stream = process.env['JOURNAL_STREAM'];
  if (stream === undefined || stream === '') return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

function openSink(): LogSink {
  try {
    return new LogSink(STDERR);
  } catch (error) {
    throw addonError(error) ?? new FailureError(`log: ${messageOf(error)}`, { cause: error });
  }
}

/** Node sets terminals at its end as they were at its start, and aborts where one is gone. lb4 has changed nothing about them. */
function leaveTerminal(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // It is closed.
  }
}

/** What Node and libraries print (console.*, warnings) becomes lines of the log. */
function adoptPrints(log: Logger): void {
  process.removeAllListeners('warning');
  process.on('warning', ({ name, message }) => log.warn({ name }, message));
  const print =
    (level: 'debug' | 'warn') =>
    (...values: unknown[]) =>
      log[level](format(...values));
  const [quiet, loud] = [print('debug'), print('warn')];
  Object.assign(console, { debug: quiet, log: quiet, info: quiet, trace: quiet, warn: loud, error: loud });
}
