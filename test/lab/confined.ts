/** What root's balancer may do, by what the kernel says of its threads (/proc/PID/status, capabilities(7)). */
import { readdirSync, readFileSync } from 'node:fs';

/** CHOWN, DAC_OVERRIDE, NET_BIND_SERVICE, NET_ADMIN, NET_RAW, PERFMON and BPF: bits of linux/capability.h. */
const KEPT = [0, 1, 10, 12, 13, 38, 39].reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);
const ALL_BITS = /^(?:Cap\w+|NoNewPrivs):\s*\S+$/gm;

/** Of a thread that has these, and never gets more. */
export const CONFINED = { CapInh: 0n, CapPrm: KEPT, CapEff: KEPT, CapBnd: KEPT, CapAmb: 0n, NoNewPrivs: 1n };

/** What the kernel says of a thread, `CapPrm` and so on by name. */
export function setsIn(status: string): Record<string, bigint> {
  const lines = [...status.matchAll(ALL_BITS)].map(([line]) => line.split(/:\s*/) as [string, string]);
  return Object.fromEntries(lines.map(([name, value]) => [name, BigInt(`0x${value}`)]));
}

/** Of every thread of a process. */
export function threadsOf(pid: number): Record<string, bigint>[] {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).flatMap((thread) => {
    try {
      return [setsIn(readFileSync(`${tasks}/${thread}/status`, 'utf8'))];
    } catch (error) {
      // It ended in between.
      if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
      throw error;
    }
  });
}

/** Those of a process that have more, or less. */
export function unconfinedIn(pid: number): Record<string, bigint>[] {
  return threadsOf(pid).filter((sets) => Object.entries(CONFINED).some(([name, mask]) => sets[name] !== mask));
}
