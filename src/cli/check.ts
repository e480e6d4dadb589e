/** `lb4 check FILE`: is this a good configuration? */
import { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { counted } from '../doctor/finding.ts';
import { ConfigError, EXIT, formatMistake, type Mistake, UsageError } from '../errors.ts';
import { isOwn, sourceOf, usableCpus } from '../service/host.ts';
import { warnOnStderr } from './lines.ts';
import { withExamples } from './manual.ts';
import { askedMode, configFile, configOption, type ModeOptions } from './options.ts';

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

/** The command, for the program to add. */
export function checkCommand(): Command {
  const command = new Command('check')
    .description('check a configuration file and report every mistake')
    .argument('[file]', 'the TOML file, as with --config')
    .addOption(configOption())
    .option('--strict', 'let warnings fail, too')
    .option('-p, --passthrough', 'check what passthrough demands, too')
    .option('-d, --dsr', 'check what direct server return demands, too')
    .option('--inline', 'check what lb4 between two interfaces demands, too')
    .option('--proxy', 'check what proxy mode demands, too')
    .action((file: string | undefined, { config, ...options }: CheckOptions & { readonly config?: string }) => {
      process.exitCode = check(configFile(oneOf(file, config), warnOnStderr), options);
    });
  return withExamples(command, {
    'lb4 check': 'the file that lb4 would read here',
    'lb4 check --strict --dsr /etc/lb4.toml': 'also what DSR demands, and warnings fail',
  });
}

function oneOf(file: string | undefined, config: string | undefined): string | undefined {
  if (file !== undefined && config !== undefined && file !== config) throw new UsageError(`check: one file, not ${config} and ${file}`);
  if (file === '') throw new UsageError('check: "" names no file');
  return file ?? config;
}

const consoleOutput: CheckOutput = {
  out: (line) => void process.stdout.write(`${line}\n`),
  err: (line) => void process.stderr.write(`${line}\n`),
};

function strictly(warning: Mistake): Mistake {
  return { ...warning, severity: 'error' };
}

/** `2 frontends, 1 backend, 3 servers, statistics on 0.0.0.0:7000` */
function summary({ frontends, backends, stats }: Config): string {
  const servers = backends.reduce((sum, backend) => sum + backend.servers.length, 0);
  const found = backends.reduce((sum, { templates = [] }) => sum + templates.length, 0);
  const counts = [counted(frontends.length, 'frontend'), counted(backends.length, 'backend'), counted(servers, 'server')];
  if (found > 0) counts.push(`${counted(found, 'name')} of servers to be found`);
  return [...counts, stats === undefined ? 'no statistics server' : `statistics on ${stats.listen.text}`].join(', ');
}
