import type { Check, Target } from './check.ts';
import { execCheck } from './exec.ts';
import { httpCheck } from './http.ts';
import { tcpCheck } from './tcp.ts';
import { type EchoThrough, tunnelCheck } from './tunnel.ts';
import { udpCheck } from './udp.ts';

/** The check that a target asks for. @param echo for those by a tunnel */
export function checkFor(target: Target, echo: EchoThrough = noTunnels): Check {
  switch (target.check?.type) {
    case 'http':
      return httpCheck(target, target.check);
    case 'exec':
      return execCheck(target, target.check);
    case 'udp':
      return udpCheck(target, target.check);
    case 'gue':
    case 'ipip':
      return tunnelCheck(target, target.check, echo);
    default:
      return tcpCheck(target);
  }
}

const noTunnels: EchoThrough = () =>
  Promise.resolve({ end: 'unsent', error: Object.assign(new Error('no tunnels here'), { code: 'EOPNOTSUPP' }) });
