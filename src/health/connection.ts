/** What checks over a connection share: where it leaves from, when it is given up, and what its errors mean. */
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net';
import { meaningOfError } from '../errno.ts';
import { type CheckResult, type Target } from './check.ts';
import { PortRotation } from './ports.ts';
import { isOwnAddress } from './source.ts';

/** One rotation for the whole process: targets that start together then start on different ports. */
const healthPorts = new PortRotation();

/**
 * What a check does once its connection stands: it calls `end` when it knows. Errors, silence and a stop are seen to here.
 * @param started when the connection was begun, by `performance.now()`
 */
export type Talk = (socket: Socket, started: number, end: (result: CheckResult) => void) => void;

/**
 * Connects to the target and talks. The connection is closed by RST, so neither side keeps a TIME_WAIT and the local
 * port is free at once. Another local port is tried while one is in use; without any the outcome is `unknown`. So it is with all
 * that is wrong on this host, but for a way to the server: where this host has none, the server gets no traffic either. A source
 * that has left this host gives way to the next one: the frontends that are left want to know how the server is.
 */
export async function checkOverConnection(target: Target, talk: Talk, signal: AbortSignal, ports = healthPorts): Promise<CheckResult> {
  const first = await checkFrom(target, talk, signal, ports);
  let now = first;
  for (const sourceAddress of target.otherSources ?? []) {
    if (!now.isSourceGone) break;
    now = await checkFrom({ ...target, sourceAddress }, talk, signal, ports);
  }
  const { outcome, reason } = now.isSourceGone ? first : now;
  return { outcome, reason };
}

/** `isSourceGone`: the source is no address of this host. */
type End = CheckResult & { readonly isSourceGone?: boolean };

async function checkFrom(target: Target, talk: Talk, signal: AbortSignal, ports: PortRotation): Promise<End> {
  const deadline = performance.now() + target.timeoutMs;
  const tries = target.sourceAddress === undefined ? 1 : ports.size;
  for (let i = 0; i < tries && !signal.aborted; i++) {
    const end = await attempt(connectOptions(target, ports), deadline, signal, talk);
    if (!(end instanceof Error)) return end;
    if (meaningOfError(end).fault !== 'again') return judge(end, target);
  }
  if (signal.aborted) return { outcome: 'unknown', reason: 'stopped' };
  return { outcome: 'unknown', reason: `no free local port on ${target.sourceAddress ?? 'this host'}` };
}

function connectOptions(target: Target, ports: PortRotation): TcpNetConnectOpts {
  const { address: host, port, sourceAddress: localAddress } = target;
  return localAddress === undefined ? { host, port } : { host, port, localAddress, localPort: ports.next() };
}

/** One connection, its socket gone when the promise resolves. */
function attempt(
  options: TcpNetConnectOpts,
  deadline: number,
  signal: AbortSignal,
  talk: Talk,
): Promise<CheckResult | NodeJS.ErrnoException> {
  return new Promise((resolve) => {
    const started = performance.now();
    let end: CheckResult | NodeJS.ErrnoException = named('ECONNRESET');
    let ended = false;
    const socket = connect(options);
    const finish = (how: CheckResult | NodeJS.ErrnoException) => {
      if (!ended) end = how; // the first to know decides
      ended = true;
      if (socket.connecting) socket.destroy();
      else socket.resetAndDestroy();
    };
    const abort = () => finish(named('ECANCELED'));
    const timer = setTimeout(() => finish(named('ETIMEDOUT')), Math.max(0, deadline - started));
    signal.addEventListener('abort', abort, { once: true });
    socket.on('error', finish);
    socket.once('connect', () => talk(socket, started, finish));
    socket.once('close', () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      resolve(end);
    });
  });
}

function named(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}

async function judge(error: NodeJS.ErrnoException, { timeoutMs, sourceAddress }: Target): Promise<End> {
  if (error.code === 'ETIMEDOUT') return { outcome: 'fail', reason: `no answer in ${timeoutMs} ms` };
  const { fault, words } = meaningOfError(error);
  // That a route is missing may mean that its source is: no server is to blame for that, and all of them would be.
  const isSourceGone = sourceAddress !== undefined && (fault === 'route' || fault === 'host') && !(await isOwnAddress(sourceAddress));
  if (isSourceGone) return { outcome: 'unknown', reason: `${sourceAddress} is no address of this host`, isSourceGone };
  return { outcome: fault === 'server' || fault === 'route' ? 'fail' : 'unknown', reason: words };
}
