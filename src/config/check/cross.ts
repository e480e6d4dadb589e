/**
 * Mistakes that no single key shows: references to nothing, addresses used twice, too many of something. They are sought in
 * the tree as it was read, not in the schema's result, so that one bad value elsewhere does not hide them.
 */

import { LIMITS } from '../../layout/limits.ts';
import { didYouMean } from '../../suggest.ts';
import { fansOut, type Mode } from '../modes.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { isPingAlone, PING } from '../schema/services.ts';
import { clashes } from './clashes.ts';
import { fanOutFindings, needsFrontends } from './fan-out.ts';
import { error, type Finding, show } from './finding.ts';
import { glbFindings } from './glb.ts';
import { healthFindings } from './health.ts';
import { backendsIn, frontendPlaces, protocolsIn, serverPlaces, statsPlace, type Table, tables } from './places.ts';
import { rewriteFindings } from './rewrite.ts';
import { serviceFindings } from './services.ts';
import { templateFindings } from './templates.ts';
import { workerFindings } from './workers.ts';
import { tunnelKeyFindings } from './wrapped.ts';

/** Everything that is wrong or doubtful between the keys of a file. */
export function crossFindings(root: TomlNode, mode: Mode | undefined): Finding[] {
  const forwarding = fansOut(mode) ? undefined : mode;
  return [
    ...(needsFrontends(root, mode) ? noFrontends(root) : []),
    ...fanOutFindings(root, mode),
    ...missingBackends(root),
    ...sharedListeners(root),
    ...sharedServers(root),
    ...tooMany(root),
    ...idleBackends(root),
    ...healthFindings(root),
    ...glbFindings(root, forwarding),
    ...workerFindings(root),
    ...serviceFindings(root),
    ...rewriteFindings(root, forwarding),
    ...tunnelKeyFindings(root),
    ...templateFindings(root),
  ];
}

function noFrontends(root: TomlNode): Finding[] {
  const node = nodeAt(root, ['frontends']);
  const missing = ['frontends', 'backends'].filter((name) => nodeAt(root, [name]) === undefined);
  const alone = nodeAt(root, ['fan_out']) === undefined ? '' : '; [fan_out] is for --fan-out';
  if (missing.length > 0)
    return missing.map((name) => error(root, [name], `missing; needed: tables, [${name}.NAME], at least one${alone}`));
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

function sharedListeners(root: TomlNode): Finding[] {
  // Of `all` the first protocol that is taken says it for both; pings of an address are the first one's, without a word.
  const claims = frontendPlaces(root).flatMap(({ protocols, ...place }) => {
    return protocols.filter((one) => one !== PING || isPingAlone(protocols)).map((protocol) => ({ ...place, protocol }));
  });
  const told = new Set<unknown>();
  const found = clashes([...claims, ...statsPlace(root).map((place) => ({ ...place, protocol: 'tcp' }))]);
  return found.filter(({ position }) => !told.has(position) && told.add(position));
}

function sharedServers(root: TomlNode): Finding[] {
  return tables(root, 'backends').flatMap(({ name }) => clashes(serverPlaces(root, name)));
}

function tooMany(root: TomlNode): Finding[] {
  // One a protocol.
  const frontends = tables(root, 'frontends').flatMap((table) => protocolsIn(table).map(() => table));
  const used = backendsIn(root);
  const backends = tables(root, 'backends').flatMap((table) => Array.from({ length: used.get(table.name)?.length ?? 1 }, () => table));
  const servers = backends.flatMap(({ path }) => tables(root, ...path, 'servers'));
  return [...above(frontends, 'frontends'), ...above(backends, 'backends'), ...above(servers, 'servers')];
}

function above(found: readonly Table[], what: keyof typeof LIMITS): Finding[] {
  const limit = LIMITS[what];
  if (found.length <= limit) return [];
  const { node, path } = found[limit];
  const each = new Set(found.map((table) => table.node)).size < found.length ? ', each protocol counted' : '';
  return [error(node, path, `this is one too many: the file has ${found.length} ${what}${each}; allowed: at most ${limit}`)];
}

/** Backends that do nothing, or not what was meant: probably a forgotten line, so a warning. */
function idleBackends(root: TomlNode): Finding[] {
  const used = new Set(tables(root, 'frontends').map(({ node }) => node.children.get('backend')?.value));
  return tables(root, 'backends').flatMap(({ name, path, node }) => {
    if (node.kind !== 'table') return [];
    const doubts = used.has(name) ? [] : ['no frontend uses this backend'];
    const servers = tables(root, ...path, 'servers');
    if (servers.length === 0) doubts.push('has no servers: every connection will be refused');
    else if (servers.every(isBackup)) doubts.push('all its servers are backups: they are used as if none were');
    return doubts.map((message): Finding => ({ severity: 'warning', path, position: node.at, message }));
  });
}

function isBackup({ node }: Table): boolean {
  return node.children.get('backup')?.value === true;
}
