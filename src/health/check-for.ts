import type { Check, Target } from './check.ts';
import { execCheck } from './exec.ts';
import { httpCheck } from './http.ts';
import { tcpCheck } from './tcp.ts';
import { udpCheck } from './udp.ts';

/** The check that a target asks for. */
export function checkFor(target: Target): Check {
  switch (target.check?.type) {
    case 'http':
      return httpCheck(target, target.check);
    case 'exec':
      return execCheck(target, target.check);
    case 'udp':
      return udpCheck(target, target.check);
    default:
      return tcpCheck(target);
  }
}
