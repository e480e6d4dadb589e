/** What is wrong between the keys of [fan_out], and what `--fan-out` demands of a file. */
import { isAny } from '../address.ts';
import { fansOut, type Mode } from '../modes.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { listenProblemOf, listensAt, MOST_PROCESSES } from '../schema/fan-out.ts';
import { clashes } from './clashes.ts';
import { error, type Finding, show, warning } from './finding.ts';
import { type Place, statsPlace, type Table, tables } from './places.ts';

const TABLE = 'fan_out';

export function fanOutFindings(root: TomlNode, mode: Mode | undefined): Finding[] {
  const all = tables(root, TABLE);
  return [...(fansOut(mode) ? missing(root, all) : []), ...shared(root, all), ...all.flatMap(portFindings), ...all.flatMap(ownPort)];
}

/** Whether a file needs frontends: one that has [fan_out] may be for nothing else. */
export function needsFrontends(root: TomlNode, mode: Mode | undefined): boolean {
  return mode === undefined ? nodeAt(root, [TABLE]) === undefined : !fansOut(mode);
}

function missing(root: TomlNode, all: readonly Table[]): Finding[] {
  const node = nodeAt(root, [TABLE]);
  const needed = 'needed with --fan-out: at least one table, [fan_out.NAME], with its keys listen and ports';
  if (node === undefined) return [error(root, [TABLE], `missing; ${needed}`)];
  return node.kind === 'table' && all.length === 0 ? [error(node, [TABLE], `empty; ${needed}`)] : [];
}

/** Frontends may have the same address: they are other modes'. */
function shared(root: TomlNode, all: readonly Table[]): Finding[] {
  const told = new Set<unknown>();
  const stats = statsPlace(root).map((place) => ({ ...place, protocol: 'tcp' }));
  const found = clashes([...stats, ...all.flatMap(placesOf)]);
  return found.filter(({ position }) => !told.has(position) && told.add(position));
}

function placesOf({ name, node: { children }, path }: Table): (Place & { readonly protocol: string })[] {
  const listen = children.get('listen');
  if (typeof listen?.value !== 'string' || listenProblemOf(listen.value) !== undefined) return [];
  const protocol = String(children.get('protocol')?.value ?? 'tcp');
  return listensAt(listen.value).map((address) => {
    return { name, owner: `fan_out ${show(name)}`, address, node: listen, path: [...path, 'listen'], protocol };
  });
}

/** Twice the same port, none or too many, and none that takes connections. */
function portFindings({ node: { children }, path }: Table): Finding[] {
  const node = children.get('ports');
  const here = [...path, 'ports'];
  if (node?.kind === 'table') {
    const { size } = node.children;
    if (size === 0 || size > MOST_PROCESSES) return [error(node, here, `has ${size} ports; allowed: 1–${MOST_PROCESSES}`)];
    const idle = [...node.children.values()].every(({ value }) => value === 0);
    return idle ? [error(node, here, 'every weight is 0: no process gets a connection; needed: at least one above 0')] : [];
  }
  const seen = new Set<unknown>();
  return [...(node?.children ?? [])].flatMap(([place, one]) => {
    if (!seen.has(one.value)) {
      seen.add(one.value);
      return [];
    }
    return [
      error(
        one,
        [...here, place],
        `${show(one.value)} is there twice; needed: a port of its own for each process, and weights as { 3128 = 2 }`,
      ),
    ];
  });
}

/** Of IPv6 the loopback has one address: what lb4 checks there cannot be told from what programs of this host call. */
function ownPort({ node: { children }, path }: Table): Finding[] {
  const [listen, ports, local] = [children.get('listen'), children.get('ports'), children.get('local')];
  if (local?.value !== true || typeof listen?.value !== 'string' || listenProblemOf(listen.value) !== undefined) return [];
  const addresses = listensAt(listen.value);
  const own = addresses[0]?.port;
  const has = [...(ports?.children ?? [])].some(([name, { value }]) => (ports?.kind === 'table' ? Number(name) : value) === own);
  const isAlone = addresses.every(({ family }) => family === 6) && addresses.every(isAny);
  if (!has || !isAlone) return [];
  return [
    warning(
      local,
      [...path, 'local'],
      `with IPv6 alone, health checks of port ${own} are spread like any call of this host: let no process listen there`,
    ),
  ];
}
