/** Reads a configuration file: TOML → schema → cross checks → model, and every mistake on the way at once. */
import { getSystemErrorMap, TextDecoder } from 'node:util';
import { ConfigError, type Mistake, type Position } from '../errors.ts';
import { crossFindings } from './cross.ts';
import { readAny, readRegular } from './file.ts';
import { type Finding, keyFindings, mistakeOf, schemaFindings } from './mistakes.ts';
import type { Config, Mode } from './model.ts';
import { modeFindings } from './modes.ts';
import { programFindings } from './programs.ts';
import { resolveConfig } from './resolve.ts';
import { fileSchema } from './schema.ts';
import { plainValue, readToml } from './toml.ts';

export interface Loaded {
  readonly config: Config;
  /** Unknown keys and other doubts, in the file's order; print them with `formatMistake`. */
  readonly warnings: readonly Mistake[];
}

export interface LoadOptions {
  /** Check also what this mode demands; left out, what all modes share. */
  readonly mode?: Mode | undefined;
  /** Look also for the programs that the file names. Not in a running lb4: a file system may keep it waiting. */
  readonly programs?: boolean | undefined;
}

export interface FileOptions extends LoadOptions {
  /** lb4 runs already: refuse what is not a regular file, rather than wait for a pipe's writer while traffic waits for lb4. */
  readonly reload?: boolean | undefined;
}

/** Reads and checks the file at `path`, of at most 16 MiB. Throws ConfigError, also where the file cannot be read. */
export function loadConfig(path: string, options: FileOptions = {}): Loaded {
  return parseConfig(readText(path, options.reload ? readRegular : readAny), path, options);
}

/** Checks `text`; `file` is its name in messages. Throws ConfigError with all mistakes and warnings. */
export function parseConfig(text: string, file: string, { mode, programs }: LoadOptions = {}): Loaded {
  const root = readToml(text);
  if ('message' in root) throw new ConfigError([fileMistake(file, root.message, root.position)]);
  const result = fileSchema.safeParse(plainValue(root));
  const issues = result.success ? [] : result.error.issues;
  const findings = [
    ...schemaFindings(root, issues),
    ...keyFindings(root),
    ...crossFindings(root),
    ...modeFindings(root, mode),
    ...(programs ? programFindings(root) : []),
  ].sort(byPosition);
  const mistakes = findings.map((finding) => mistakeOf(finding, file));
  if (!result.success || mistakes.some(({ severity }) => severity === 'error')) throw new ConfigError(mistakes);
  return { config: resolveConfig(result.data, file), warnings: mistakes };
}

function byPosition({ position: a }: Finding, { position: b }: Finding): number {
  return a.line - b.line || a.column - b.column;
}

function readText(path: string, read: (path: string) => Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(read(path));
  } catch (error) {
    throw new ConfigError([fileMistake(path, `cannot be read: ${reason(error)}`)], { cause: error });
  }
}

function reason(error: unknown): string {
  const { code, errno } = error as NodeJS.ErrnoException;
  if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return 'it is not UTF-8 text';
  const known = errno === undefined ? undefined : getSystemErrorMap().get(errno);
  return known === undefined ? (error as Error).message : `${known[1]} (${known[0]})`;
}

function fileMistake(file: string, message: string, position?: Position): Mistake {
  return { severity: 'error', file, position, path: '', message };
}
