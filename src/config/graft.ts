/**
 * `[glb]`: the services of GLB's own files as if they stood in this one, so that every check is theirs as well. What is said of them names the place in the
 * file that they are from.
 */
import { ConfigError, type Mistake, type Position } from '../errors.ts';
import { asKeys, type KeyTable, type Surroundings } from '../glb/as-keys.ts';
import { readDirector } from '../glb/director.ts';
import { readForwardingTables } from '../glb/forwarding-table.ts';
import { formatPath, type Place } from '../glb/reader.ts';
import { nodeAt, type TomlNode } from './read/toml.ts';

/** What became of it. */
export interface Grafted {
  /** Absolute paths: a change of one is a change of the configuration. */
  readonly files: readonly string[];
  /** Errors and warnings; with an error in them nothing was grafted. */
  readonly mistakes: readonly Mistake[];
}

const NOTHING: Grafted = { files: [], mistakes: [] };

/**
 * Adds to the tree what the files of its `[glb]` ask for.
 * @param read the text of a file; throws ConfigError where it cannot be read
 */
export function graft(root: TomlNode, read: (path: string) => string, surroundings: Surroundings): Grafted {
  const [table, director] = ['forwarding_table', 'director'].map((key) => nodeAt(root, ['glb', key])?.value);
  // What is no path is the schema's.
  if (!isPath(table)) return NOTHING;
  const files = [table, ...(isPath(director) ? [director] : [])];
  try {
    const forwarding = readForwardingTables(read(table), table);
    const config = isPath(director) ? readDirector(read(director), director) : undefined;
    const mistakes = [...forwarding.mistakes, ...(config?.mistakes ?? [])];
    if (mistakes.some(({ severity }) => severity === 'error')) return { files, mistakes };
    const { tables, left, doubts } = asKeys(forwarding, config, surroundings);
    const clashes = tables.flatMap((one) => add(root, one));
    // Of what is needless there is nothing to do.
    const lost = left.filter(({ isNeedless }) => !isNeedless).map(({ place, why }) => mistakeAt(place, 'warning', `left out: ${why}`));
    return { files, mistakes: [...mistakes, ...clashes, ...doubts, ...lost] };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { files, mistakes: error.mistakes };
  }
}

function isPath(value: unknown): value is string {
  return typeof value === 'string' && value.startsWith('/');
}

/** A table of the file itself keeps its name. */
function add(root: TomlNode, { path, from, keys }: KeyTable): Mistake[] {
  const known = nodeAt(root, path);
  if (known !== undefined) {
    const line = known.at.line;
    return [
      mistakeAt(from, 'error', `${path.join('.')} stands in lb4's own file as well, line ${line}; needed: another name of this table`),
    ];
  }
  const node = tableAt(root, path, positionOf(from));
  for (const [key, { value, from: at }] of keys) node.children.set(key, nodeOf(value, positionOf(at)));
  return [];
}

function tableAt(root: TomlNode, path: readonly string[], at: Position): TomlNode {
  return path.reduce((parent, name) => {
    const child = parent.children.get(name) ?? newNode('table', at);
    parent.children.set(name, child);
    return child;
  }, root);
}

function nodeOf(value: unknown, at: Position): TomlNode {
  if (!Array.isArray(value)) return newNode('leaf', at, value);
  const array = newNode('array', at);
  for (const [i, one] of value.entries()) array.children.set(i, nodeOf(one, at));
  return array;
}

function newNode(kind: TomlNode['kind'], at: Position, value?: unknown): TomlNode {
  return { kind, value, children: new Map(), keyAt: at, at };
}

function positionOf({ file, node: { at } }: Place): Position {
  return { ...at, file };
}

function mistakeAt({ file, node, path }: Place, severity: Mistake['severity'], message: string): Mistake {
  return { severity, file, position: node.at, path: formatPath(path), message };
}
