/** What `source_addrs` demands beyond its schema: a mode in which lb4 gives out source ports, and no address twice. */
import { factsOf, type Mode } from '../modes.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { error, type Finding, show } from './finding.ts';
import { forwardingKeys, type Path, tables } from './places.ts';

const KEY = 'source_addrs';

const WHY_NOT = {
  kernel: 'the kernel chooses what proxy mode connects from',
  client: 'servers see the addresses of clients',
} as const;

/** @param mode undefined: whichever */
export function sourceFindings(root: TomlNode, mode: Mode | undefined): Finding[] {
  return tables(root, 'backends').flatMap(({ path, node }) => {
    const here = [...path, KEY];
    const list = nodeAt(root, here);
    if (list === undefined) return [];
    const kind = mode === undefined ? 'pool' : factsOf(mode, forwardingKeys(node)).source;
    if (kind === 'pool') return twice(list, here);
    return [error(list, here, `${WHY_NOT[kind]}; needed: passthrough with nat = "full", or a file without this key`)];
  });
}

function twice(list: TomlNode, path: Path): Finding[] {
  if (list.kind !== 'array') return [];
  const firsts = new Map<unknown, TomlNode>();
  return [...list.children].flatMap(([place, node]) => {
    const first = firsts.get(node.value);
    if (first !== undefined) return [error(node, [...path, place], `${show(node.value)} stands here already, line ${first.at.line}`)];
    firsts.set(node.value, node);
    return [];
  });
}
