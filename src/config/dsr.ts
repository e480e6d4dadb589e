/**
 * What direct server return demands of a file beyond the other modes. Like the other cross checks it reads the tree, not the
 * schema's result, so that its mistakes come together with all others and with their positions.
 */
import { type Address, readAddress } from './address.ts';
import { error, tables } from './cross.ts';
import { type Finding, show } from './mistakes.ts';
import type { TomlNode } from './toml.ts';

type Path = readonly string[];

/** An address of the file: of a frontend or a server. */
interface Place {
  readonly name: string;
  readonly address: Address;
  readonly node: TomlNode;
  readonly path: Path;
}

interface Frontend extends Place {
  readonly backend: unknown;
}

/** Ports that differ, addresses that nobody can answer from, and servers that could not tell which address to answer from. */
export function dsrFindings(root: TomlNode): Finding[] {
  const frontends = tables(root, 'frontends').flatMap(({ name, path, node }): Frontend[] => {
    return place(name, node, [...path, 'listen_addr']).map((listen) => ({ ...listen, backend: node.children.get('backend')?.value }));
  });
  return [...anyAddress(frontends), ...differentPorts(root, frontends), ...twoAddresses(root, frontends)];
}

function place(name: string, table: TomlNode, path: Path): Place[] {
  const node = table.children.get(path[path.length - 1] ?? '');
  if (typeof node?.value !== 'string') return [];
  const address = readAddress(node.value);
  return 'problem' in address ? [] : [{ name, address, node, path }];
}

function serversOf(root: TomlNode, backend: unknown): Place[] {
  const servers = typeof backend === 'string' ? tables(root, 'backends', backend, 'servers') : [];
  return servers.flatMap(({ name, path, node }) => place(name, node, [...path, 'addr']));
}

function anyAddress(frontends: readonly Frontend[]): Finding[] {
  const found = frontends.filter(({ address }) => address.ipNumber === 0);
  return found.map(({ address, node, path }) => {
    return error(node, path, `${show(address.text)} is no address that servers could answer from; needed in DSR: one of this host's`);
  });
}

function differentPorts(root: TomlNode, frontends: readonly Frontend[]): Finding[] {
  return frontends.flatMap((frontend) => {
    const differing = serversOf(root, frontend.backend).filter(({ address }) => address.port !== frontend.address.port);
    return differing.map(({ address, node, path }) => {
      const wanted = `needed in DSR: port ${frontend.address.port}, as frontend ${show(frontend.name)}, line ${frontend.node.at.line}, has`;
      return error(node, path, `${show(address.text)} has another port than its frontend; ${wanted}`);
    });
  });
}

/** With `dsr = "nat"` a server sees its own address only: one port of it can answer from one address. */
function twoAddresses(root: TomlNode, frontends: readonly Frontend[]): Finding[] {
  const natted = frontends.filter(({ backend }) => isNat(root, backend));
  const answersFor = new Map<string, Frontend>();
  return natted.flatMap((frontend) => {
    const clash = serversOf(root, frontend.backend).find(({ address }) => {
      const known = answersFor.get(address.text) ?? frontend;
      answersFor.set(address.text, known);
      return known.address.ipNumber !== frontend.address.ipNumber;
    });
    if (clash === undefined) return [];
    const first = answersFor.get(clash.address.text) as Frontend;
    const why = `server ${show(clash.address.text)} answers from frontend ${show(first.name)}'s address already, line ${first.node.at.line}`;
    return [error(frontend.node, frontend.path, `${why}; needed in DSR: another server address or port, or dsr = "l2"`)];
  });
}

function isNat(root: TomlNode, backend: unknown): boolean {
  const table = tables(root, 'backends').find(({ name }) => name === backend);
  return table !== undefined && table.node.children.get('dsr')?.value !== 'l2';
}
