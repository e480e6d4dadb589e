/** What `dsr = "gue"` and `"ipip"`, which wrap packets, demand of a file beyond its schema. */
import type { Dsr, HealthCheckType } from '../model.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { error, type Finding, show, warning } from './finding.ts';
import { typesOf } from './health.ts';
import { backendsIn, tables } from './places.ts';

/** The keys that are for wrapped packets alone, and with which `dsr`. */
const OWN_KEYS: Readonly<Record<string, readonly Dsr[]>> = { gue_port: ['gue'], source_addr: ['gue', 'ipip'] };
const WRAPPING = OWN_KEYS.source_addr;
/** Checks that know no tunnel. What a command asks is its own; `none` is meant so. */
const PAST_TUNNEL: readonly HealthCheckType[] = ['tcp', 'http', 'udp'];

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

/** In DSR: what moves packets must be able to wrap them, and who unwraps none should not pass for well. */
export function wrappedFindings(root: TomlNode): Finding[] {
  return [...cannotWrap(root), ...askedPastTunnel(root)];
}

function askedPastTunnel(root: TomlNode): Finding[] {
  const used = backendsIn(root);
  return tables(root, 'backends').flatMap(({ path, name, node }) => {
    const dsr = node.children.get('dsr');
    if (dsr === undefined || !WRAPPING.some((one) => one === dsr.value)) return [];
    const types = typesOf(node, used.get(name) ?? []);
    if (types.length === 0 || !types.every((type) => PAST_TUNNEL.includes(type))) return [];
    const wanted = `health_check = [${[dsr.value, ...types].map(show).join(', ')}]`;
    const message = `servers are asked past their tunnel: one that unwraps nothing passes, and its clients get nothing; better: ${wanted}`;
    return [warning(node.children.get('health_check') ?? dsr, [...path, 'health_check'], message)];
  });
}

function cannotWrap(root: TomlNode): Finding[] {
  if (nodeAt(root, ['passthrough', 'io'])?.value !== 'pcap') return [];
  return tables(root, 'backends').flatMap(({ path, node }) => {
    const dsr = node.children.get('dsr');
    if (dsr === undefined || !WRAPPING.some((one) => one === dsr.value)) return [];
    const needed = 'needed: io = "ring", or dsr = "nat" or "l2"';
    return [error(dsr, [...path, 'dsr'], `${show(dsr.value)}: io = "pcap" cannot wrap packets; ${needed}`)];
  });
}
