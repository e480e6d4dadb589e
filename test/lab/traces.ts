/** What lb4 leaves in a namespace: firewall rules, the reserved ports, its connections, processes. */
import { existsSync, statSync } from 'node:fs';
import type { Namespace } from './lab.ts';

export interface Traces {
  readonly rules: string[];
  readonly reserved: string;
  /** Directories of what outlives the process. */
  readonly kept: string[];
  readonly processes: number[];
}

export const NOTHING: Traces = { rules: [], reserved: '', kept: [], processes: [] };

/** The firewall rules and the sysctl that lb4 touches, as they stand, and all processes. */
export function traces(namespace: Namespace): Traces {
  const saved = namespace.sh('sh', '-c', 'iptables-save; iptables-legacy-save 2>/dev/null || true');
  return {
    rules: saved
      .split('\n')
      .filter((line) => line.startsWith('-A'))
      .sort(),
    reserved: namespace.sh('sysctl', '-n', 'net.ipv4.ip_local_reserved_ports').trim(),
    kept: keptIn(namespace.name).filter((directory) => existsSync(directory)),
    processes: namespace.pids(),
  };
}

/** Where lb4 in a namespace may keep what outlives it. */
export function keptIn(namespace: string): string[] {
  const { ino } = statSync(`/run/netns/${namespace}`);
  return [...['/run', '/dev/shm'].map((root) => `${root}/lb4/kept-${ino}`), pinsIn(namespace)];
}

/** Where the fast path is kept. */
export function pinsIn(namespace: string): string {
  return `/sys/fs/bpf/lb4-${statSync(`/run/netns/${namespace}`).ino}`;
}

/** Bytes of fragments for which its kernel awaits others: of 4 MB (net.ipv4.ipfrag_high_thresh), each for 30 s. */
export function fragmentBytes(namespace: Namespace): number {
  return Number(/^FRAG: .*memory (\d+)$/m.exec(namespace.sh('cat', '/proc/net/sockstat'))?.[1]);
}
