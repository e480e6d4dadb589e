import { byNumber } from '../flow/protocols.ts';
import type { Backend, Server } from './model.ts';

/** Where a server takes a backend's packets: its port, or 0 where the protocol knows none. */
export function serverPort({ protocol }: Pick<Backend, 'protocol'>, { addr }: Server): number {
  return (byNumber[protocol.number]?.hasPorts ?? true) ? addr.port : 0;
}
