/** `lb4 doctor`: what this host lacks for a mode, and the command that mends it. */
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { isPacketMode, MODES, type Mode } from '../config/modes.ts';
import { examine, examineServer } from '../doctor/examine.ts';
import type { Finding } from '../doctor/finding.ts';
import { onlyProxy } from '../doctor/mode.ts';
import { EXIT, formatMistake, UsageError } from '../errors.ts';
import { lockHolder } from '../io/namespace-lock.ts';
import { withFound } from '../service/found-servers.ts';
import { isOwn } from '../service/host.ts';
import { assertServer } from './known-server.ts';
import { told, warnOnStderr } from './lines.ts';
import { askedMode, findConfig, type ModeOptions } from './options.ts';

/** The mode to look for. Left out: the packet mode that runs here, fan-out where the file has nothing else, proxy mode where no other takes the file, else passthrough. */
export interface DoctorOptions extends ModeOptions {
  /** The TOML file; left out, the default one where there is one. */
  readonly config?: string | undefined;
  readonly json?: boolean | undefined;
  /** The address of a server in DSR, which is looked at in place of this host. */
  readonly for?: string | undefined;
}

/** Prints one line a finding and returns the exit status: 0 when nothing fails, else 1. Throws UsageError and ConfigError. */
export async function doctor({ config, json, for: server, ...modes }: DoctorOptions): Promise<number> {
  const asked = askedMode(modes) ?? (server === undefined ? runningMode() : 'dsr');
  const file = findConfig(config, warnOnStderr);
  const written = file === undefined || asked !== undefined ? undefined : loadConfig(file).config;
  const found = written && (await onlyProxy(written));
  const mode = asked ?? (isFanOutAlone(written) ? 'fan-out' : found === undefined ? 'passthrough' : 'proxy');
  const loaded = file === undefined ? undefined : loadConfig(file, { mode, isOwnSource: isOwn });
  for (const warning of loaded?.warnings ?? []) process.stderr.write(told(formatMistake(warning)));
  const known = loaded && (await withFound(loaded.config, mode, warnOnStderr));
  const findings =
    server === undefined ? [...(found === undefined ? [] : [found]), ...(await examine(mode, known))] : await lacksOf(server, mode, known);
  const ok = findings.every(({ level }) => level !== 'fail');
  process.stdout.write(json ? `${JSON.stringify({ mode, ok, findings }, undefined, 2)}\n` : findings.map(line).join(''));
  return ok ? EXIT.ok : EXIT.failure;
}

async function lacksOf(server: string, mode: Mode, config: Config | undefined): Promise<Finding[]> {
  if (!isPacketMode(mode) || MODES[mode].directions !== 1)
    throw new UsageError('--for needs --dsr: elsewhere servers run no script that could be missing');
  if (config === undefined) throw new UsageError('--for needs a file: --config=FILE');
  assertServer(server, config);
  return await examineServer(mode, config, server);
}

/** Whether a file is for nothing else. */
function isFanOutAlone(config: Config | undefined): boolean {
  return config?.fanOut !== undefined && config.frontends.length === 0;
}

/** Of the lb4 whose packet mode has this network namespace. */
function runningMode(): Mode | undefined {
  const mode = lockHolder()?.mode;
  return mode !== undefined && isPacketMode(mode) ? mode : undefined;
}

function line({ level, check, message, mend }: Finding): string {
  return `${level.padEnd(4)}  ${check}: ${message}${mend === undefined ? '' : `; mend: ${mend}`}\n`;
}
