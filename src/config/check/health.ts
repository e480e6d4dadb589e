/** Health checks whose keys do not fit together. */
import { HEALTH_CHECK, type HealthCheckType, LOOKS } from '../model.ts';
import type { TomlNode } from '../read/toml.ts';
import { COMMAND, DEFAULT_CHECK } from '../schema/health.ts';
import { oneOf } from '../schema/key.ts';
import { isPingAlone, type ServiceProtocol } from '../schema/services.ts';
import { error, type Finding, show, warning } from './finding.ts';
import { backendsIn, protocolsIn, type Table, tables } from './places.ts';

/** The keys that some types of check read, and no other. */
const KEYS: Readonly<Record<string, readonly HealthCheckType[]>> = {
  health_check_path: ['http'],
  health_check_status: ['http'],
  health_check_host: ['http'],
  health_check_command: ['exec'],
  health_check_send: ['udp'],
  health_check_expect: ['udp'],
  health_check_port: LOOKS.filter((type) => type !== 'gue'),
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
  const gue = gueCheckIn(node);
  if (gue === undefined || node.children.get('dsr')?.value === 'gue') return [];
  return [
    error(
      gue,
      [...path, 'health_check'],
      'a "gue" check asks a server by its tunnel, and these have none; needed: dsr = "gue", or another check',
    ),
  ];
}

/** In modes that use no tunnel. */
export function withoutTunnel(root: TomlNode): Finding[] {
  return tables(root, 'backends').flatMap(({ path, node }) => {
    const gue = gueCheckIn(node);
    if (gue === undefined || node.children.get('dsr')?.value !== 'gue') return [];
    return [
      error(
        gue,
        [...path, 'health_check'],
        'a "gue" check asks a server by its tunnel, by which packets go with --dsr alone; needed: --dsr, or another check',
      ),
    ];
  });
}

/** Where a table asks for it: the key's value, or one of its list. */
function gueCheckIn({ children }: TomlNode): TomlNode | undefined {
  const given = children.get('health_check');
  return given === undefined
    ? undefined
    : [given, ...given.children.values()].find(({ value }) => value === ('gue' satisfies HealthCheckType));
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
