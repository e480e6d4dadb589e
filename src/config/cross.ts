/**
 * Mistakes that no single key shows: references to nothing, addresses used twice, too many of something. They are sought in
 * the tree as it was read, not in the schema's result, so that one bad value elsewhere does not hide them.
 */
import { type Address, readAddress, readPort } from './address.ts';
import { type Finding, show } from './mistakes.ts';
import { LIMITS } from './schema.ts';
import { didYouMean } from './suggest.ts';
import { nodeAt, type TomlNode } from './toml.ts';

type Path = readonly string[];

/** Everything that is wrong or doubtful between the keys of a file. */
export function crossFindings(root: TomlNode): Finding[] {
  return [
    ...noFrontends(root),
    ...missingBackends(root),
    ...sharedListeners(root),
    ...sharedServers(root),
    ...tooMany(root),
    ...idleBackends(root),
  ];
}

/** The named tables under a path, with their paths. */
export function tables(root: TomlNode, ...path: string[]): { name: string; path: Path; node: TomlNode }[] {
  const parent = nodeAt(root, path);
  if (parent?.kind !== 'table') return [];
  return [...parent.children].map(([name, node]) => ({ name: String(name), path: [...path, String(name)], node }));
}

export function error(node: TomlNode, path: Path, message: string): Finding {
  return { severity: 'error', path, position: node.at, message };
}

function noFrontends(root: TomlNode): Finding[] {
  const node = nodeAt(root, ['frontends']);
  if (node?.kind !== 'table' || node.children.size > 0) return [];
  return [error(node, ['frontends'], 'empty; needed: at least one table, [frontends.NAME]')];
}

function missingBackends(root: TomlNode): Finding[] {
  const names = tables(root, 'backends').map(({ name }) => name);
  if (nodeAt(root, ['backends'])?.kind !== 'table') return [];
  return tables(root, 'frontends').flatMap(({ path, node }) => {
    const backend = node.children.get('backend');
    if (typeof backend?.value !== 'string' || names.includes(backend.value)) return [];
    const message = `there is no backend ${show(backend.value)}; allowed: ${list(names)}${didYouMean(backend.value, names)}`;
    return [error(backend, [...path, 'backend'], message)];
  });
}

/** The first ten names, and how many more there are. */
function list(names: readonly string[]): string {
  if (names.length === 0) return 'none, since the file has no backend';
  const shown = names.slice(0, 10).map((name) => JSON.stringify(name));
  return shown.join(', ') + (names.length > 10 ? ` and ${names.length - 10} more` : '');
}

/** An address in the file, and what it belongs to. */
interface Holder {
  readonly owner: string;
  readonly address: Address;
  readonly node: TomlNode;
  readonly path: Path;
}

function sharedListeners(root: TomlNode): Finding[] {
  const frontends = tables(root, 'frontends').flatMap(({ name, path, node }) => {
    return holder(`frontend ${show(name)}`, node, [...path, 'listen_addr']);
  });
  return clashes([...frontends, ...statsHolder(root)]);
}

function sharedServers(root: TomlNode): Finding[] {
  return tables(root, 'backends').flatMap(({ path }) => {
    const servers = tables(root, ...path, 'servers');
    return clashes(servers.flatMap(({ name, path: where, node }) => holder(`server ${show(name)}`, node, [...where, 'addr'])));
  });
}

function holder(owner: string, table: TomlNode, path: Path): Holder[] {
  const node = table.children.get(path[path.length - 1]);
  if (typeof node?.value !== 'string') return [];
  const address = readAddress(node.value);
  return 'problem' in address ? [] : [{ owner, address, node, path }];
}

/** The statistics server's address, where the file gives it a good port. */
function statsHolder(root: TomlNode): Holder[] {
  const table = nodeAt(root, ['stats']);
  if (table?.kind !== 'table') return [];
  const node = table.children.get('port') ?? table;
  const port = readPort(String(node === table ? '7000' : node.value));
  const ip = table.children.get('address')?.value ?? '0.0.0.0';
  const address = readAddress(`${ip}:${typeof port === 'number' ? port : ''}`);
  return 'problem' in address ? [] : [{ owner: 'the statistics server', address, node, path: ['stats', 'port'] }];
}

/** One finding for each address that an earlier one already covers; 0.0.0.0 covers every address. */
function clashes(holders: readonly Holder[]): Finding[] {
  const byPort = new Map<number, Holder[]>();
  return holders.flatMap((late) => {
    const { port } = late.address;
    const earlier = byPort.get(port) ?? [];
    const taken = earlier.find((early) => overlap(early.address, late.address));
    earlier.push(late);
    byPort.set(port, earlier);
    if (taken === undefined) return [];
    return [error(late.node, late.path, `${show(late.address.text)} is taken by ${taken.owner}, line ${taken.node.at.line}`)];
  });
}

function overlap(a: Address, b: Address): boolean {
  return a.ipNumber === b.ipNumber || a.ipNumber === 0 || b.ipNumber === 0;
}

function tooMany(root: TomlNode): Finding[] {
  const frontends = tables(root, 'frontends');
  const servers = tables(root, 'backends').flatMap(({ path }) => tables(root, ...path, 'servers'));
  return [...above(frontends, LIMITS.frontends, 'frontends'), ...above(servers, LIMITS.servers, 'servers')];
}

function above(found: readonly { path: Path; node: TomlNode }[], limit: number, what: string): Finding[] {
  if (found.length <= limit) return [];
  const { node, path } = found[limit];
  return [error(node, path, `this is one too many: the file has ${found.length} ${what}; allowed: at most ${limit}`)];
}

/** Backends that do nothing: probably a forgotten line, so a warning. */
function idleBackends(root: TomlNode): Finding[] {
  const used = new Set(tables(root, 'frontends').map(({ node }) => node.children.get('backend')?.value));
  return tables(root, 'backends').flatMap(({ name, path, node }) => {
    if (node.kind !== 'table') return [];
    const doubt = (message: string): Finding => ({ severity: 'warning', path, position: node.at, message });
    const unused = used.has(name) ? [] : [doubt('no frontend uses this backend')];
    const hasServers = tables(root, ...path, 'servers').length > 0;
    return hasServers ? unused : [...unused, doubt('has no servers: every connection will be refused')];
  });
}
