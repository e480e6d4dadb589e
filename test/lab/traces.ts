/** What lb4 leaves in a namespace: firewall rules, the reserved ports, processes. */
import type { Namespace } from './lab.ts';

export interface Traces {
  readonly rules: string[];
  readonly reserved: string;
  readonly processes: number[];
}

export const NOTHING: Traces = { rules: [], reserved: '', processes: [] };

/** The firewall rules and the sysctl that lb4 touches, as they stand, and all processes. */
export function traces(namespace: Namespace): Traces {
  const saved = namespace.sh('sh', '-c', 'iptables-save; iptables-legacy-save 2>/dev/null || true');
  return {
    rules: saved
      .split('\n')
      .filter((line) => line.startsWith('-A'))
      .sort(),
    reserved: namespace.sh('sysctl', '-n', 'net.ipv4.ip_local_reserved_ports').trim(),
    processes: namespace.pids(),
  };
}
