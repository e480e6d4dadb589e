/** GLB's forwarding table, and its director's configuration (github/glb-director). */
import { bounded } from '../config/load.ts';
import { ConfigError, type Mistake } from '../errors.ts';
import { asKeys } from '../glb/as-keys.ts';
import { type DirectorConfig, readDirector } from '../glb/director.ts';
import { readForwardingTables } from '../glb/forwarding-table.ts';
import { formatPath, type Place } from '../glb/reader.ts';
import { Draft, type Line } from './draft.ts';
import { finish, type Imported } from './finish.ts';

/** A file's text and name. */
export interface Source {
  readonly text: string;
  readonly name: string;
}

export interface ImportedGlb extends Imported {
  /** What is doubtful in its own files. */
  readonly doubts: readonly Mistake[];
}

/** @throws ConfigError for files that are wrong, and where nothing of them can be carried over */
export function importGlb(table: Source, director: Source | undefined): ImportedGlb {
  const forwarding = readForwardingTables(table.text, table.name);
  const config = director && readDirector(director.text, director.name);
  const doubts = [...forwarding.mistakes, ...(config?.mistakes ?? [])];
  if (doubts.some(({ severity }) => severity === 'error')) throw new ConfigError(bounded(doubts, table.name));
  const draft = new Draft();
  const lineOf = ({ node, path, file }: Place): Line => {
    return { number: node.at.line, words: [formatPath(path) || 'all'], ...(file !== table.name && { file }) };
  };
  const { tables, left, doubts: more } = asKeys(forwarding, config);
  for (const { path, from, keys } of tables) {
    const made = draft.table(path, lineOf(from));
    for (const [key, given] of keys) made.keys.set(key, { value: given.value, from: lineOf(given.from) });
  }
  for (const { place, why } of left) draft.lose(lineOf(place), why);
  const head = [`From ${table.name}, by \`lb4 glb import\`: for lb4 --dsr --config=FILE.`];
  return { ...finish(draft, 'dsr', { name: table.name, head }), doubts: [...doubts, ...more, ...sourceDoubts(config)] };
}

/** The file goes to several balancers, and none of them is that director. */
function sourceDoubts(config: DirectorConfig | undefined): Mistake[] {
  if (config?.source === undefined) return [];
  const { file, node, path } = config.source.place;
  const message = "it is one director's own, and becomes source_addr: change that on each balancer, or leave it out";
  return [{ severity: 'warning', file, position: node.at, path: formatPath(path), message }];
}
