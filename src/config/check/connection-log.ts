/** A connection log that would go nowhere, and keys of it that do nothing. */
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { error, type Finding, warning } from './finding.ts';

/** What reads each key, where that is not every connection log. */
const READ_BY: Readonly<Record<string, readonly unknown[]>> = { file: ['file'], syslog: ['syslog'], format: ['file', 'syslog'] };

export function connectionLogFindings(root: TomlNode): Finding[] {
  const table = nodeAt(root, ['connection_log']);
  if (table?.kind !== 'table') return [];
  const to = table.children.get('to');
  if (to === undefined) return [];
  const isNowhere = to.value === 'file' && !table.children.has('file');
  const missing = 'without a file there is nowhere to write to; needed: file, "/var/log/lb4/connections.log"';
  const idle = Object.entries(READ_BY).flatMap(([key, readers]) => {
    const node = table.children.get(key);
    return node === undefined || readers.includes(to.value) ? [] : [{ node, key }];
  });
  return [
    ...(isNowhere ? [error(to, ['connection_log', 'to'], missing)] : []),
    ...idle.map(({ node, key }) => warning(node, ['connection_log', key], `has no effect with to = "${String(to.value)}"`)),
  ];
}
