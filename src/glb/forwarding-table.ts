/**
 * GLB's forwarding table in JSON (github/glb-director, docs/setup/forwarding-table-config.md), as operators and glb-healthcheck write it:
 * services, and the servers behind each.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { GLB_STATES, type GlbState } from '../balance/glb-table.ts';
import { type Mistake, quote } from '../errors.ts';
import { isFlag, isPort, isText, type Place, Reader } from './reader.ts';

/** Places that the director's binary table has for servers, and for addresses. */
export const MOST_BACKENDS = 256;
export const MOST_BINDS = 256;
/** Each has half a megabyte in the director's file; lb4 has no more frontends. */
const MOST_TABLES = 1024;

export interface ForwardingTable {
  readonly place: Place;
  readonly name: string | undefined;
  /** 32 hexadecimal digits each. */
  readonly hashKey: string;
  readonly seed: string;
  readonly binds: readonly Bind[];
  readonly backends: readonly TableBackend[];
}

/** Where clients connect. */
export interface Bind {
  readonly place: Place;
  readonly ip: string;
  readonly family: 4 | 6;
  /** That the addresses have in common. */
  readonly bits: number;
  readonly protocol: 'tcp' | 'udp';
  readonly firstPort: number;
  readonly lastPort: number;
}

/** A server. */
export interface TableBackend {
  readonly place: Place;
  /** IPv4. */
  readonly ip: string;
  readonly state: GlbState;
  /** Undefined: nobody says. */
  readonly healthy: boolean | undefined;
  /** How glb-healthcheck looks at it; undefined: not. */
  readonly checks:
    | { readonly http?: number | undefined; readonly httpUri?: string | undefined; readonly gue?: number | undefined }
    | undefined;
}

/** A file, and what is wrong with it; with an error in it the tables are not whole. */
export interface ForwardingTables {
  readonly tables: readonly ForwardingTable[];
  /** Of glb-healthcheck; undefined: its own. */
  readonly intervalMs: number | undefined;
  readonly timeoutMs: number | undefined;
  readonly trigger: number | undefined;
  readonly mistakes: readonly Mistake[];
}

const HEX = '32 hexadecimal digits';
const isKey = (value: unknown): value is string => isText(value) && /^[\da-f]{32}$/i.test(value);
const isProtocol = (value: unknown): value is Bind['protocol'] => value === 'tcp' || value === 'udp';
const isState = (value: unknown): value is GlbState => GLB_STATES.some((state) => state === value);
const isCount = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 1;
const PORT = 'a port, 1–65535';
const optional = { isNeeded: false };

/** @param file its name in messages */
export function readForwardingTables(text: string, file: string): ForwardingTables {
  const reader = new Reader(file);
  const root = reader.open(text);
  if (root === undefined) return { tables: [], intervalMs: undefined, timeoutMs: undefined, trigger: undefined, mistakes: reader.mistakes };
  reader.onlyThese(root, ['tables', 'interval_ms', 'timeout_ms', 'trigger']);
  const places = reader.elements(root, 'tables', 'an array of tables');
  tooMany(reader, places, MOST_TABLES, 'tables', 'file');
  const whole = {
    tables: places.slice(0, MOST_TABLES).map((place) => readTable(reader, place)),
    intervalMs: reader.read(root, 'interval_ms', 'milliseconds, 1 or more', isCount, optional),
    timeoutMs: reader.read(root, 'timeout_ms', 'milliseconds, 1 or more', isCount, optional),
    trigger: reader.read(root, 'trigger', 'a number of checks, 1 or more', isCount, optional),
  };
  return { ...whole, mistakes: reader.mistakes };
}

function readTable(reader: Reader, place: Place): ForwardingTable {
  reader.onlyThese(place, ['name', 'hash_key', 'seed', 'binds', 'backends']);
  const [binds, backends] = [
    reader.elements(place, 'binds', 'an array of addresses that clients connect to'),
    reader.elements(place, 'backends', 'an array of servers'),
  ];
  tooMany(reader, binds, MOST_BINDS, 'binds');
  tooMany(reader, backends, MOST_BACKENDS, 'backends');
  const table = {
    place,
    name: reader.read(place, 'name', 'a text', isText, optional),
    hashKey: reader.read(place, 'hash_key', HEX, isKey, { isSecret: true }) ?? '',
    seed: reader.read(place, 'seed', HEX, isKey, { isSecret: true }) ?? '',
    binds: binds.flatMap((bind) => readBind(reader, bind) ?? []),
    backends: backends.flatMap((backend) => readBackend(reader, backend) ?? []),
  };
  twice(reader, table.backends);
  oneAtATime(reader, table.backends);
  return table;
}

/**
 * Servers of a table that nobody says to be well or not: at the first of them, in one line.
 * @param what comes of it
 */
export function unknownHealth(backends: readonly TableBackend[], what: string): Mistake[] {
  const [first, ...more] = backends.filter(({ healthy, state }) => healthy === undefined && state !== 'inactive');
  if (first === undefined) return [];
  const others = more.length === 0 ? '' : `, as of ${more.length} more of this table`;
  const { file, node } = first.place;
  return [{ severity: 'warning', file, position: node.at, path: '', message: `healthy is missing${others}: ${what}` }];
}

function tooMany(reader: Reader, places: readonly Place[], most: number, what: string, whole = 'table'): void {
  const [first] = places.slice(most);
  if (first !== undefined) reader.error(first, `this is one too many: the ${whole} has ${places.length} ${what}; allowed: at most ${most}`);
}

function readBind(reader: Reader, place: Place): Bind | undefined {
  reader.onlyThese(place, ['ip', 'proto', 'port', 'port_start', 'port_end']);
  const protocol = reader.read(place, 'proto', '"tcp" or "udp"', isProtocol);
  const network = readNetwork(reader, place);
  const isRange = reader.member(place, 'port') === undefined && reader.member(place, 'port_start') !== undefined;
  const firstPort = reader.read(place, isRange ? 'port_start' : 'port', `${PORT}, or port_start and port_end`, isPort);
  const lastPort = isRange ? reader.read(place, 'port_end', PORT, isPort) : firstPort;
  if (protocol === undefined || network === undefined || firstPort === undefined || lastPort === undefined) return undefined;
  if (lastPort < firstPort) reader.error(place, `port_end ${lastPort} is below port_start ${firstPort}`);
  return { place, ...network, protocol, firstPort, lastPort };
}

function readNetwork(reader: Reader, place: Place): Pick<Bind, 'ip' | 'family' | 'bits'> | undefined {
  const allowed = 'an IPv4 or IPv6 address, or a network, "192.0.2.0/24"';
  const text = reader.read(place, 'ip', allowed, isText);
  if (text === undefined) return undefined;
  const [ip = '', length] = text.split('/', 2);
  const family = isIPv4(ip) ? 4 : isIPv6(ip) && !ip.includes('%') ? 6 : undefined;
  const most = family === 6 ? 128 : 32;
  const isLength = length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= most);
  if (family !== undefined && isLength && text.split('/').length <= 2) return { ip, family, bits: Number(length ?? most) };
  reader.error(reader.member(place, 'ip') ?? place, `${quote(text)} is no address; allowed: ${allowed}`);
  return undefined;
}

function readBackend(reader: Reader, place: Place): TableBackend | undefined {
  reader.onlyThese(place, ['ip', 'state', 'healthy', 'healthchecks']);
  // A hop of the tunnel's header is four bytes.
  const ip = reader.read(place, 'ip', 'an IPv4 address', (value): value is string => isText(value) && isIPv4(value));
  const state = reader.read(place, 'state', GLB_STATES.map((one) => JSON.stringify(one)).join(', '), isState);
  const healthy = reader.read(place, 'healthy', 'true or false', isFlag, optional);
  const checks = reader.member(place, 'healthchecks');
  if (ip === undefined || state === undefined) return undefined;
  return { place, ip, state, healthy, checks: checks && readChecks(reader, checks) };
}

function readChecks(reader: Reader, place: Place): TableBackend['checks'] {
  reader.onlyThese(place, ['http', 'http_uri', 'gue']);
  return {
    http: reader.read(place, 'http', PORT, isPort, optional),
    httpUri: reader.read(
      place,
      'http_uri',
      'a path, "/health"',
      (value): value is string => isText(value) && value.startsWith('/'),
      optional,
    ),
    gue: reader.read(place, 'gue', PORT, isPort, optional),
  };
}

function twice(reader: Reader, backends: readonly TableBackend[]): void {
  const known = new Map<string, TableBackend>();
  for (const backend of backends) {
    const first = known.get(backend.ip);
    if (first === undefined) known.set(backend.ip, backend);
    else reader.error(backend.place, `${backend.ip} stands twice in this table: line ${first.place.node.at.line} has it, too`);
  }
}

/** docs/development/glb-hashing.md: a row has two servers, so one alone may be on its way in or out. */
function oneAtATime(reader: Reader, backends: readonly TableBackend[]): void {
  const [first, second] = backends.filter(({ state }) => state !== 'active');
  if (first === undefined || second === undefined) return;
  const others = `${first.ip} is ${first.state}, line ${first.place.node.at.line}`;
  reader.warning(
    second.place,
    `${second.ip} is ${second.state} while ${others}: connections of rows that have both break; one server at a time`,
  );
}
