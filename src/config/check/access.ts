/** Rules about a frontend's clients that keep all of them out, or none. */
import type { TomlNode } from '../read/toml.ts';
import { type Finding, warning } from './finding.ts';
import { type Table, tables } from './places.ts';

const RULES = ['allow', 'deny', 'source_rate', 'source_maxconn'] as const;

export function accessFindings(root: TomlNode): Finding[] {
  return tables(root, 'frontends').flatMap((frontend) => [...empty(frontend), ...needless(frontend)]);
}

function empty({ node, path }: Table): Finding[] {
  const allow = node.children.get('allow');
  if (allow?.kind !== 'array' || allow.children.size > 0) return [];
  return [warning(allow, [...path, 'allow'], 'an empty list lets nobody connect; without the key everybody may')];
}

function needless({ node, path }: Table): Finding[] {
  if (RULES.some((rule) => node.children.has(rule))) return [];
  return ['deny_action', 'dry_run'].flatMap((name) => {
    const given = node.children.get(name);
    return given === undefined ? [] : [warning(given, [...path, name], `has no effect without ${RULES.join(', ')}`)];
  });
}
