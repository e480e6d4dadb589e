/** What checks by a socket share: where they leave from, that another port is tried where one is taken, and what their errors mean. */
import { meaningOfError } from '../errno.ts';
import type { CheckResult, Target } from './check.ts';
import { PortRotation } from './ports.ts';
import { isOwnAddress } from './source.ts';

/** One rotation for the whole process: targets that start together then start on different ports. */
export const healthPorts = new PortRotation();

/** Where a socket is bound; empty: the kernel's choice. */
export interface Place {
  readonly localAddress?: string;
  readonly localPort?: number;
}

/** One try, its socket gone when the promise resolves: a result, or what went wrong. @param deadline by `performance.now()` */
export type Attempt = (from: Place, deadline: number) => Promise<CheckResult | NodeJS.ErrnoException>;

/** `isSourceGone`: the source is no address of this host. */
type End = CheckResult & { readonly isSourceGone?: boolean };

/**
 * Tries from another local port while one is in use; without any the outcome is `unknown`. So it is with all that is wrong on this
 * host, but for a way to the server: where this host has none, the server gets no traffic either. A source that has left this host
 * gives way to the next one: the frontends that are left want to know how the server is.
 */
export async function checkFromOurs(target: Target, attempt: Attempt, signal: AbortSignal, ports = healthPorts): Promise<CheckResult> {
  const first = await checkFrom(target, attempt, signal, ports);
  let now = first;
  for (const sourceAddress of target.otherSources ?? []) {
    if (!now.isSourceGone) break;
    now = await checkFrom({ ...target, sourceAddress }, attempt, signal, ports);
  }
  const { isSourceGone: _, ...result } = now.isSourceGone ? first : now;
  return result;
}

async function checkFrom(target: Target, attempt: Attempt, signal: AbortSignal, ports: PortRotation): Promise<End> {
  const deadline = performance.now() + target.timeoutMs;
  const { sourceAddress: localAddress } = target;
  const tries = localAddress === undefined ? 1 : ports.size;
  for (let i = 0; i < tries && !signal.aborted; i++) {
    const end = await attempt(localAddress === undefined ? {} : { localAddress, localPort: ports.next() }, deadline);
    if (!(end instanceof Error)) return end;
    if (meaningOfError(end).fault !== 'again') return judge(end, target);
  }
  if (signal.aborted) return { outcome: 'unknown', reason: 'stopped' };
  return { outcome: 'unknown', reason: `no free local port on ${localAddress ?? 'this host'}` };
}

async function judge(error: NodeJS.ErrnoException, { timeoutMs, sourceAddress }: Target): Promise<End> {
  if (error.code === 'ETIMEDOUT') return { outcome: 'fail', reason: `no answer in ${timeoutMs} ms` };
  const { fault, words } = meaningOfError(error);
  // That a route is missing may mean that its source is: no server is to blame for that, and all of them would be.
  const isSourceGone = sourceAddress !== undefined && (fault === 'route' || fault === 'host') && !(await isOwnAddress(sourceAddress));
  if (isSourceGone) return { outcome: 'unknown', reason: `${sourceAddress} is no address of this host`, isSourceGone };
  return { outcome: fault === 'server' || fault === 'route' ? 'fail' : 'unknown', reason: words };
}

/** Calls back when time is out, but not before what came in time is read: where this thread was busy, Node.js looks at its timers first. */
export function whenLate(late: () => void, ms: number): NodeJS.Timeout {
  return setTimeout(() => setImmediate(late), ms);
}

/** An error as the system's calls give it. */
export function named(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}
