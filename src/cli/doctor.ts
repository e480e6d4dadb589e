/** `lb4 doctor`: what this host lacks for a mode, and the command that mends it. */
import { loadConfig } from '../config/load.ts';
import { isPacketMode, type Mode } from '../config/modes.ts';
import { examine } from '../doctor/examine.ts';
import type { Finding } from '../doctor/finding.ts';
import { onlyProxy } from '../doctor/mode.ts';
import { EXIT, formatMistake } from '../errors.ts';
import { lockHolder } from '../io/namespace-lock.ts';
import { withFound } from '../service/found-servers.ts';
import { told, warnOnStderr } from './lines.ts';
import { askedMode, findConfig, type ModeOptions } from './options.ts';

/** The mode to look for. Left out: the packet mode that runs here, proxy mode where no other takes the file, else passthrough. */
export interface DoctorOptions extends ModeOptions {
  /** The TOML file; left out, the default one where there is one. */
  readonly config?: string | undefined;
  readonly json?: boolean | undefined;
}

/** Prints one line a finding and returns the exit status: 0 when nothing fails, else 1. Throws UsageError and ConfigError. */
export async function doctor({ config, json, ...modes }: DoctorOptions): Promise<number> {
  const asked = askedMode(modes) ?? runningMode();
  const file = findConfig(config, warnOnStderr);
  const found = file === undefined || asked !== undefined ? undefined : await onlyProxy(loadConfig(file).config);
  const mode = asked ?? (found === undefined ? 'passthrough' : 'proxy');
  const loaded = file === undefined ? undefined : loadConfig(file, { mode });
  for (const warning of loaded?.warnings ?? []) process.stderr.write(told(formatMistake(warning)));
  const known = loaded && (await withFound(loaded.config, mode, warnOnStderr));
  const findings = [...(found === undefined ? [] : [found]), ...(await examine(mode, known))];
  const ok = findings.every(({ level }) => level !== 'fail');
  process.stdout.write(json ? `${JSON.stringify({ mode, ok, findings }, undefined, 2)}\n` : findings.map(line).join(''));
  return ok ? EXIT.ok : EXIT.failure;
}

/** Of the lb4 whose packet mode has this network namespace. */
function runningMode(): Mode | undefined {
  const mode = lockHolder()?.mode;
  return mode !== undefined && isPacketMode(mode) ? mode : undefined;
}

function line({ level, check, message, mend }: Finding): string {
  return `${level.padEnd(4)}  ${check}: ${message}${mend === undefined ? '' : `; mend: ${mend}`}\n`;
}
