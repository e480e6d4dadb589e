/** `lb4 check FILE`: is this a good configuration? */
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { counted } from '../doctor/finding.ts';
import { ConfigError, EXIT, formatMistake, type Mistake } from '../errors.ts';
import { isOwn, sourceOf, usableCpus } from '../service/host.ts';
import { askedMode, type ModeOptions } from './options.ts';

/** Check what the mode demands, too, as a start in it would. Without one: what all modes share. */
export interface CheckOptions extends ModeOptions {
  /** Warnings fail, too. */
  readonly strict?: boolean | undefined;
}

/** Where the lines go: findings to standard error, the good news to standard output. */
export interface CheckOutput {
  out(line: string): void;
  err(line: string): void;
}

/** Checks a file, prints what there is to say, and returns the exit status: 0, or 78. Throws UsageError for two modes. */
export function check(file: string, options: CheckOptions, { out, err }: CheckOutput = consoleOutput): number {
  const mode = askedMode(options);
  try {
    const { config, warnings } = loadConfig(file, { mode, programs: true, isOwn, sourceTowards: sourceOf, usableCpus });
    for (const warning of warnings) err(formatMistake(options.strict ? strictly(warning) : warning));
    if (options.strict && warnings.length > 0) return EXIT.config;
    out(`${file}: ok`);
    out(summary(config));
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    err(error.message);
    return error.exitCode;
  }
}

const consoleOutput: CheckOutput = {
  out: (line) => void process.stdout.write(`${line}\n`),
  err: (line) => void process.stderr.write(`${line}\n`),
};

function strictly(warning: Mistake): Mistake {
  return { ...warning, severity: 'error' };
}

/** `2 frontends, 1 backend, 3 servers, statistics on 0.0.0.0:7000` */
function summary({ frontends, backends, stats, fanOut = [] }: Config): string {
  const servers = backends.reduce((sum, backend) => sum + backend.servers.length, 0);
  const found = backends.reduce((sum, { templates = [] }) => sum + templates.length, 0);
  const counts = [counted(frontends.length, 'frontend'), counted(backends.length, 'backend'), counted(servers, 'server')];
  if (fanOut.length > 0) counts.push(counted(fanOut.length, 'fan-out'));
  if (found > 0) counts.push(`${counted(found, 'name')} of servers to be found`);
  return [...counts, stats === undefined ? 'no statistics server' : `statistics on ${stats.listen.text}`].join(', ');
}
