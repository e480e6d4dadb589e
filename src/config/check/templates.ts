/** Servers of which the file does not say, or says twice, where they are. */
import type { TomlNode } from '../read/toml.ts';
import { SERVER_ADDRESS } from '../schema/backend.ts';
import { error, type Finding, warning } from './finding.ts';
import { type Table, tables } from './places.ts';

const WHERE = ['addr', 'srv', 'exec'] as const;

/** One of the three is needed, and no more (errors); what `exec` alone reads does nothing beside the others (a warning). */
export function templateFindings(root: TomlNode): Finding[] {
  return tables(root, 'backends').flatMap(({ path }) => tables(root, ...path, 'servers').flatMap(findingsOf));
}

function findingsOf({ path, node }: Table): Finding[] {
  if (node.kind !== 'table') return [];
  const given = WHERE.filter((key) => node.children.has(key));
  const [first, second] = given;
  if (first === undefined) return [error(node, [...path, 'addr'], `missing; needed: ${SERVER_ADDRESS}; or srv, or exec`)];
  const more = second && node.children.get(second);
  if (more !== undefined) return [error(more, [...path, second ?? ''], `there is ${first}, too; allowed: one of ${WHERE.join(', ')}`)];
  const interval = node.children.get('exec_interval');
  return interval === undefined || first === 'exec'
    ? []
    : [warning(interval, [...path, 'exec_interval'], `only exec reads it, not ${first}`)];
}
