/** Rules of routing (ip-rule(8)) by what lb4 cannot ask the kernel for: what it sends goes by the others. */

import { MODES } from '../config/modes.ts';
import { ask } from '../rules/saved.ts';
import { type Finding, type Host, warn } from './finding.ts';

/** As `ip -j rule show` prints one. */
interface Rule {
  readonly priority?: number;
  readonly ipproto?: string;
  readonly sport?: number;
  readonly sport_start?: number;
  readonly sport_end?: number;
  readonly iif?: string;
}

/** Nothing to say where there are none, or no iproute2. */
export async function policy({ mode, config }: Host): Promise<Finding[]> {
  const rules = JSON.parse((await ask('ip', '-j', '-4', 'rule', 'show')) || '[]') as Rule[];
  const protocols = [...new Set(config.backends.map(({ protocol }) => protocol.name))];
  return rules.flatMap((rule) => {
    if (rule.ipproto !== undefined && !protocols.includes(rule.ipproto)) return [];
    const [selector, why] = obstacle(rule, mode) ?? [];
    if (selector === undefined) return [];
    const message = `rule ${rule.priority} (${selector}) is not followed by what lb4 sends: ${why}; rules by address, ipproto ${protocols.join(', ')} and the server's dport are`;
    return [warn('route', message, 'ip rule show')];
  });
}

function obstacle({ sport, sport_start: first = sport, sport_end: last = first, iif }: Rule, mode: Host['mode']) {
  if (first !== undefined) {
    const ports = first === last ? `${first}` : `${first}-${last}`;
    return [
      `sport ${ports}`,
      `it asks for a way once, whatever ${MODES[mode].source === 'client' ? "the client's" : 'source'} port a connection gets`,
    ];
  }
  if (iif === undefined || iif === 'lo') return undefined;
  return [`iif ${iif}`, 'to the kernel it is sent by this host, not forwarded'];
}
