/** What several commands take: the file, and the mode. */
import { existsSync, statSync } from 'node:fs';
import { Option } from 'commander';
import type { Mode, PacketMode } from '../config/modes.ts';
import { ConfigError, UsageError } from '../errors.ts';
import { DEFAULT_FILES } from './default-files.ts';

/** `--config`, the same for every command. */
export function configOption(): Option {
  const option = new Option('--config <file>', `the TOML file (default: ${DEFAULT_FILES.join(', else ')}, in this directory)`);
  return option.argParser((file: string) => {
    if (file === '') throw new UsageError('--config= names no file');
    return file;
  });
}

/**
 * The file that `--config` names, or the one that is there without it; undefined: neither.
 * @param warn is told where another default would be there as well, or others may write this one
 */
export function findConfig(named: string | undefined, warn: (message: string) => void): string | undefined {
  if (named !== undefined) return named;
  const [file, other] = DEFAULT_FILES.filter((name) => existsSync(name));
  if (other !== undefined) warn(`both ${file} and ${other} are here: ${file} is read; --config= names another one`);
  const strangers = file === undefined ? undefined : strangersOf(file);
  if (strangers !== undefined)
    warn(`${file} of this directory is read, which ${strangers}, and says what lb4 runs; --config= names another one`);
  return file;
}

/** Whoever may write the file has commands of his run as the user that lb4 is: those of health checks, for one. Named files are somebody's own word. */
function strangersOf(file: string): string | undefined {
  const { uid, mode } = statSync(file);
  const trusted = [0, process.getuid?.() ?? 0, Number(process.env['SUDO_UID'] ?? 0)];
  if (!trusted.includes(uid)) return `belongs to user ${uid}`;
  return (mode & 0o002) !== 0 ? 'may be written by everybody' : undefined;
}

/** The same, where there must be one. Throws ConfigError. */
export function configFile(named: string | undefined, warn: (message: string) => void): string {
  const file = findConfig(named, warn);
  if (file !== undefined) return file;
  const [path, other] = DEFAULT_FILES;
  const message = `there is none in this directory, and no ${other}; name the file, --config=FILE`;
  throw new ConfigError([{ severity: 'error', file: path, position: undefined, path: '', message }]);
}

/** The modes that a command line may ask for, at most one. */
export interface ModeOptions {
  readonly passthrough?: boolean | undefined;
  readonly dsr?: boolean | undefined;
  readonly inline?: boolean | undefined;
  readonly proxy?: boolean | undefined;
  readonly fanOut?: boolean | undefined;
}

/** The mode that a command line asks for. Throws UsageError for more than one. */
export function askedMode({ passthrough, dsr, inline, proxy, fanOut }: ModeOptions): Mode | undefined {
  const asked = Object.entries({ passthrough, dsr, inline, proxy, 'fan-out': fanOut }).flatMap(([mode, isAsked]) =>
    isAsked ? [mode as Mode] : [],
  );
  if (asked.length > 1) throw new UsageError(`${asked.map((mode) => `--${mode}`).join(' and ')} exclude each other`);
  return asked[0];
}

/** The packet mode of a command line; passthrough unless told. Throws UsageError for more than one. */
export function modeOf({ passthrough, dsr, inline }: Omit<ModeOptions, 'proxy' | 'fanOut'>): PacketMode {
  return (askedMode({ passthrough, dsr, inline }) as PacketMode | undefined) ?? 'passthrough';
}
