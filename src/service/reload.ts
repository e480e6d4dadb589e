/** Reads the configuration, at the start and again, and keeps how that went. */
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { isPacketMode, MODES, type Mode } from '../config/modes.ts';
import type { View } from '../control/source.ts';
import { ConfigError, formatMistake, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { assertHost, explain, isOwn, sourceOf, usableCpus } from './host.ts';
import { assertPorts } from './inline-host.ts';

export interface ReadOptions {
  readonly file: string;
  readonly mode: Mode;
  readonly log: Pick<Logger, 'warn'>;
}

/** Throws an Lb4Error when the file is wrong, or this host cannot serve it; what is only doubtful the log says. */
export function readConfig({ file, mode, log }: ReadOptions, { reload }: { reload: boolean }): Config {
  const { config, warnings } = loadConfig(file, { mode, reload, isOwn, sourceTowards: sourceOf, usableCpus });
  if (!MODES[mode].ownsAddresses) {
    // An interface that goes meanwhile is told; a reload is for the services.
    if (!reload) assertPorts(config);
  } else if (isPacketMode(mode)) assertHost(config);
  for (const warning of warnings) log.warn(formatMistake(warning));
  return config;
}

/** Says why a reload of `file` failed, a line a mistake. Returns the first. */
export function logFailure(error: unknown, file: string, log: Pick<Logger, 'warn' | 'error'>): string {
  const reason = explain(error, file);
  const mistakes = reason instanceof ConfigError ? reason.mistakes : [];
  const said = mistakes.length > 0 ? mistakes.map(formatMistake) : [messageOf(reason)];
  said.forEach((line, i) => log[mistakes[i]?.severity === 'warning' ? 'warn' : 'error'](line));
  log.error('reload failed: the running configuration stays as it is');
  return said[0] ?? '';
}

/** How reloads went. */
export class ReloadHistory {
  #succeeded = 0;
  #failed = 0;
  #lastError: string | undefined;
  #at = Date.now();

  succeed(): void {
    this.#succeeded++;
    this.#lastError = undefined;
    this.#at = Date.now();
  }

  fail(reason: string): void {
    this.#failed++;
    this.#lastError = reason;
  }

  get view(): View['reload'] {
    const lastError = this.#lastError;
    return { succeeded: this.#succeeded, failed: this.#failed, lastSucceeded: lastError === undefined, lastError, at: this.#at / 1000 };
  }
}
