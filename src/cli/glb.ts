/** What `lb4 glb` does. */
import { readForeign } from '../config/load.ts';
import { formatMistake } from '../errors.ts';
import { buildConfig } from '../glb/build-config.ts';
import { formatLost } from '../import/finish.ts';
import { importGlb, type Source } from '../import/glb.ts';
import { told } from './lines.ts';

/** Throws ConfigError for a wrong file, FailureError where nothing can be written. */
export function buildTable(source: string, destination: string): void {
  for (const doubt of buildConfig(readForeign(source), source, destination)) process.stderr.write(told(formatMistake(doubt)));
}

/** Prints the file for lb4, and what is lost or doubtful on standard error as well. Throws ConfigError for files that cannot be read, or are wrong. */
export function importTable(table: string, director: string | undefined): void {
  const { toml, lost, doubts } = importGlb(sourceAt(table), director === undefined ? undefined : sourceAt(director));
  process.stdout.write(toml);
  for (const doubt of doubts) process.stderr.write(told(formatMistake(doubt)));
  for (const one of lost) process.stderr.write(told(`${one.file ?? table}:${formatLost(one)}`));
}

function sourceAt(name: string): Source {
  return { name, text: readForeign(name) };
}
