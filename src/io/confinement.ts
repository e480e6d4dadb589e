/**
 * What a balancer that root starts keeps of root's capabilities. It gives the others away before it does anything (cli/confine.ts), since
 * sets are a thread's own, and Node has threads before any line of lb4 runs: the process begins anew (native/privileges.cc).
 */
import { messageOf } from '../errors.ts';
import { type Capability, named, numberOf, type Privileges, privileges } from './capabilities.ts';
import { native } from './native.ts';

/** As the systemd unit has them, in every mode: proxy mode cleans up after a packet mode that was killed. */
const WORK = ['CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_BPF', 'CAP_PERFMON', 'CAP_NET_BIND_SERVICE'] as const;
/** `[control] group`: a socket is given to a group that root is not in. */
const GIVE = 'CAP_CHOWN';
/**
 * Root's lb4 may be in somebody's home directory, and so may its configuration; a command that it starts may be another user's, who alone
 * may run it, which CAP_DAC_READ_SEARCH does not give. That is kept where there is nothing better.
 */
const FILES = ['CAP_DAC_OVERRIDE', 'CAP_DAC_READ_SEARCH'] as const;

/** Why this process could not begin anew, and what all its threads had before it tried. */
export interface Obstacle {
  readonly reason: string;
  readonly had: Privileges;
}

/** Undefined: it has not tried, or has begun anew. */
let obstacle: Obstacle | undefined;

/** Numbers of those that a process with such privileges is to keep. */
export function keptOf({ permitted }: Pick<Privileges, 'permitted'>): number[] {
  const files = FILES.find((name) => permitted.has(numberOf(name)));
  const kept: readonly Capability[] = [...WORK, GIVE, ...(files === undefined ? [] : [files])];
  return kept.map(numberOf).filter((number) => permitted.has(number));
}

/** Whether a process of root's has no more than it is to keep, nor ever will. */
export function isConfined(has: Privileges): boolean {
  return has.isFinal && beyond(has.permitted, keptOf(has)).length === 0;
}

/**
 * Begins anew with fewer; returns where that cannot be, which {@link unconfined} tells.
 * @param open descriptors that it needs then, beside the standard streams; those that are none are left out
 */
export function confine(open: readonly number[] = []): void {
  const had = privileges();
  try {
    native().confine(keptOf(had), open);
  } catch (error) {
    obstacle = { reason: messageOf(error), had };
  }
}

/** What to say of a process of root's that has more than it needs; undefined: it has not, or only others may judge (another user). */
export function unconfined(has = privileges(), isRoot = process.geteuid?.() === 0, failed = obstacle): string | undefined {
  if (!isRoot || (failed === undefined && isConfined(has))) return undefined;
  const why = failed === undefined ? '' : ` (${failed.reason})`;
  return `this process has more privileges than lb4 needs, and could not give them away: ${excess(has, failed)}${why}`;
}

/** Where it failed late, the main thread has given them away by then, and it alone. */
function excess(has: Privileges, failed: Obstacle | undefined): string {
  const own = named(beyond(has.permitted, keptOf(has)));
  if (own !== '') return `it keeps ${own}`;
  const others = failed === undefined ? '' : named(beyond(failed.had.permitted, keptOf(failed.had)));
  return others === '' ? 'programs that it starts may get more privileges' : `all its threads but the main one keep ${others}`;
}

/** What programs could get at most, were it not for no-new-privileges: it stays where CAP_SETPCAP was missing. Undefined: nothing more. */
export function wideBounds(has = privileges(), isRoot = process.geteuid?.() === 0): string | undefined {
  const more = beyond(has.bounding, keptOf(has));
  return isRoot && isConfined(has) && more.length > 0 ? named(more) : undefined;
}

function beyond(set: ReadonlySet<number>, kept: readonly number[]): number[] {
  return [...set].filter((number) => !kept.includes(number));
}
