import { connect, type TcpNetConnectOpts } from 'node:net';
import type { Check, CheckResult, Target } from './check.ts';
import { PortRotation } from './ports.ts';

const DEFAULT_TIMEOUT_MS = 3000;

/** One rotation for the whole process: targets that start together then start on different ports. */
const healthPorts = new PortRotation();

/**
 * Passes when the server completes a TCP handshake. The connection is closed by RST, so neither side keeps a TIME_WAIT
 * and the local port is free at once.
 */
export function tcpCheck(target: Target, ports: PortRotation = healthPorts): Check {
  return { run: (signal) => checkFromFreePort(target, ports, signal) };
}

async function checkFromFreePort(target: Target, ports: PortRotation, signal: AbortSignal): Promise<CheckResult> {
  const deadline = performance.now() + (target.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const tries = target.sourceAddress === undefined ? 1 : ports.size;
  for (let i = 0; i < tries && !signal.aborted; i++) {
    const end = await handshake(connectOptions(target, ports), deadline, signal);
    if (!isPortTaken(end.error)) return judge(end, target);
  }
  if (signal.aborted) return { outcome: 'unknown', reason: 'stopped' };
  return { outcome: 'unknown', reason: `no free local port on ${target.sourceAddress ?? 'this host'}` };
}

function connectOptions(target: Target, ports: PortRotation): TcpNetConnectOpts {
  const { address: host, port, sourceAddress: localAddress } = target;
  return localAddress === undefined ? { host, port } : { host, port, localAddress, localPort: ports.next() };
}

interface HandshakeEnd {
  elapsedMs: number;
  /** Absent: connected. */
  error?: NodeJS.ErrnoException;
}

/** One connection attempt, its socket gone when the promise resolves. */
function handshake(options: TcpNetConnectOpts, deadline: number, signal: AbortSignal): Promise<HandshakeEnd> {
  return new Promise((resolve) => {
    const started = performance.now();
    let error: NodeJS.ErrnoException | undefined = named('ECANCELED');
    let elapsedMs = 0;
    const socket = connect(options);
    const giveUp = (cause: NodeJS.ErrnoException) => {
      if (error !== undefined) error = cause; // after the handshake nothing matters any more
      socket.destroy();
    };
    const abort = () => giveUp(named('ECANCELED'));
    const timer = setTimeout(() => giveUp(named('ETIMEDOUT')), Math.max(0, deadline - started));
    signal.addEventListener('abort', abort, { once: true });
    socket.on('error', giveUp);
    socket.once('connect', () => {
      error = undefined;
      elapsedMs = performance.now() - started;
      socket.resetAndDestroy();
    });
    socket.once('close', () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      resolve(error === undefined ? { elapsedMs } : { elapsedMs, error });
    });
  });
}

function named(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}

/** Another socket has the port (bind), or has it towards this very server (connect). */
function isPortTaken(error: NodeJS.ErrnoException | undefined): boolean {
  return error?.code === 'EADDRINUSE' || (error?.code === 'EADDRNOTAVAIL' && error.syscall === 'connect');
}

/** What failed on this host says nothing about the server. */
const OUR_OWN_FAULT = new Set(['EADDRNOTAVAIL', 'EACCES', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EINVAL', 'ECANCELED']);

const WORDS: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network unreachable',
  EPERM: 'forbidden by the local firewall',
};

function judge({ elapsedMs, error }: HandshakeEnd, target: Target): CheckResult {
  if (error === undefined) return { outcome: 'pass', reason: `connected in ${elapsedMs.toFixed(1)} ms` };
  const code = error.code ?? '';
  if (code === 'ETIMEDOUT') return { outcome: 'fail', reason: `no answer in ${target.timeoutMs ?? DEFAULT_TIMEOUT_MS} ms` };
  if (code === 'EADDRNOTAVAIL') return { outcome: 'unknown', reason: `${target.sourceAddress} is no address of this host` };
  return { outcome: OUR_OWN_FAULT.has(code) ? 'unknown' : 'fail', reason: WORDS[code] ?? error.message };
}
