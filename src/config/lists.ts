/** Files of prefixes that frontends' `allow` and `deny` name. */
import { PrefixList } from '../access/prefix-list.ts';
import { ConfigError, type Mistake } from '../errors.ts';
import { readPrefix } from './address.ts';
import { filesOf } from './schema/access.ts';
import type { FileConfig } from './schema/file.ts';

/** What was in them. */
export interface Lists {
  /** Absolute paths, each once: a change of one is a change of the configuration. */
  readonly files: readonly string[];
  readonly mistakes: readonly Mistake[];
  readonly of: (path: string) => PrefixList;
}

/** More of one file nobody reads. */
const MOST_MISTAKES = 10;

/**
 * @param read the text of a file; throws ConfigError where it cannot be read
 * @param tell makes a mistake about the key at a path of the configuration file
 */
export function readLists(
  { frontends }: Pick<FileConfig, 'frontends'>,
  read: (path: string) => string,
  tell: (path: readonly PropertyKey[], message: string) => Mistake,
): Lists {
  const lists = new Map<string, PrefixList>();
  const mistakes: Mistake[] = [];
  for (const [frontend, { allow = [], deny = [] }] of Object.entries(frontends)) {
    for (const path of filesOf([...allow, ...deny])) {
      if (lists.has(path)) continue;
      const key = ['frontends', frontend, filesOf(allow).includes(path) ? 'allow' : 'deny'];
      const list = new PrefixList();
      lists.set(path, list);
      try {
        mistakes.push(...readLines(list, read(path), path));
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        mistakes.push(...error.mistakes.map(({ file, message }) => tell(key, `${file}: ${message}`)));
      }
    }
  }
  return { files: [...lists.keys()], mistakes, of: (path) => lists.get(path) ?? new PrefixList() };
}

const ALLOWED = 'allowed: an IP address or prefix a line, "192.0.2.0/24", and what is behind # or ;';

/** Adds what each line says. Returns the first mistakes. */
function readLines(list: PrefixList, text: string, file: string): Mistake[] {
  const mistakes: Mistake[] = [];
  for (const [at, whole] of text.split('\n').entries()) {
    const line = whole.replace(/[#;].*/, '').trim();
    if (line === '') continue;
    const read = readPrefix(line);
    if (!('problem' in read)) list.add(read.family, read.first, read.bits);
    else {
      const position = { line: at + 1, column: whole.indexOf(line) + 1 };
      const shown = JSON.stringify(line.length > 60 ? `${line.slice(0, 60)}…` : line);
      mistakes.push({ severity: 'error', file, position, path: '', message: `${shown} ${read.problem}; ${ALLOWED}` });
      if (mistakes.length === MOST_MISTAKES) break;
    }
  }
  return mistakes;
}
