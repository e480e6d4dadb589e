/** Health checks whose keys do not fit together. */
import { type Dsr, HEALTH_CHECK, type HealthCheckType, LOOKS } from '../model.ts';
import type { TomlNode } from '../read/toml.ts';
import { COMMAND, DEFAULT_CHECK } from '../schema/health.ts';
import { oneOf } from '../schema/key.ts';
import { isPingAlone, type ServiceProtocol } from '../schema/services.ts';
import { error, type Finding, show, warning } from './finding.ts';
import { backendsIn, protocolsIn, type Table, tables } from './places.ts';

/** Checks by a tunnel, each by the one that is called so in `dsr`. */
const BY_TUNNEL = ['gue', 'ipip'] as const satisfies readonly (HealthCheckType & Dsr)[];

/** The keys that some types of check read, and no other. */
const KEYS: Readonly<Record<string, readonly HealthCheckType[]>> = {
  health_check_path: ['http'],
  health_check_status: ['http'],
  health_check_host: ['http'],
  health_check_command: ['exec'],
  health_check_send: ['udp'],
  health_check_expect: ['udp'],
  health_check_port: LOOKS.filter((type) => !BY_TUNNEL.some((one) => one === type)),
  health_check_interval: LOOKS,
  health_check_jitter: LOOKS,
  health_check_timeout: LOOKS,
  health_check_rise: LOOKS,
  health_check_fall: LOOKS,
  health_hold: LOOKS,
};

/** A check without its command or its tunnel (an error), and keys that another type of check would read (warnings). */
export function healthFindings(root: TomlNode): Finding[] {
  const used = backendsIn(root);
  const backends = tables(root, 'backends').map((table) => ({ table, protocols: used.get(table.name) ?? [] }));
  const fanOuts = tables(root, 'fan_out').map((table) => ({ table, protocols: protocolsIn(table) }));
  return [...backends, ...fanOuts].flatMap(({ table, protocols }) => {
    const types = typesOf(table.node, protocols);
    return [...missingCommand(table, types), ...missingTunnel(table), ...missingType(table, protocols), ...idleKeys(table, types)];
  });
}

/** Of a backend's table. None where the file has no good one; where it has none, those of its protocols. */
export function typesOf(backend: TomlNode, protocols: readonly ServiceProtocol[]): readonly HealthCheckType[] {
  const node = backend.children.get('health_check');
  if (node !== undefined) {
    const given = [node, ...node.children.values()].map(({ value }) => value);
    return HEALTH_CHECK.filter((type) => given.includes(type));
  }
  return protocols.length === 0 ? ['tcp'] : [...new Set(protocols.map((protocol) => DEFAULT_CHECK[protocol]))];
}

/** Pings alone say nothing of how a server could be checked. */
function missingType({ path, node }: Table, protocols: readonly ServiceProtocol[]): Finding[] {
  if (node.children.has('health_check') || !isPingAlone(protocols)) return [];
  return [error(node, [...path, 'health_check'], `missing; needed where pings alone are balanced: ${oneOf(HEALTH_CHECK)}`)];
}

function missingCommand({ path, node }: Table, types: readonly HealthCheckType[]): Finding[] {
  const given = node.children.get('health_check');
  if (given === undefined || !types.includes('exec') || node.children.has('health_check_command')) return [];
  return [error(given, [...path, 'health_check_command'], `missing; needed with health_check = "exec": ${COMMAND}`)];
}

function missingTunnel({ path, node }: Table): Finding[] {
  const dsr = node.children.get('dsr')?.value;
  return checksByTunnel(node).flatMap(({ kind, given }) => {
    if (kind === dsr) return [];
    const why = `a ${show(kind)} check asks a server by its tunnel, and these have no such`;
    return [error(given, [...path, 'health_check'], `${why}; needed: dsr = ${show(kind)}, or another check`)];
  });
}

/** In modes that use no tunnel. */
export function withoutTunnel(root: TomlNode): Finding[] {
  return tables(root, 'backends').flatMap(({ path, node }) => {
    const dsr = node.children.get('dsr')?.value;
    return checksByTunnel(node).flatMap(({ kind, given }) => {
      if (kind !== dsr) return [];
      const why = `a ${show(kind)} check asks a server by its tunnel, by which packets go with --dsr alone`;
      return [error(given, [...path, 'health_check'], `${why}; needed: --dsr, or another check`)];
    });
  });
}

/** Where a table asks for one: the key's value, or one of its list. */
function checksByTunnel({ children }: TomlNode): { readonly kind: string; readonly given: TomlNode }[] {
  const node = children.get('health_check');
  const all = node === undefined ? [] : [node, ...node.children.values()];
  return BY_TUNNEL.flatMap((kind) => all.filter(({ value }) => value === kind).map((given) => ({ kind, given })));
}

function idleKeys({ path, node }: Table, types: readonly HealthCheckType[]): Finding[] {
  if (types.length === 0) return [];
  const by = node.children.has('health_check') ? '' : ', the default';
  return Object.entries(KEYS).flatMap(([key, readers]): Finding[] => {
    const given = node.children.get(key);
    if (given === undefined || types.some((type) => readers.includes(type))) return [];
    const message = `has no effect with health_check = ${types.map(show).join(' and ')}${by}`;
    return [warning(given, [...path, key], message)];
  });
}
