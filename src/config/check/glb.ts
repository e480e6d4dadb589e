/** What `balance = "glb"` demands beyond its schema: its keys, servers that a table can rank, and nothing that a table does not know. */
import { isPacketMode, isWrapped, type Mode } from '../modes.ts';
import type { TomlNode } from '../read/toml.ts';
import { error, type Finding, show, warning } from './finding.ts';
import { type Place, serverPlaces, type Table, tables } from './places.ts';

const GLB = 'glb';
/** Of backends; the first two must be there. */
const KEYS = ['hash_key', 'seed', 'hash_fields', 'alt_hash_fields', 'health_hold'] as const;
const NEEDED = KEYS.slice(0, 2);
/** Of servers. */
const STATE = 'state';
/** Places for servers in the table that GLB's own directors load. */
const MOST_SERVERS = 256;
/** What a table goes by no more than packets do, of servers and of backends, with the value that says nothing. */
const UNKNOWN_OF_SERVERS: Readonly<Record<string, unknown>> = { weight: 1, maxconn: 0, backup: false };
const UNKNOWN_OF_BACKENDS: Readonly<Record<string, unknown>> = { affinity: 0, slow_start: 0 };
/** Where servers are that are not known before lb4 runs. */
const FINDERS = ['srv', 'exec'];

/** @param mode undefined: whichever */
export function glbFindings(root: TomlNode, mode: Mode | undefined): Finding[] {
  return tables(root, 'backends').flatMap((backend) => {
    const balance = backend.node.children.get('balance');
    if (balance?.value !== GLB) return idleKeys(root, backend);
    const servers = tables(root, ...backend.path, 'servers');
    const places = serverPlaces(root, backend.name);
    return [
      ...(mode !== undefined && !isPacketMode(mode)
        ? [error(balance, [...backend.path, 'balance'], '"glb" is for packets; needed: --passthrough or --dsr, or another balance')]
        : []),
      ...missing(backend),
      ...unknown(backend, UNKNOWN_OF_BACKENDS),
      ...unlisted(backend, mode),
      ...servers.flatMap((server) => [...unknown(server, UNKNOWN_OF_SERVERS), ...found(server, places)]),
      ...tooMany(servers),
      ...sameHost(places),
      ...notActive(servers),
    ];
  });
}

function idleKeys(root: TomlNode, { path, node }: Table): Finding[] {
  const message = 'has no effect without balance = "glb"';
  const own = KEYS.flatMap((key) => warningAt(node, path, key, message));
  // Active is what a server is anyway.
  const servers = tables(root, ...path, 'servers').filter(({ node: { children } }) => children.get(STATE)?.value !== 'active');
  return [...own, ...servers.flatMap((server) => warningAt(server.node, server.path, STATE, message))];
}

function warningAt({ children }: TomlNode, path: readonly string[], key: string, message: string): Finding[] {
  const node = children.get(key);
  return node === undefined ? [] : [warning(node, [...path, key], message)];
}

function missing({ node, path }: Table): Finding[] {
  return NEEDED.filter((key) => !node.children.has(key)).map((key) => {
    return error(node, [...path, key], 'missing; needed with balance = "glb": 32 hexadecimal digits, the same on all balancers');
  });
}

function unknown({ node, path }: Table, keys: Readonly<Record<string, unknown>>): Finding[] {
  return Object.entries(keys).flatMap(([key, nothing]): Finding[] => {
    const given = node.children.get(key);
    if (given === undefined || given.value === nothing) return [];
    return [
      error(given, [...path, key], `with balance = "glb" rows alone say where packets go; allowed: ${show(nothing)}, or no such key`),
    ];
  });
}

/** Hops to try after the first one go along in GUE alone. */
function unlisted({ node, path }: Table, mode: Mode | undefined): Finding[] {
  const dsr = 'gue';
  if (node.children.get('dsr')?.value === dsr && (mode === undefined || isWrapped(mode, { dsr }))) return [];
  return warningAt(node, path, 'alt_hash_fields', 'has no effect but with --dsr and dsr = "gue": other packets have no list of servers');
}

/** A rank is an address's, and must be there before the first packet. */
function found({ node, path }: Table, places: readonly Place[]): Finding[] {
  const finder = FINDERS.find((key) => node.children.has(key)) ?? 'addr';
  const given = node.children.get(finder);
  const isAddress = places.some((place) => place.path.slice(0, -1).join() === path.join() && place.address.family === 4);
  if (given === undefined || isAddress || typeof given.value === 'object') return [];
  return [
    error(given, [...path, finder], 'with balance = "glb" servers are ranked by their addresses; needed: addr = "192.0.2.7:80", IPv4'),
  ];
}

function tooMany(servers: readonly Table[]): Finding[] {
  const [first] = servers.slice(MOST_SERVERS);
  if (first === undefined) return [];
  return [error(first.node, first.path, `this is one too many: a table of GLB's has ${MOST_SERVERS} servers at most`)];
}

function sameHost(places: readonly Place[]): Finding[] {
  const first = new Map<string, Place>();
  return places.flatMap((place) => {
    const known = first.get(place.address.ip);
    if (known === undefined) first.set(place.address.ip, place);
    if (known === undefined || known.address.text === place.address.text) return [];
    const why = `${show(place.address.ip)} is ranked already, as ${known.owner}, line ${known.node.at.line}`;
    return [error(place.node, place.path, `${why}; needed with balance = "glb": an address of its own`)];
  });
}

/** A row has two servers: with both on their way in or out, nobody knows its connections. */
function notActive(servers: readonly Table[]): Finding[] {
  const others = servers.filter(({ node }) => !['active', undefined].includes(node.children.get(STATE)?.value as string | undefined));
  const [first, second] = others;
  const node = second?.node.children.get(STATE);
  if (first === undefined || second === undefined || node === undefined) return [];
  const message = `server ${show(first.name)} is not active either, line ${first.node.at.line}: connections of rows that have both break; one server at a time`;
  return [warning(node, [...second.path, STATE], message)];
}
