import { portsWord } from '../packet/address.ts';
import type { Mode } from './mode.ts';

/**
 * Full NAT of the destination alone: the server sees its client, and its replies come back here because its route to clients leads
 * through this host. An own port of the pool is not needed; another one than the client's only where two connections would have
 * the same replies (clash.ts).
 *
 *     client:cp → VIP:vp   becomes   client:cp → server:sp
 *     server:sp → client:cp   becomes   VIP:vp → client:cp
 */
export const destination: Mode = {
  directions: 2,
  source: 'client',
  repliesTo: 'client',
  onLink: false,
  rewrite(opening, rewrite) {
    rewrite.source = opening.address;
    rewrite.destination = opening.serverAddress;
    rewrite.ports = portsWord(opening.port, opening.serverPort);
  },
};
