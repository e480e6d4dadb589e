/** `lb4 import haproxy FILE`, `lb4 import ipvsadm FILE`: another balancer's configuration as lb4's. */
import { readFileSync } from 'node:fs';
import { unreadable } from '../config/load.ts';
import { formatLost, type Imported } from '../import/finish.ts';
import { importHaproxy } from '../import/haproxy.ts';
import { importIpvsadm } from '../import/ipvsadm.ts';
import { told } from './lines.ts';

const IMPORTERS = { haproxy: importHaproxy, ipvsadm: importIpvsadm } satisfies Record<string, (text: string, name: string) => Imported>;

/** Whose configuration. */
export type Foreign = keyof typeof IMPORTERS;

const STDIN = 0;

/** Prints the file for lb4, and what is lost on standard error as well. Throws ConfigError for a file that cannot be read. */
export function importFile(format: Foreign, file: string): void {
  const { toml, lost } = IMPORTERS[format](readText(file), file === '-' ? 'standard input' : file);
  process.stdout.write(toml);
  for (const one of lost) process.stderr.write(told(`${file}:${formatLost(one)}`));
}

function readText(file: string): string {
  try {
    return readFileSync(file === '-' ? STDIN : file, 'utf8');
  } catch (error) {
    throw unreadable(file, error);
  }
}
