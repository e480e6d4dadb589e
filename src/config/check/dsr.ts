/**
 * What direct server return demands of a file beyond the other modes. Like the other cross checks it reads the tree, not the
 * schema's result, so that its mistakes come together with all others and with their positions.
 */

import type { Dsr, HealthCheckType } from '../model.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { isPingAlone, PING } from '../schema/services.ts';
import { error, type Finding, show } from './finding.ts';
import { typesOf } from './health.ts';
import { type FrontendPlace, frontendPlaces, type Place, serverPlaces } from './places.ts';
import { wrappedFindings } from './wrapped.ts';

/** With which servers have the frontends' addresses themselves. */
const HOLDING_VIP: ReadonlySet<unknown> = new Set(['l2', 'gue', 'ipip'] satisfies Dsr[]);

/** That connect from the frontend's address, where servers do not hold it. */
const FROM_VIP: ReadonlySet<HealthCheckType> = new Set(['tcp', 'http', 'udp']);

/** A frontend and the servers behind it. */
type FrontendTable = FrontendPlace & { readonly servers: readonly Place[] };

/** Ports that differ, servers that could not tell which address to answer from, and such as nobody could check. */
export function dsrFindings(root: TomlNode): Finding[] {
  const frontends = frontendsOf(root);
  return [
    ...differentPorts(frontends),
    ...twoAddresses(root, frontends),
    ...deafToChecks(root, frontends),
    ...pings(root, frontends),
    ...wrappedFindings(root),
  ];
}

/** IPv6 is a mistake of its own in the packet modes: one is enough. */
function isIpv4({ address }: Place): boolean {
  return address.family === 4;
}

/** The servers of a backend are read once, however many frontends share it: a thousand times four thousand would take seconds. */
function frontendsOf(root: TomlNode): FrontendTable[] {
  const servers = new Map<unknown, readonly Place[]>();
  return frontendPlaces(root)
    .filter(isIpv4)
    .map((frontend) => {
      const { backend } = frontend;
      const known = servers.get(backend) ?? (typeof backend === 'string' ? serverPlaces(root, backend).filter(isIpv4) : []);
      servers.set(backend, known);
      return { ...frontend, servers: known };
    });
}

function differentPorts(frontends: readonly FrontendTable[]): Finding[] {
  return frontends.flatMap((frontend) => {
    if (isPingAlone(frontend.protocols)) return [];
    const differing = frontend.servers.filter(({ address }) => address.port !== frontend.address.port);
    return differing.map(({ address, node, path }) => {
      const wanted = `needed in DSR: port ${frontend.address.port}, as frontend ${show(frontend.name)}, line ${frontend.node.at.line}, has`;
      return error(node, path, `${show(address.text)} has another port than its frontend; ${wanted}`);
    });
  });
}

/** With `dsr = "nat"` a server sees its own address only: one port of it can answer from one address. */
function twoAddresses(root: TomlNode, frontends: readonly FrontendTable[]): Finding[] {
  const natted = frontends.filter(({ backend }) => isNat(root, backend)).flatMap(byProtocol);
  const answersFor = new Map<string, FrontendTable>();
  return natted.flatMap((frontend) => {
    const endpoint = ({ address }: Place) => `${address.text}/${frontend.protocol}`;
    const clash = frontend.servers.find((server) => {
      const known = answersFor.get(endpoint(server)) ?? frontend;
      answersFor.set(endpoint(server), known);
      return known.address.ip !== frontend.address.ip;
    });
    if (clash === undefined) return [];
    const first = answersFor.get(endpoint(clash)) as FrontendTable;
    const why = `server ${show(clash.address.text)} answers from frontend ${show(first.name)}'s address already, line ${first.node.at.line}`;
    return [error(frontend.node, frontend.path, `${why}; needed in DSR: another server address or port, or dsr = "l2"`)];
  });
}

/** With `dsr = "nat"` checks come from the frontend's address: a server that holds it as well, for another frontend, would answer them to itself. */
function deafToChecks(root: TomlNode, frontends: readonly FrontendTable[]): Finding[] {
  const holders = holdersIn(root, frontends);
  return frontends.flatMap(({ name, address: { ip }, backend, protocols, servers, node, path }) => {
    const held = holders.get(ip);
    const table = nodeAt(root, ['backends', String(backend)]);
    if (held === undefined || table === undefined || !isNat(root, backend)) return [];
    const server = servers.find(({ address }) => held.has(address.ip));
    const holder = held.get(server?.address.ip ?? '');
    if (server === undefined || holder === undefined || !typesOf(table, protocols).some((type) => FROM_VIP.has(type))) return [];
    const why = `its checks come from ${ip}, which server ${show(server.address.text)} holds for frontend ${show(holder.name)}, line ${holder.node.at.line}, and would answer to itself`;
    const needed = `needed: another address in one of the frontends, the same dsr in both backends, or health_check = "exec" in that of ${show(name)}`;
    return [error(node, path, `${why}; ${needed}`)];
  });
}

/** By address of a frontend: which servers hold it, by theirs, and for which frontend. */
function holdersIn(root: TomlNode, frontends: readonly FrontendTable[]): ReadonlyMap<string, ReadonlyMap<string, FrontendTable>> {
  const found = new Map<string, Map<string, FrontendTable>>();
  const seen = new Set<string>();
  for (const frontend of frontends) {
    const { address, backend, servers } = frontend;
    const key = `${address.ip} ${String(backend)}`;
    if (seen.has(key) || isNat(root, backend)) continue;
    seen.add(key);
    const held = found.get(address.ip) ?? new Map<string, FrontendTable>();
    for (const server of servers) held.set(server.address.ip, held.get(server.address.ip) ?? frontend);
    found.set(address.ip, held);
  }
  return found;
}

function byProtocol(frontend: FrontendTable) {
  return frontend.protocols.filter((protocol) => protocol !== PING).map((protocol) => ({ ...frontend, protocol }));
}

/** Servers could not tell pings of a frontend's address, which they answer from it, from pings of their own. */
function pings(root: TomlNode, frontends: readonly FrontendTable[]): Finding[] {
  return frontends.flatMap(({ name, backend, protocols }) => {
    const path = ['frontends', name, 'protocol'];
    const node = nodeAt(root, path);
    if (!isPingAlone(protocols) || node === undefined || !isNat(root, backend)) return [];
    return [
      error(node, path, `${show(node.value)}: in DSR servers cannot tell which address was pinged; needed: dsr = "l2", or passthrough`),
    ];
  });
}

function isNat(root: TomlNode, backend: unknown): boolean {
  const node = typeof backend === 'string' ? nodeAt(root, ['backends', backend]) : undefined;
  return node !== undefined && !HOLDING_VIP.has(node.children.get('dsr')?.value);
}
