/**
 * What direct server return demands of a file beyond the other modes. Like the other cross checks it reads the tree, not the
 * schema's result, so that its mistakes come together with all others and with their positions.
 */

import type { Dsr } from '../model.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { isPingAlone, PING } from '../schema/services.ts';
import { error, type Finding, show } from './finding.ts';
import { type FrontendPlace, frontendPlaces, type Place, serverPlaces } from './places.ts';
import { wrappedFindings } from './wrapped.ts';

/** With which servers have the frontends' addresses themselves. */
const HOLDING_VIP: ReadonlySet<unknown> = new Set(['l2', 'gue', 'ipip'] satisfies Dsr[]);

/** A frontend and the servers behind it. */
type FrontendTable = FrontendPlace & { readonly servers: readonly Place[] };

/** Ports that differ, and servers that could not tell which address to answer from. */
export function dsrFindings(root: TomlNode): Finding[] {
  const frontends = frontendsOf(root);
  return [...differentPorts(frontends), ...twoAddresses(root, frontends), ...pings(root, frontends), ...wrappedFindings(root)];
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
