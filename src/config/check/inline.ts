/** What `--inline` demands of a file: interfaces that differ, one worker, and nothing that this mode has not. */
import { MODES, type Mode } from '../modes.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { error, type Finding, show } from './finding.ts';
import { tables } from './places.ts';

const [INLINE, PASSTHROUGH] = ['inline', 'passthrough'];
const FRONTENDS = [INLINE, 'frontends'];
const BACKEND = [INLINE, 'backend'];

/** An interface of clients, by its name. */
interface Port {
  readonly name: unknown;
  readonly node: TomlNode;
  readonly path: readonly string[];
}

/** Of any mode: interfaces that are named twice, and clients that are behind two. */
export function inlineFindings(root: TomlNode, mode: Mode | undefined): Finding[] {
  const ports = portsIn(root);
  return [...twice(root, ports), ...sharedClients(root), ...(mode !== undefined && !MODES[mode].ownsAddresses ? demands(root) : [])];
}

function demands(root: TomlNode): Finding[] {
  const table = nodeAt(root, [INLINE]);
  const missing = 'missing; needed with --inline: a table, [inline], with the interfaces frontends = ["eth0"] and backend = "eth1"';
  return [
    ...(table === undefined ? [error(root, [INLINE], missing)] : []),
    ...notWith(
      root,
      [PASSTHROUGH, 'workers'],
      (value) => typeof value === 'number' && value > 1,
      'forwards with one worker; allowed: 0 or 1',
    ),
    ...notWith(root, [PASSTHROUGH, 'cpus'], (value) => /[-,]/.test(String(value)), 'forwards with one worker; allowed: one processor'),
    ...notWith(root, [PASSTHROUGH, 'io'], (value) => value === 'pcap', 'has no libpcap; allowed: "ring"'),
    ...tables(root, 'backends').flatMap(({ path }) =>
      notWith(root, [...path, 'nat'], (value) => value === 'full', 'keeps the client\'s address; allowed: "destination"'),
    ),
  ];
}

function notWith(root: TomlNode, path: readonly string[], isWrong: (value: unknown) => boolean, what: string): Finding[] {
  const node = nodeAt(root, path);
  return node === undefined || !isWrong(node.value) ? [] : [error(node, path, `${show(node.value)}: --inline ${what}`)];
}

/** Where frontends is a list its elements are named, where it is a table its keys. */
function portsIn(root: TomlNode): Port[] {
  const frontends = nodeAt(root, FRONTENDS);
  return [...(frontends?.children ?? [])].map(([key, node]) => {
    const path = [...FRONTENDS, String(key)];
    return { name: frontends?.kind === 'array' ? node.value : key, node, path };
  });
}

function twice(root: TomlNode, ports: readonly Port[]): Finding[] {
  const backend = nodeAt(root, BACKEND);
  const seen = new Set<unknown>(backend === undefined ? [] : [backend.value]);
  const found = ports.flatMap(({ name, node, path }) => {
    if (!seen.has(name)) {
      seen.add(name);
      return [];
    }
    return [error(node, path, `${show(name)} is named twice; needed: an interface of its own for each side`)];
  });
  const frontends = nodeAt(root, FRONTENDS);
  const empty = frontends?.kind === 'table' && ports.length === 0;
  return empty ? [error(frontends, FRONTENDS, 'empty; needed: at least one interface, [inline.frontends.NAME]'), ...found] : found;
}

function sharedClients(root: TomlNode): Finding[] {
  const owners = new Map<unknown, string>();
  return tables(root, ...FRONTENDS).flatMap(({ name, path, node }) => {
    const address = node.children.get('address');
    const all = address === undefined ? [] : address.kind === 'array' ? [...address.children.values()] : [address];
    return all.flatMap((one) => {
      const owner = owners.get(one.value) ?? name;
      owners.set(one.value, owner);
      if (owner === name) return [];
      return [error(one, [...path, 'address'], `${show(one.value)} is behind ${show(owner)} already; needed: each behind one interface`)];
    });
  });
}
