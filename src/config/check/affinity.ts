/** What `affinity` demands beyond its schema: a mode that keeps clients' servers, and a scheduler that does not know better. */
import { consistent, SCHEDULERS } from '../../balance/index.ts';
import { isPacketMode, MODES, type Mode } from '../modes.ts';
import type { TomlNode } from '../read/toml.ts';
import { oneOf } from '../schema/key.ts';
import { error, type Finding, show, warning } from './finding.ts';
import { type Table, tables } from './places.ts';

/** @param mode undefined: whichever */
export function affinityFindings(root: TomlNode, mode: Mode | undefined): Finding[] {
  return tables(root, 'backends').flatMap((backend) => [...needless(backend), ...misplaced(backend, mode)]);
}

function needless({ node, path }: Table): Finding[] {
  const across = node.children.get('affinity_across');
  if (across?.value !== true || isWanted(node)) return [];
  const message = 'has no effect without affinity = SECONDS';
  return [warning(across, [...path, 'affinity_across'], message)];
}

function misplaced({ node, path }: Table, mode: Mode | undefined): Finding[] {
  const given = node.children.get('affinity');
  if (given === undefined || mode === undefined || !isWanted(node)) return [];
  const here = [...path, 'affinity'];
  if (!isPacketMode(mode)) return [error(given, here, 'proxy mode keeps no affinity; needed: balance = "source", or --passthrough')];
  const balance = node.children.get('balance')?.value ?? MODES[mode].balance;
  const hashes = SCHEDULERS.find((name) => name === balance && consistent.has(name));
  if (MODES[mode].directions === 2 || hashes === undefined) return [];
  const others = SCHEDULERS.filter((name) => !consistent.has(name));
  // What one balancer alone remembers another, or this one in its next life, would contradict.
  return [
    error(given, here, `in DSR the hash of balance = ${show(hashes)} alone says where segments go; needed: balance = ${oneOf(others)}`),
  ];
}

function isWanted({ children }: TomlNode): boolean {
  const seconds = children.get('affinity')?.value;
  return typeof seconds === 'number' && seconds > 0;
}
