/** Statistics for everybody, though nobody has said so. */
import { nodeAt, plainValue, type TomlNode } from '../read/toml.ts';
import { hasOwnKey } from '../schema/origin.ts';
import type { Finding } from './finding.ts';

/** A warning for a file of Convey's keys alone, which does not say where they are served. */
export function statsFindings(root: TomlNode): Finding[] {
  const stats = nodeAt(root, ['stats']);
  if (stats?.kind !== 'table' || stats.children.has('address') || hasOwnKey(plainValue(root))) return [];
  const message =
    "missing: the statistics are on every address of this host, as with Convey; with any key of lb4's own in the file they would be on 127.0.0.1 " +
    'alone; write one of them, address = "127.0.0.1" or "0.0.0.0"';
  return [{ severity: 'warning', path: ['stats', 'address'], position: stats.at, message }];
}
