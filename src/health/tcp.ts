import type { Check, Target } from './check.ts';
import { checkOverConnection, type Talk } from './connection.ts';
import type { PortRotation } from './ports.ts';

/** Passes when the server completes a TCP handshake. */
export function tcpCheck(target: Target, ports?: PortRotation): Check {
  return { run: (signal) => checkOverConnection(target, sayNothing, signal, ports) };
}

const sayNothing: Talk = (_socket, started, end) => {
  end({ outcome: 'pass', reason: `connected in ${(performance.now() - started).toFixed(1)} ms` });
};
