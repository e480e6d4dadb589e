import { portsWord, sourcePort } from '../packet/address.ts';
import type { Mode } from './mode.ts';

/**
 * Direct server return: only the destination changes, the server answers the client itself and puts the VIP back as
 * source on its way out (iptables/dsr-server.sh).
 *
 *     client:cp → VIP:p   becomes   client:cp → server:p
 */
export const dsr: Mode = {
  directions: 1,
  source: 'client',
  repliesTo: 'nobody',
  onLink: false,
  rewrite(opening, rewrite) {
    rewrite.source = opening.source;
    rewrite.destination = opening.serverAddress;
    rewrite.ports = portsWord(sourcePort(opening.ports), opening.serverPort);
  },
};

/**
 * The same on one link, as LVS-DR does it: nothing in the packet changes but the MAC address it goes to; the server
 * has the VIP on its loopback.
 */
export const dsrL2: Mode = {
  directions: 1,
  source: 'client',
  repliesTo: 'nobody',
  onLink: true,
  rewrite(opening, rewrite) {
    rewrite.source = opening.source;
    rewrite.destination = opening.destination;
    rewrite.ports = opening.ports;
  },
};
