/** Rules about a frontend's clients that keep all of them out, or none. */
import type { Frontend } from '../model.ts';
import { nodeAt, plainValue, type TomlNode } from '../read/toml.ts';
import { filesOf } from '../schema/access.ts';
import { MOST_SETS } from '../schema/firewall-sets.ts';
import { error, type Finding, warning } from './finding.ts';
import { type Table, tables } from './places.ts';

const RULES = ['allow', 'deny', 'source_rate', 'source_maxconn'] as const;

export function accessFindings(root: TomlNode): Finding[] {
  const frontends = tables(root, 'frontends');
  const sets = entriesOf(nodeAt(root, ['passthrough', 'respect_firewall']));
  return [
    ...frontends.flatMap((frontend) => [...empty(frontend), ...(sets.length === 0 ? needless(frontend) : [])]),
    ...tooMany(frontends, sets),
  ];
}

/** Each file, and each set of the firewall's, is a rule with counters of its own. */
function tooMany(frontends: readonly Table[], sets: readonly string[]): Finding[] {
  return frontends.flatMap(({ node, path }) => {
    const deny = node.children.get('deny');
    const files = filesOf(entriesOf(deny));
    if (deny === undefined || sets.length === 0 || files.length + sets.length <= MOST_SETS) return [];
    const message = `${files.length} files, and ${sets.length} sets of [passthrough] respect_firewall: needed: at most ${MOST_SETS} together`;
    return [error(deny, [...path, 'deny'], message)];
  });
}

function entriesOf(node: TomlNode | undefined): string[] {
  const value = node === undefined ? [] : plainValue(node);
  return Array.isArray(value) ? value.filter((entry) => typeof entry === 'string') : [];
}

function empty({ node, path }: Table): Finding[] {
  const allow = node.children.get('allow');
  if (allow?.kind !== 'array' || allow.children.size > 0) return [];
  return [warning(allow, [...path, 'allow'], 'an empty list lets nobody connect; without the key everybody may')];
}

/** The same of a list whose files are empty, as one is that is being written: of frontends as they came of the file. */
export function emptyFileFindings(root: TomlNode, frontends: readonly Pick<Frontend, 'name' | 'allow'>[]): Finding[] {
  const closed = frontends.filter(
    ({ allow }) => allow !== undefined && allow.files.length > 0 && allow.lists.every(({ size }) => size === 0),
  );
  return [...new Set(closed.map(({ name }) => name))].flatMap((name) => {
    const path = ['frontends', name, 'allow'];
    const node = nodeAt(root, path);
    return node === undefined ? [] : [warning(node, path, 'its files have no address: nobody may connect')];
  });
}

function needless({ node, path }: Table): Finding[] {
  if (RULES.some((rule) => node.children.has(rule))) return [];
  return ['deny_action', 'dry_run'].flatMap((name) => {
    const given = node.children.get(name);
    return given === undefined
      ? []
      : [warning(given, [...path, name], `has no effect without ${RULES.join(', ')}, or [passthrough] respect_firewall`)];
  });
}
