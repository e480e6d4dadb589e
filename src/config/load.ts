/** Reads a configuration file: TOML → schema → cross checks → model, and every mistake on the way at once. */
import { availableParallelism } from 'node:os';
import { getSystemErrorMap, TextDecoder } from 'node:util';
import { ConfigError, formatMistake, type Mistake, type Position } from '../errors.ts';
import { accessFindings, emptyFileFindings } from './check/access.ts';
import { affinityFindings } from './check/affinity.ts';
import { connectionLogFindings } from './check/connection-log.ts';
import { controlFindings } from './check/control.ts';
import { crossFindings } from './check/cross.ts';
import { type Finding, mistakeOf } from './check/finding.ts';
import { inlineFindings } from './check/inline.ts';
import { keyFindings, schemaFindings } from './check/keys.ts';
import { modeFindings } from './check/modes.ts';
import { checkSourceFindings, type IsOwn, localServerFindings, loopFindings, type SourceTowards } from './check/own.ts';
import { protocolsIn, tables } from './check/places.ts';
import { programFindings } from './check/programs.ts';
import { sourceFindings } from './check/sources.ts';
import { statsFindings } from './check/stats.ts';
import { cpuFindings, type UsableCpus } from './check/workers.ts';
import { effectiveKeys, type Keys } from './effective.ts';
import { graft } from './graft.ts';
import { readLists } from './lists.ts';
import type { Config } from './model.ts';
import { fansOut, type Mode, wrapping } from './modes.ts';
import { readAny, readRegular } from './read/file.ts';
import { isCrowded, MOST_PARTS } from './read/parts.ts';
import { formatPath, nearestNode, nodeAt, plainValue, readToml } from './read/toml.ts';
import { fileSchema } from './schema/file.ts';
import { icmpEcho, statsAddress } from './schema/origin.ts';
import { resolveConfig } from './schema/resolve.ts';
import { PING } from './schema/services.ts';

export interface Loaded {
  readonly config: Config;
  /** The file's keys, as it spells them, with those that it leaves to lb4 (effective.ts). */
  readonly keys: Keys;
  /** Unknown keys and other doubts, in the file's order; print them with `formatMistake`. */
  readonly warnings: readonly Mistake[];
}

export interface LoadOptions {
  /** Check also what this mode demands; left out, what all modes share. */
  readonly mode?: Mode | undefined;
  /** Look also for the programs that the file names. Not in a running lb4: a file system may keep it waiting. */
  readonly programs?: boolean | undefined;
  /** Look also for servers that are this host itself, where that cannot work. */
  readonly isOwn?: IsOwn | undefined;
  /** The addresses that a file of `[glb]` may have packets come from; left out, those of `isOwn`. */
  readonly isOwnSource?: IsOwn | undefined;
  /** And whether health checks of L2 DSR can be answered to this host. */
  readonly sourceTowards?: SourceTowards | undefined;
  /** And whether workers can be pinned to the processors that it names. */
  readonly usableCpus?: UsableCpus | undefined;
  /** lb4 runs already: refuse what is not a regular file, rather than wait for a pipe's writer while traffic waits for lb4. */
  readonly reload?: boolean | undefined;
  /** Gets the path of each further file (`[glb]`, lists of prefixes) before it is read. */
  readonly reads?: ((path: string) => void) | undefined;
  /** Say all, however many there are: for programs. */
  readonly unbounded?: boolean | undefined;
  /** So many processors are this process's to use: for tests. */
  readonly processors?: number | undefined;
}

/** Asked once: a reload goes by what the start went by. */
const PROCESSORS = availableParallelism();

/** Reads and checks the file at `path`, of at most 4 MiB. Throws ConfigError, also where the file cannot be read. */
export function loadConfig(path: string, options: LoadOptions = {}): Loaded {
  return parseConfig(readText(path, options.reload ? readRegular : readAny), path, options);
}

/** `FILE:LINE:COLUMN: KEY: MESSAGE`, of a key in a file that was good when it was read; without a place where the key is not there any more. */
export function sayOf(file: string, path: readonly PropertyKey[], message: string): string {
  const key = formatPath(path);
  return formatMistake({ ...fileMistake(file, message, positionIn(file, path)), path: key });
}

function positionIn(file: string, path: readonly PropertyKey[]): Position | undefined {
  try {
    const root = readToml(readText(file, readRegular));
    return 'message' in root ? undefined : nodeAt(root, path)?.at;
  } catch {
    // A pipe, say, which cannot be read again.
    return undefined;
  }
}

/** Checks `text`; `file` is its name in messages. Throws ConfigError with all mistakes and warnings. */
export function parseConfig(text: string, file: string, options: LoadOptions = {}): Loaded {
  const { mode, programs, isOwn, sourceTowards, usableCpus, reload = false, unbounded = false, processors = PROCESSORS, reads } = options;
  assertRoomy(text, file);
  const root = readToml(text);
  if ('message' in root) throw new ConfigError([fileMistake(file, root.message, root.position)]);
  // One that reads no frontends asks nothing of them.
  const forwarding = fansOut(mode) ? undefined : mode;
  const readOther = (path: string, read = reload ? readRegular : readAny): string => {
    reads?.(path);
    return readText(path, read);
  };
  // A list is read again with every reload, which a pipe cannot be.
  const readList = (path: string): string => readOther(path, readRegular);
  const readRoomy = (path: string): string => {
    const other = readOther(path);
    assertRoomy(other, path);
    return other;
  };
  const ownSource = options.isOwnSource ?? isOwn;
  const hasTunnels = forwarding === undefined || wrapping(forwarding, { dsr: 'gue' }) !== undefined;
  const hasPings = tables(root, 'frontends').some((table) => protocolsIn(table).includes(PING));
  const grafted = graft(root, readRoomy, { hasTunnels, hasPings, isOwn: ownSource && ((ip) => ownSource({ ip, family: 4 })) });
  const told = (mistakes: readonly Mistake[]) => (unbounded ? mistakes : bounded(mistakes, file));
  if (grafted.mistakes.some(isError)) throw new ConfigError(told(grafted.mistakes));
  const plain = plainValue(root);
  const result = fileSchema.safeParse(plain);
  const issues = result.success ? [] : result.error.issues;
  const findings = [
    ...schemaFindings(root, issues),
    ...keyFindings(root),
    ...crossFindings(root, mode),
    ...modeFindings(root, forwarding),
    ...inlineFindings(root, forwarding),
    ...sourceFindings(root, forwarding),
    ...affinityFindings(root, forwarding),
    ...accessFindings(root),
    ...loopFindings(root, isOwn),
    ...localServerFindings(root, forwarding, isOwn),
    ...checkSourceFindings(root, forwarding, isOwn, sourceTowards),
    ...cpuFindings(root, forwarding, { isOwn, usableCpus, isRunning: reload }),
    ...statsFindings(root),
    ...connectionLogFindings(root),
    ...controlFindings(root),
    ...(programs ? programFindings(root) : []),
  ].sort(byPosition);
  const mistakes = told([...grafted.mistakes, ...findings.map((finding) => mistakeOf(finding, file))]);
  if (!result.success || mistakes.some(isError)) throw new ConfigError(mistakes);
  const tell = (path: readonly PropertyKey[], message: string) =>
    mistakeOf({ severity: 'error', path, position: (nodeAt(root, path) ?? nearestNode(root, path)).at, message }, file);
  const lists = readLists(fansOut(mode) ? { frontends: {} } : result.data, readList, tell);
  if (lists.mistakes.length > 0) throw new ConfigError(told([...mistakes, ...lists.mistakes]));
  const defaults = { mode, processors, statsAddress: statsAddress(plain), icmpEcho: (frontend: string) => icmpEcho(plain, frontend) };
  const config = resolveConfig(result.data, file, { ...defaults, files: [...grafted.files, ...lists.files], lists: lists.of });
  const closed = emptyFileFindings(root, config.frontends).map((finding) => mistakeOf(finding, file));
  return { config, keys: effectiveKeys(result.data, config, mode), warnings: [...mistakes, ...told(closed)] };
}

const CROWDED = `it has more keys, tables and values than any configuration needs; allowed: at most ${MOST_PARTS.toLocaleString('en')} of = [ { and ,`;

/** Throws ConfigError where a text, of TOML or JSON, is too much to parse. */
function assertRoomy(text: string, file: string): void {
  if (isCrowded(text)) throw new ConfigError([fileMistake(file, CROWDED)]);
}

/** More than this nobody reads: the rest is a number. */
const MOST_MISTAKES = 200;

/** As many as are told, in the file's order; errors are told before warnings where not all can be. */
export function bounded(mistakes: readonly Mistake[], file: string): readonly Mistake[] {
  if (mistakes.length <= MOST_MISTAKES) return mistakes;
  const errors = mistakes.filter(({ severity }) => severity === 'error');
  const warnings = mistakes.filter(({ severity }) => severity === 'warning').slice(0, Math.max(0, MOST_MISTAKES - errors.length));
  const told = new Set([...errors.slice(0, MOST_MISTAKES), ...warnings]);
  const rest = (mistakes.length - told.size).toLocaleString('en');
  const severity = errors.length > MOST_MISTAKES ? 'error' : 'warning';
  return [...mistakes.filter((one) => told.has(one)), { ...fileMistake(file, `… and ${rest} more`), severity }];
}

function isError({ severity }: Mistake): boolean {
  return severity === 'error';
}

function byPosition({ position: a }: Finding, { position: b }: Finding): number {
  const files = [a.file ?? '', b.file ?? ''];
  if (files[0] !== files[1]) return files[0] < files[1] ? -1 : 1;
  return a.line - b.line || a.column - b.column;
}

/** The text of a file that another program's configuration stands in. Throws ConfigError where it cannot be read, or is too much for one. */
export function readForeign(path: string): string {
  const text = readText(path, readAny);
  assertRoomy(text, path);
  return text;
}

function readText(path: string, read: (path: string) => Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(read(path));
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** Of a file that was to be read as a configuration. */
export function unreadable(path: string, error: unknown): ConfigError {
  return new ConfigError([fileMistake(path, `cannot be read: ${reason(error)}`)], { cause: error });
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
