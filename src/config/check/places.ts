/** Where a file has addresses. Read from the tree, not from the schema's result, so that one bad value does not hide the others. */
import { type Address, joinPort, readAddress, readService } from '../address.ts';
import { DSR, NAT } from '../model.ts';
import type { ForwardingKeys } from '../modes.ts';
import { nodeAt, plainValue, type TomlNode } from '../read/toml.ts';
import { STATS_PORT } from '../schema/file.ts';
import { statsAddress } from '../schema/origin.ts';
import { isPingAlone, protocolsOf, type ServiceProtocol } from '../schema/services.ts';
import { show } from './finding.ts';

export type Path = readonly string[];

/** A named table. */
export interface Table {
  readonly name: string;
  readonly path: Path;
  readonly node: TomlNode;
}

/** An address in the file, and what it belongs to. */
export interface Place {
  readonly name: string;
  /** `frontend "web"` */
  readonly owner: string;
  readonly address: Address;
  readonly node: TomlNode;
  readonly path: Path;
}

/** The named tables under a path. */
export function tables(root: TomlNode, ...path: string[]): Table[] {
  const parent = nodeAt(root, path);
  if (parent?.kind !== 'table') return [];
  return [...parent.children].map(([name, node]) => ({ name: String(name), path: [...path, String(name)], node }));
}

export interface FrontendPlace extends Place {
  readonly backend: unknown;
  readonly protocols: readonly ServiceProtocol[];
}

/** The good addresses among those that frontends listen on: without a port those of pings alone. */
export function frontendPlaces(root: TomlNode): FrontendPlace[] {
  return tables(root, 'frontends').flatMap((table) => {
    const protocols = protocolsIn(table);
    const read = isPingAlone(protocols) ? readService : readAddress;
    return place('frontend', table, 'listen_addr', read).map((listen) => {
      return { ...listen, backend: table.node.children.get('backend')?.value, protocols };
    });
  });
}

/** Of a frontend's table. */
export function protocolsIn({ node }: Table): readonly ServiceProtocol[] {
  return protocolsOf(node.children.get('protocol')?.value);
}

/** The good addresses among those of a backend's servers. */
export function serverPlaces(root: TomlNode, backend: string): Place[] {
  return tables(root, 'backends', backend, 'servers').flatMap((table) => place('server', table, 'addr'));
}

/** The statistics server's address, where the file gives it a good one; its node is the port's, or the table's without one. */
export function statsPlace(root: TomlNode): Place[] {
  const table = nodeAt(root, ['stats']);
  if (table?.kind !== 'table') return [];
  const ip = table.children.get('address');
  const port = table.children.get('port');
  const address = readAddress(joinPort(String(ip?.value ?? statsAddress(plainValue(root))), String(port?.value ?? STATS_PORT)));
  if ('problem' in address) return [];
  return [{ name: 'stats', owner: 'the statistics server', address, node: port ?? table, path: ['stats', 'port'] }];
}

/** The protocols of each backend that a frontend names. */
export function backendsIn(root: TomlNode): ReadonlyMap<string, readonly ServiceProtocol[]> {
  const found = new Map<string, readonly ServiceProtocol[]>();
  for (const table of tables(root, 'frontends')) {
    const backend = table.node.children.get('backend')?.value;
    if (typeof backend === 'string') found.set(backend, [...new Set([...(found.get(backend) ?? []), ...protocolsIn(table)])]);
  }
  return found;
}

/** What a backend's table says of how its packets are forwarded; what is no good value is as if it were not there. */
export function forwardingKeys({ children }: TomlNode): ForwardingKeys {
  const [dsr, nat] = [children.get('dsr')?.value, children.get('nat')?.value];
  return { dsr: DSR.find((one) => one === dsr) ?? 'nat', nat: NAT.find((one) => one === nat) };
}

function place(kind: string, { name, path, node: table }: Table, key: string, read = readAddress): Place[] {
  const node = table.children.get(key);
  if (typeof node?.value !== 'string') return [];
  const address = read(node.value);
  return 'problem' in address ? [] : [{ name, owner: `${kind} ${show(name)}`, address, node, path: [...path, key] }];
}
