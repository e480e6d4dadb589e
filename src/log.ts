/**
 * The program's log, on standard error: standard output belongs to commands that print something (`lb4 rules`).
 * JSON lines for a log collector, pino-pretty for a person at a terminal. Never used on the packet path.
 */
import { type DestinationStream, destination, type Level, type Logger, pino, stdTimeFunctions } from 'pino';
import pretty from 'pino-pretty';
import { UsageError } from './errors.ts';

export type { Logger } from 'pino';
export type LogLevel = Level | 'silent';

export const LOG_LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

export interface LogOptions {
  /** Wins over the environment's LB4_LOG; `info` where neither is given. */
  readonly level?: string | undefined;
  /** True: pino-pretty, false: JSON. Left out: pretty on a terminal. */
  readonly pretty?: boolean | undefined;
  /** Where the lines go, for tests. Left out: standard error, written synchronously, so that a dying process loses none. */
  readonly stream?: NodeJS.WritableStream | undefined;
}

/** Makes the logger. Throws UsageError for a level that does not exist. */
export function createLogger(options: LogOptions = {}): Logger {
  const level = levelOf(options.level ?? process.env['LB4_LOG'] ?? 'info');
  const formatters = { level: (label: string) => ({ level: label }) };
  return pino({ level, base: null, formatters, timestamp: stdTimeFunctions.isoTime }, destinationOf(options));
}

function levelOf(text: string): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text.toLowerCase());
  if (level === undefined) throw new UsageError(`"${text}" is not a log level; allowed: ${LOG_LEVELS.join(', ')}`);
  return level;
}

function destinationOf({ pretty: wanted, stream }: LogOptions): DestinationStream {
  const isPretty = wanted ?? (stream === undefined && process.stderr.isTTY === true);
  if (!isPretty) return stream ?? destination({ dest: 2, sync: true });
  return pretty({
    destination: stream ?? 2,
    sync: true,
    colorize: stream === undefined && process.env['NO_COLOR'] === undefined,
    translateTime: 'HH:MM:ss.l',
  });
}
