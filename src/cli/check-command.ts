/** `lb4 check FILE` as it is typed. */
import { Command } from 'commander';
import { UsageError } from '../errors.ts';
import type { CheckOptions } from './check.ts';
import { warnOnStderr } from './lines.ts';
import { withExamples } from './manual.ts';
import { configFile, configOption } from './options.ts';

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
    .option('--fan-out', 'check what a fan-out demands, too')
    .action(async (file: string | undefined, { config, ...options }: CheckOptions & { readonly config?: string }) => {
      const { check } = await import('./check.ts');
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
