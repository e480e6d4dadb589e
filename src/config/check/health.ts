/** Health checks whose keys do not fit together. */
import { HEALTH_CHECK, type HealthCheckType } from '../model.ts';
import type { TomlNode } from '../read/toml.ts';
import { COMMAND } from '../schema/health.ts';
import { error, type Finding, show } from './finding.ts';
import { type Table, tables } from './places.ts';

/** All that look at a server. */
const ANY = HEALTH_CHECK.filter((type) => type !== 'none');
/** The keys that some types of check read, and no other. */
const KEYS: Readonly<Record<string, readonly HealthCheckType[]>> = {
  health_check_path: ['http'],
  health_check_status: ['http'],
  health_check_host: ['http'],
  health_check_command: ['exec'],
  health_check_send: ['udp'],
  health_check_expect: ['udp'],
  health_check_port: ANY,
  health_check_interval: ANY,
  health_check_jitter: ANY,
  health_check_timeout: ANY,
  health_check_rise: ANY,
  health_check_fall: ANY,
};

/** A check without its command (an error), and keys that another type of check would read (warnings). */
export function healthFindings(root: TomlNode): Finding[] {
  return tables(root, 'backends').flatMap((backend) => {
    const type = typeOf(backend.node);
    return type === undefined ? [] : [...missingCommand(backend, type), ...idleKeys(backend, type)];
  });
}

/** Undefined where the file has no good one. */
function typeOf(backend: TomlNode): HealthCheckType | undefined {
  const node = backend.children.get('health_check');
  return node === undefined ? 'tcp' : HEALTH_CHECK.find((type) => type === node.value);
}

function missingCommand({ path, node }: Table, type: HealthCheckType): Finding[] {
  const given = node.children.get('health_check');
  if (given === undefined || type !== 'exec' || node.children.has('health_check_command')) return [];
  return [error(given, [...path, 'health_check_command'], `missing; needed with health_check = "exec": ${COMMAND}`)];
}

function idleKeys({ path, node }: Table, type: HealthCheckType): Finding[] {
  const by = node.children.has('health_check') ? '' : ', the default';
  return Object.entries(KEYS).flatMap(([key, readers]): Finding[] => {
    const given = node.children.get(key);
    if (given === undefined || readers.includes(type)) return [];
    const message = `has no effect with health_check = ${show(type)}${by}`;
    return [{ severity: 'warning', path: [...path, key], position: given.keyAt, message }];
  });
}
