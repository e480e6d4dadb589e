/** What this process may do of all that root may (capabilities(7)), as /proc/self/status tells. */
import { readFileSync } from 'node:fs';

/** Those that anything here asks for, by their numbers (linux/capability.h). */
const NUMBERS = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_DAC_READ_SEARCH: 2,
  CAP_SETPCAP: 8,
  CAP_NET_BIND_SERVICE: 10,
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_ADMIN: 21,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
} as const;

export type Capability = keyof typeof NUMBERS;

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(NUMBERS).map(([name, number]) => [number, name]));
/** A set is 64 bits. */
const MOST = 64;

/** What a thread has, by number; of this process's main thread, which is the one that starts others. */
export interface Privileges {
  readonly effective: ReadonlySet<number>;
  readonly permitted: ReadonlySet<number>;
  /** What a program that it starts can get at most. */
  readonly bounding: ReadonlySet<number>;
  /** It, and whatever it starts, gets no more than it has (prctl(2), PR_SET_NO_NEW_PRIVS). */
  readonly isFinal: boolean;
}

/** @param status as in proc(5); what is missing counts as none */
export function privileges(status = readStatus()): Privileges {
  const line = (name: string) => new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0';
  const set = (name: string) => {
    const mask = BigInt(`0x${line(name)}`);
    return new Set(Array.from({ length: MOST }, (_, number) => number).filter((number) => ((mask >> BigInt(number)) & 1n) === 1n));
  };
  return { effective: set('CapEff'), permitted: set('CapPrm'), bounding: set('CapBnd'), isFinal: line('NoNewPrivs') === '1' };
}

function readStatus(): string {
  try {
    return readFileSync('/proc/self/status', 'utf8');
  } catch {
    return '';
  }
}

/** Whether this process may do that now. */
export function capable(name: Capability): boolean {
  return privileges().effective.has(NUMBERS[name]);
}

export function numberOf(name: Capability): number {
  return NUMBERS[name];
}

/** For people: those that have a name here, and how many others. */
export function named(numbers: Iterable<number>): string {
  const all = [...numbers];
  const known = all.flatMap((number) => NAMES.get(number) ?? []);
  return [...known, ...(known.length < all.length ? [`${all.length - known.length} others`] : [])].join(', ');
}
