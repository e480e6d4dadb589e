/** What `dsr = "gue"` and `"ipip"`, which wrap packets, demand of a file beyond its schema. */
import type { Dsr } from '../model.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { error, type Finding, show } from './finding.ts';
import { tables } from './places.ts';

/** The keys that are for wrapped packets alone, and with which `dsr`. */
const OWN_KEYS: Readonly<Record<string, readonly Dsr[]>> = { gue_port: ['gue'], source_addr: ['gue', 'ipip'] };
const WRAPPING = OWN_KEYS.source_addr;

/** Keys that nothing would read: whatever the mode. */
export function tunnelKeyFindings(root: TomlNode): Finding[] {
  return tables(root, 'backends').flatMap(({ path, node }) => {
    const dsr = node.children.get('dsr')?.value;
    return Object.entries(OWN_KEYS).flatMap(([key, wanted]) => {
      const found = node.children.get(key);
      if (found === undefined || wanted.some((one) => one === dsr)) return [];
      const needed = wanted.map((one) => `dsr = ${show(one)}`).join(' or ');
      return [
        error(found, [...path, key], `packets to these servers are not wrapped in others; needed: ${needed}, or a file without this key`),
      ];
    });
  });
}

/** In DSR: what moves packets must be able to wrap them. */
export function wrappedFindings(root: TomlNode): Finding[] {
  if (nodeAt(root, ['passthrough', 'io'])?.value !== 'pcap') return [];
  return tables(root, 'backends').flatMap(({ path, node }) => {
    const dsr = node.children.get('dsr');
    if (dsr === undefined || !WRAPPING.some((one) => one === dsr.value)) return [];
    const needed = 'needed: io = "ring", or dsr = "nat" or "l2"';
    return [error(dsr, [...path, 'dsr'], `${show(dsr.value)}: io = "pcap" cannot wrap packets; ${needed}`)];
  });
}
