import { createSocket, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { type Check, type CheckResult, type Target, type UdpSettings } from './check.ts';
import { answersArp } from './neighbour.ts';
import type { PortRotation } from './ports.ts';
import { checkFromOurs, named, type Place } from './tries.ts';

/** A datagram may be lost: so often it is sent in a check, at equal distances. */
const SENDINGS = 3;
/** So much of an answer that is not the expected one is shown. */
const MAX_EXCERPT = 40;

/**
 * Sends a datagram. Where an answer is expected, only one that has it passes. Else silence does, for there is no telling it from a
 * service that has nothing to say: the server fails by "port unreachable", or by not answering ARP where it is on a link of this
 * host's, since no error of the kernel's tells that of a datagram (udp(7)).
 */
export function udpCheck(target: Target, settings: UdpSettings, ports?: PortRotation): Check {
  return {
    run: (signal) => checkFromOurs(target, (from, deadline) => attempt(target, settings, from, deadline, signal), signal, ports),
  };
}

type End = CheckResult | NodeJS.ErrnoException;

async function attempt(target: Target, settings: UdpSettings, from: Place, deadline: number, signal: AbortSignal): Promise<End> {
  const end = await exchange(target, settings, from, deadline, signal);
  if (!(end instanceof Error)) return end;
  if (end.code === 'ECONNREFUSED') return { outcome: 'fail', reason: 'port unreachable' };
  if (end.code !== 'ETIMEDOUT' || settings.expect !== undefined) return end;
  if (!(await answersArp(target.address))) return { outcome: 'fail', reason: 'no answer, nor to ARP' };
  return { outcome: 'pass', reason: `silent, but no port unreachable in ${target.timeoutMs} ms` };
}

/** Resolves when its socket is gone: with an answer, or with the error ETIMEDOUT where nothing came. */
function exchange(target: Target, { send, expect }: UdpSettings, from: Place, deadline: number, signal: AbortSignal): Promise<End> {
  return new Promise((resolve) => {
    const started = performance.now();
    const timers: NodeJS.Timeout[] = [];
    const socket = createSocket(isIPv6(target.address) ? 'udp6' : 'udp4');
    let late: End = named('ETIMEDOUT');
    const finish = (end: End) => {
      for (const timer of timers) clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      close(socket, () => resolve(end));
    };
    const abort = () => finish(named('ECANCELED'));
    signal.addEventListener('abort', abort, { once: true });
    socket.on('error', finish);
    socket.on('message', (answer) => {
      if (expect === undefined || answer.includes(expect)) finish(passed(started));
      else late = { outcome: 'fail', reason: `another answer: ${JSON.stringify(answer.toString('latin1', 0, MAX_EXCERPT))}` };
    });
    const leftMs = Math.max(0, deadline - started);
    timers.push(setTimeout(() => finish(late), leftMs));
    const ask = () => socket.send(send, (error) => error && finish(error));
    const begin = (error?: Error) => {
      if (error !== undefined) return finish(error);
      ask();
      for (let i = 1; i < SENDINGS; i++) timers.push(setTimeout(ask, (leftMs * i) / SENDINGS));
    };
    socket.bind(from.localPort ?? 0, from.localAddress, () => socket.connect(target.port, target.address, begin));
  });
}

function passed(started: number): CheckResult {
  return { outcome: 'pass', reason: `answered in ${(performance.now() - started).toFixed(1)} ms` };
}

/** Once, and nothing that comes later is heard. */
function close(socket: Socket, closed: () => void): void {
  socket.removeAllListeners().on('error', () => {});
  try {
    socket.close(closed);
  } catch {
    closed(); // it is closed already, or was never open
  }
}
