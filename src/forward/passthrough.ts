import { portsWord } from '../packet/address.ts';
import type { Directions, Opening, Rewrite } from './mode.ts';

/**
 * Full NAT: the server sees the connection come from the address the client called, at a port of the pool, so that its
 * replies come back here.
 *
 *     client:cp → VIP:vp   becomes   VIP:port → server:sp
 */
export function passthrough(opening: Opening, rewrite: Rewrite): Directions {
  const port = opening.pool?.claim() ?? 0;
  if (port === 0) return 0;
  rewrite.source = opening.destination;
  rewrite.destination = opening.serverAddress;
  rewrite.ports = portsWord(port, opening.serverPort);
  return 2;
}
