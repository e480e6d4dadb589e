import { portsWord } from '../packet/address.ts';
import type { Mode } from './mode.ts';

/**
 * Full NAT: the server sees the connection come from an address of this host, the one the client called if the backend names
 * no others, at a port of the pool, so that its replies come back here.
 *
 *     client:cp → VIP:vp   becomes   address:port → server:sp
 */
export const passthrough: Mode = {
  directions: 2,
  source: 'pool',
  repliesTo: 'us',
  onLink: false,
  rewrite(opening, rewrite) {
    rewrite.source = opening.address;
    rewrite.destination = opening.serverAddress;
    rewrite.ports = portsWord(opening.port, opening.serverPort);
  },
};
