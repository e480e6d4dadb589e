/** What checks over a connection share: it is opened, given up in time, and closed. */
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net';
import type { CheckResult, Target } from './check.ts';
import type { PortRotation } from './ports.ts';
import { checkFromOurs, named, whenLate } from './tries.ts';

/**
 * What a check does once its connection stands: it calls `end` when it knows. Errors, silence and a stop are seen to here.
 * @param started when the connection was begun, by `performance.now()`
 */
export type Talk = (socket: Socket, started: number, end: (result: CheckResult) => void) => void;

/**
 * Connects to the target and talks. The connection is closed by RST, so neither side keeps a TIME_WAIT and the local
 * port is free at once.
 */
export function checkOverConnection(target: Target, talk: Talk, signal: AbortSignal, ports?: PortRotation): Promise<CheckResult> {
  const { address: host, port } = target;
  return checkFromOurs(target, (from, deadline) => attempt({ host, port, ...from }, deadline, signal, talk), signal, ports);
}

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
    const timer = whenLate(() => finish(named('ETIMEDOUT')), Math.max(0, deadline - started));
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
