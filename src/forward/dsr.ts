import { portsWord, sourcePort } from '../packet/address.ts';
import type { Directions, Opening, Rewrite } from './mode.ts';

/**
 * Direct server return: only the destination changes, the server answers the client itself and puts the VIP back as
 * source on its way out (iptables/dsr-server.sh).
 *
 *     client:cp → VIP:p   becomes   client:cp → server:p
 */
export function dsr(opening: Opening, rewrite: Rewrite): Directions {
  rewrite.source = opening.source;
  rewrite.destination = opening.serverAddress;
  rewrite.ports = portsWord(sourcePort(opening.ports), opening.serverPort);
  return 1;
}

/**
 * The same on one link, as LVS-DR does it: nothing in the packet changes but the MAC address it goes to; the server
 * has the VIP on its loopback.
 */
export function dsrL2(opening: Opening, rewrite: Rewrite): Directions {
  rewrite.source = opening.source;
  rewrite.destination = opening.destination;
  rewrite.ports = opening.ports;
  return 1;
}
