/** What `lb4 glb` does. */
import { formatMistake } from '../errors.ts';
import { buildConfig } from '../glb/build-config.ts';
import { told } from './lines.ts';

/** Throws ConfigError for a wrong file, FailureError where nothing can be written. */
export function buildTable(source: string, destination: string): void {
  for (const doubt of buildConfig(source, destination)) process.stderr.write(told(formatMistake(doubt)));
}
