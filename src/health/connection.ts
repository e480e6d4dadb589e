/** What checks over a connection share: where it leaves from, when it is given up, and what its errors mean. */
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net';
import { type CheckResult, DEFAULT_TIMEOUT_MS, type Target } from './check.ts';
import { PortRotation } from './ports.ts';

/** One rotation for the whole process: targets that start together then start on different ports. */
const healthPorts = new PortRotation();

/**
 * What a check does once its connection stands: it calls `end` when it knows. Errors, silence and a stop are seen to here.
 * @param started when the connection was begun, by `performance.now()`
 */
export type Talk = (socket: Socket, started: number, end: (result: CheckResult) => void) => void;

/**
 * Connects to the target and talks. The connection is closed by RST, so neither side keeps a TIME_WAIT and the local
 * port is free at once. Another local port is tried while one is in use; without any the outcome is `unknown`.
 */
export async function checkOverConnection(target: Target, talk: Talk, signal: AbortSignal, ports = healthPorts): Promise<CheckResult> {
  const deadline = performance.now() + (target.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const tries = target.sourceAddress === undefined ? 1 : ports.size;
  for (let i = 0; i < tries && !signal.aborted; i++) {
    const end = await attempt(connectOptions(target, ports), deadline, signal, talk);
    if (!(end instanceof Error)) return end;
    if (!isPortTaken(end)) return judge(end, target);
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

/** Another socket has the port (bind), or has it towards this very server (connect). */
function isPortTaken(error: NodeJS.ErrnoException): boolean {
  return error.code === 'EADDRINUSE' || (error.code === 'EADDRNOTAVAIL' && error.syscall === 'connect');
}

/** What failed on this host says nothing about the server. */
const OUR_OWN_FAULT = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EACCES', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EINVAL', 'ECANCELED']);

const WORDS: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network unreachable',
  EPERM: 'forbidden by the local firewall',
};

function judge(error: NodeJS.ErrnoException, target: Target): CheckResult {
  const code = error.code ?? '';
  if (code === 'ETIMEDOUT') return { outcome: 'fail', reason: `no answer in ${target.timeoutMs ?? DEFAULT_TIMEOUT_MS} ms` };
  if (code === 'EADDRNOTAVAIL') return { outcome: 'unknown', reason: `${target.sourceAddress} is no address of this host` };
  return { outcome: OUR_OWN_FAULT.has(code) ? 'unknown' : 'fail', reason: WORDS[code] ?? error.message };
}
