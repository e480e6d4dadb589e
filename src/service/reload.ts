/** Reads the configuration, at the start and again, and keeps how that went. */
import { type Loaded, loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { factsOf, isPacketMode, MODES, type Mode } from '../config/modes.ts';
import type { View } from '../control/source.ts';
import { ConfigError, formatMistake, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { assertHost, explain, isOwn, sourceOf, usableCpus } from './host.ts';
import { assertPorts, portsIn } from './inline-host.ts';

export interface ReadOptions {
  readonly file: string;
  readonly mode: Mode;
  readonly log: Pick<Logger, 'warn'>;
  /** Gets the path of each further file before it is read. */
  readonly reads?: ((path: string) => void) | undefined;
}

/** Throws an Lb4Error when the file is wrong, or this host cannot serve it; what is only doubtful the log says. */
export function readConfig(options: ReadOptions, { reload }: { reload: boolean }): Omit<Loaded, 'warnings'> {
  const { mode, log } = options;
  const { config, keys, warnings } = load(options, reload);
  if (!MODES[mode].ownsAddresses) {
    // A reload asks only about interfaces that are new (assertReloadable): what befalls the others is told.
    if (!reload) assertPorts(config);
  } else if (isPacketMode(mode)) assertHost(config);
  for (const warning of warnings) log.warn(formatMistake(warning));
  return { config, keys };
}

/** What the file says, before it is read for a reload. Undefined where it is wrong: the reload says so. */
export function foresee(options: ReadOptions): Config | undefined {
  try {
    return load(options, true).config;
  } catch {
    return undefined;
  }
}

function load({ file, mode, reads }: ReadOptions, reload: boolean): Loaded {
  return loadConfig(file, { mode, reload, isOwn, sourceTowards: sourceOf, usableCpus, reads });
}

/**
 * Throws ListenAddressError where lb4 cannot stand at an interface that is new in the file; ConfigError where backends whose servers saw their clients are to have full NAT: what those servers send to clients would not be taken any
 * more, and connections that go on would be lost without a word.
 */
export function assertReloadable(before: Config, after: Config, mode: Mode): void {
  if (!MODES[mode].ownsAddresses) assertPorts(after, portsIn({ config: before }));
  const last = new Map(before.backends.map((backend) => [backend.name, factsOf(mode, backend)]));
  const changed = after.backends.filter((backend) => {
    const was = last.get(backend.name);
    return was?.directions === 2 && was.source === 'client' && factsOf(mode, backend).source !== 'client';
  });
  if (changed.length === 0) return;
  const message =
    'servers would no longer see their clients, and running connections would be lost; needed: a restart, or a backend of another name';
  throw new ConfigError(
    changed.map(({ name, label = name }) => {
      return { severity: 'error', file: after.file, position: undefined, path: `backends.${label}.nat`, message };
    }),
  );
}

/** Says why a reload of `file` failed, a line a mistake. Returns them. */
export function logFailure(error: unknown, file: string, log: Pick<Logger, 'warn' | 'error'>): readonly string[] {
  const reason = explain(error, file);
  const mistakes = reason instanceof ConfigError ? reason.mistakes : [];
  const said = mistakes.length > 0 ? mistakes.map(formatMistake) : [messageOf(reason)];
  said.forEach((line, i) => log[mistakes[i]?.severity === 'warning' ? 'warn' : 'error'](line));
  log.error('reload failed: the running configuration stays as it is');
  return said;
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
