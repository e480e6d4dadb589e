/** `lb4 doctor`: what this host lacks for a mode, and the command that mends it. */
import { existsSync } from 'node:fs';
import { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { examine } from '../doctor/examine.ts';
import type { Finding } from '../doctor/finding.ts';
import { EXIT, formatMistake } from '../errors.ts';
import { modeOf } from './rules.ts';

export interface DoctorOptions {
  /** The default. */
  readonly passthrough?: boolean | undefined;
  readonly dsr?: boolean | undefined;
  /** The TOML file; left out, config.toml where there is one. */
  readonly config?: string | undefined;
  readonly json?: boolean | undefined;
}

const DEFAULT_CONFIG = 'config.toml';

/** The command, for the program to add. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('look at this host: what is ready for lb4, what is not, and the command that mends it')
    .option('--config <file>', `the TOML file (default: ${DEFAULT_CONFIG} where there is one)`)
    .option('-p, --passthrough', 'for passthrough (the default)')
    .option('-d, --dsr', 'for direct server return')
    .option('--json', 'print the findings as JSON')
    .exitOverride()
    .action(async (options: DoctorOptions) => {
      process.exitCode = await doctor(options);
    });
}

/** Prints one line a finding and returns the exit status: 0 when nothing fails, else 1. Throws UsageError and ConfigError. */
async function doctor({ config: file, json, ...modes }: DoctorOptions): Promise<number> {
  const mode = modeOf(modes);
  const loaded = file === undefined && !existsSync(DEFAULT_CONFIG) ? undefined : loadConfig(file ?? DEFAULT_CONFIG, { mode });
  for (const warning of loaded?.warnings ?? []) process.stderr.write(`${formatMistake(warning)}\n`);
  const findings = await examine(mode, loaded?.config);
  const ok = findings.every(({ level }) => level !== 'fail');
  process.stdout.write(json ? `${JSON.stringify({ mode, ok, findings }, undefined, 2)}\n` : findings.map(line).join(''));
  return ok ? EXIT.ok : EXIT.failure;
}

function line({ level, check, message, mend }: Finding): string {
  return `${level.padEnd(4)}  ${check}: ${message}${mend === undefined ? '' : `; mend: ${mend}`}\n`;
}
