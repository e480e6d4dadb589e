/** What `src_ip_rewrite` demands beyond its schema: servers that see clients, networks of one length, and none that has addresses of lb4's own file. */
import { meets, type Network, readNetwork } from '../address.ts';
import type { Mode } from '../modes.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { error, type Finding, show } from './finding.ts';
import { frontendPlaces, type Path, type Place, serverPlaces, tables } from './places.ts';

const KEY = 'src_ip_rewrite';

/** @param mode between interfaces servers see clients, whatever the file says of nat */
export function rewriteFindings(root: TomlNode, mode: Mode | undefined): Finding[] {
  return tables(root, 'backends').flatMap(({ name, path, node }) => {
    const here = [...path, KEY];
    const table = nodeAt(root, here);
    if (table?.kind !== 'table') return [];
    const nat = node.children.get('nat')?.value;
    if (nat !== 'destination' && mode !== 'inline')
      return [error(table, here, 'servers see an address of this host; needed: nat = "destination"')];
    return ofNetworks(root, table, here, name);
  });
}

function ofNetworks(root: TomlNode, table: TomlNode, path: Path, backend: string): Finding[] {
  const [clients, as] = [networkAt(table, 'clients'), networkAt(table, 'as')];
  const node = table.children.get('as');
  if (clients === undefined || as === undefined || node === undefined) return [];
  const here = [...path, 'as'];
  if (clients.bits !== as.bits) return [error(node, here, `has another length than clients; needed: /${clients.bits}`)];
  if (meets(clients, as)) return [error(node, here, 'is the network of the clients; needed: another one')];
  const taken = [...frontendPlaces(root), ...serverPlaces(root, backend)].find((place) => isIn(place, as));
  if (taken === undefined) return [];
  return [
    error(node, here, `${show(node.value)} has the address of ${taken.owner}, line ${taken.node.at.line}; needed: a network of nobody's`),
  ];
}

function networkAt({ children }: TomlNode, key: string): Network | undefined {
  const value = children.get(key)?.value;
  const network = typeof value === 'string' ? readNetwork(value) : undefined;
  return network === undefined || 'problem' in network ? undefined : network;
}

function isIn({ address }: Place, network: Network): boolean {
  return address.family === 4 && meets({ first: address.ipNumber, bits: 32 }, network);
}
