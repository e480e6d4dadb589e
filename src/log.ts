/**
 * The program's log: JSON lines for a log collector, pino-pretty for a person at a terminal. Never used on the packet path.
 *
 * No call of it throws, whatever becomes of the line: whoever logs is in the midst of something that must go on.
 */
import { type Level, type Logger, pino, stdTimeFunctions } from 'pino';
import { prettyFactory } from 'pino-pretty';
import { UsageError } from './errors.ts';

export type { Logger } from 'pino';
export type LogLevel = Level | 'silent';

export const LOG_LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

export interface LogOptions {
  /** Wins over the environment's LB4_LOG; `info` where neither is given. */
  readonly level?: string | undefined;
  /** True: pino-pretty, in colours unless the environment has NO_COLOR. Left out or false: JSON. */
  readonly pretty?: boolean | undefined;
  /** True: each line begins with its priority, as journald reads it (sd-daemon(3)). */
  readonly priorities?: boolean | undefined;
  /** Takes whole lines. */
  readonly stream: { write(line: string): unknown };
}

/** Makes the logger. Throws UsageError for a level that does not exist. */
export function createLogger({ level, pretty = false, priorities = false, stream }: LogOptions): Logger {
  return pino(
    {
      level: levelOf(level ?? process.env['LB4_LOG'] ?? 'info'),
      base: null,
      formatters: { level: (label: string) => ({ level: label }) },
      timestamp: stdTimeFunctions.isoTime,
      hooks: {
        logMethod(fields, method) {
          try {
            method.apply(this, fields);
          } catch {
            // Its own fields could not be written down.
          }
        },
      },
    },
    pretty ? prettyStream(stream) : priorities ? priorityStream(stream) : stream,
  );
}

function levelOf(text: string): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text.toLowerCase());
  if (level === undefined) throw new UsageError(`"${text}" is not a log level; allowed: ${LOG_LEVELS.join(', ')}`);
  return level;
}

/** Not pino-pretty's own stream: that is asynchronous, and what was logged last would be missing at the end. */
function prettyStream(stream: LogOptions['stream']): LogOptions['stream'] {
  const prettify = prettyFactory({ colorize: process.env['NO_COLOR'] === undefined, translateTime: 'HH:MM:ss.l', singleLine: true });
  return { write: (line) => stream.write(prettify(line)) };
}

/** syslog(3)'s numbers. */
const PRIORITIES: Readonly<Record<string, number>> = { fatal: 2, error: 3, warn: 4, info: 6, debug: 7, trace: 7 };

/** A line for the journal: without its priority all are 6, info. */
export function withPriority(level: Level, line: string): string {
  return `<${PRIORITIES[level]}>${line}`;
}

function priorityStream(stream: LogOptions['stream']): LogOptions['stream'] {
  // As the logger writes it: the level comes first.
  return { write: (line) => stream.write(withPriority((/^{"level":"(\w+)"/.exec(line)?.[1] ?? 'info') as Level, line)) };
}
