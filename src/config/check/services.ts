/** What frontends of several protocols demand of a file: ports where there are any, and names that are nobody's. */
import { consistent, SCHEDULERS } from '../../balance/index.ts';
import { readAddress, readService } from '../address.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { ADDRESS, oneOf } from '../schema/key.ts';
import { isPingAlone, serviceName } from '../schema/services.ts';
import { error, type Finding, show, warning } from './finding.ts';
import { protocolsIn, type Table, tables } from './places.ts';

/** Missing and meaningless ports, and names that lb4 itself gives to a service of another. */
export function serviceFindings(root: TomlNode): Finding[] {
  const frontends = tables(root, 'frontends');
  const perPacket = frontends.flatMap((frontend) => [...idleKey(frontend), ...hashedDatagrams(root, frontend)]);
  return [...frontends.flatMap(portFindings), ...perPacket, ...takenNames(root, frontends)];
}

function portFindings(frontend: Table): Finding[] {
  const node = frontend.node.children.get('listen_addr');
  if (typeof node?.value !== 'string') return [];
  const [address, service] = [readAddress(node.value), readService(node.value)];
  const path = [...frontend.path, 'listen_addr'];
  if (isPingAlone(protocolsIn(frontend))) {
    if ('problem' in address) return [];
    return [error(node, path, `${show(node.value)} has a port, and protocol = "icmp" has none; needed: ${show(address.ip)}`)];
  }
  // What is no address at all is the schema's.
  return 'problem' in address && !('problem' in service)
    ? [error(node, path, `${show(node.value)} ${address.problem}; allowed: ${ADDRESS}`)]
    : [];
}

function idleKey(frontend: Table): Finding[] {
  const node = frontend.node.children.get('udp_per_packet');
  const protocols = protocolsIn(frontend);
  if (node?.value !== true || protocols.includes('udp')) return [];
  const message = `has no effect with protocol = ${protocols.map(show).join(' and ')}`;
  return [warning(node, [...frontend.path, 'udp_per_packet'], message)];
}

/** A hash of client and port is the same one for each datagram. */
function hashedDatagrams(root: TomlNode, frontend: Table): Finding[] {
  const node = frontend.node.children.get('udp_per_packet');
  const backend = frontend.node.children.get('backend')?.value;
  if (node?.value !== true || typeof backend !== 'string' || !protocolsIn(frontend).includes('udp')) return [];
  const balance = nodeAt(root, ['backends', backend, 'balance'])?.value;
  if (!SCHEDULERS.some((name) => name === balance && consistent.has(name))) return [];
  const needed = `needed in backend ${show(backend)}: balance = ${oneOf(SCHEDULERS.filter((name) => !consistent.has(name)))}, or none`;
  const message = `true: balance = ${show(balance)} has all datagrams of a client's port go to one server; ${needed}`;
  return [error(node, [...frontend.path, 'udp_per_packet'], message)];
}

function takenNames(root: TomlNode, frontends: readonly Table[]): Finding[] {
  const backends = tables(root, 'backends');
  const uses = frontends.map((table) => ({ name: table.node.children.get('backend')?.value, protocols: protocolsIn(table) }));
  return [
    ...taken(
      frontends,
      frontends.map((table) => ({ name: table.name, protocols: protocolsIn(table) })),
    ),
    ...taken(backends, uses),
  ];
}

function taken(named: readonly Table[], services: readonly { readonly name: unknown; readonly protocols: readonly string[] }[]): Finding[] {
  const given = new Map<string, string>();
  for (const { name, protocols } of services) {
    if (typeof name !== 'string') continue;
    for (const protocol of protocols) if (protocol !== 'tcp') given.set(serviceName(name, protocol), `${protocol} of ${show(name)}`);
  }
  return named.flatMap(({ name, node, path }) => {
    const service = given.get(name);
    if (service === undefined) return [];
    return [{ ...error(node, path, `this is what lb4 calls ${service}; needed: another name`), position: node.keyAt }];
  });
}
