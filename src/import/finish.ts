/** From a draft to a file that lb4 takes. */
import { parseConfig } from '../config/load.ts';
import type { Mode } from '../config/modes.ts';
import { ConfigError, type Mistake } from '../errors.ts';
import { LIMITS } from '../layout/limits.ts';
import type { Draft, Lost, Table, Value } from './draft.ts';

export interface Imported {
  /** The file's text, which lb4 takes in `mode`. */
  readonly toml: string;
  readonly mode: Mode;
  /** In the order of the other program's lines. */
  readonly lost: readonly Lost[];
}

export interface Origin {
  /** The other program's file, for messages. */
  readonly name: string;
  /** The first lines of the result, without comment signs. */
  readonly head: readonly string[];
}

/**
 * Takes out what lb4 refuses, until it takes the rest.
 * @throws ConfigError with all that is lost where nothing is left, and where it is more than a file may hold
 */
export function finish(draft: Draft, mode: Mode, { name, head }: Origin): Imported {
  const tables = [...draft.tables];
  const lost = [...draft.lost];
  assertRoom(tables, name);
  while (tables.some(({ path }) => path[0] === 'frontends')) {
    const { text, lines } = render(tables);
    const [first] = errorsOf(text, mode);
    if (first === undefined) {
      const told = unique(lost).toSorted((a, b) => a.line - b.line);
      return { toml: `${comment(head)}${told.length === 0 ? '' : lostLines(told)}\n${text}`, mode, lost: told };
    }
    // One at a time: what is gone may take other mistakes with it.
    const place = lines[(first.position?.line ?? 0) - 1];
    if (place === undefined) throw new ConfigError([first]);
    lost.push(takeOut(tables, place, first.message));
  }
  throw new ConfigError([
    ...unique(lost).map((one) => mistakeOf(one, name)),
    { ...mistakeOf({ line: 0, text: '', why: NOTHING }, name), position: undefined },
  ]);
}

/** What to leave out is the reader's to say; to try one after the other would take minutes. */
function assertRoom(tables: readonly Table[], file: string): void {
  const kinds = {
    frontends: ({ path }: Table) => path[0] === 'frontends',
    backends: ({ path }: Table) => path[0] === 'backends' && path.length === 2,
    servers: ({ path }: Table) => path[0] === 'backends' && path.length === 4,
  };
  for (const what of ['frontends', 'backends', 'servers'] as const) {
    const [number, most] = [tables.filter(kinds[what]).length, LIMITS[what]];
    if (number <= most) continue;
    const message = `${number.toLocaleString('en')} ${what} come of it; allowed: at most ${most.toLocaleString('en')}`;
    throw new ConfigError([{ severity: 'error', file, position: undefined, path: '', message }]);
  }
}

const NOTHING = 'nothing of it that listens can be carried over';

function mistakeOf({ file: own, line, text, why }: Lost, file: string): Mistake {
  const message = text === '' ? why : `${text}: ${why}`;
  return { severity: 'error', file: own ?? file, position: { line, column: 1 }, path: '', message };
}

/** What stands in defaults may be lost in several sections. */
function unique(lost: readonly Lost[]): Lost[] {
  return [...new Map(lost.map((one) => [`${one.file}:${formatLost(one)}`, one])).values()];
}

/** What stands in a line of the file: a table's head, or one of its keys. */
interface Placed {
  readonly table: Table;
  readonly key: string | undefined;
}

function takeOut(tables: Table[], { table, key }: Placed, why: string): Lost {
  const from = (key === undefined ? undefined : table.keys.get(key)?.from) ?? table.from;
  // A frontend without its address or backend is none, nor is a server without an address.
  if (key === undefined || ['listen_addr', 'backend', 'addr'].includes(key)) tables.splice(tables.indexOf(table), 1);
  else table.keys.delete(key);
  return { file: from.file, line: from.number, text: from.words.join(' '), why: key === undefined ? why : `${key}: ${why}` };
}

function errorsOf(text: string, mode: Mode): readonly Mistake[] {
  try {
    parseConfig(text, 'the result', { mode });
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.mistakes.filter(({ severity }) => severity === 'error');
  }
}

function render(tables: readonly Table[]): { text: string; lines: (Placed | undefined)[] } {
  const text: string[] = [];
  const lines: (Placed | undefined)[] = [];
  const add = (line: string, placed?: Placed) => {
    text.push(line);
    lines.push(placed);
  };
  for (const table of tables) {
    if (text.length > 0) add('');
    add(`[${table.path.map(bare).join('.')}]`, { table, key: undefined });
    for (const [key, { value }] of table.keys) add(`${key} = ${written(value)}`, { table, key });
  }
  return { text: `${text.join('\n')}\n`, lines };
}

function bare(name: string): string {
  return /^[\w-]+$/.test(name) ? name : JSON.stringify(name);
}

function written(value: Value): string {
  return typeof value === 'object'
    ? `[${value.map(written).join(', ')}]`
    : typeof value === 'string'
      ? JSON.stringify(value)
      : String(value);
}

function lostLines(lost: readonly Lost[]): string {
  return comment(['', 'Not carried over:', ...lost.map((one) => `  ${one.file === undefined ? '' : `${one.file}:`}${formatLost(one)}`)]);
}

/** `12: option tcplog: why` */
export function formatLost({ line, text, why }: Lost): string {
  return `${line}: ${text}: ${why}`;
}

function comment(lines: readonly string[]): string {
  // What came from elsewhere must not end the comment, and TOML has no control characters in one.
  return lines
    .map((line) => `# ${line.replaceAll(/\p{Cc}/gu, ' ')}`.trimEnd())
    .map((line) => `${line}\n`)
    .join('');
}
