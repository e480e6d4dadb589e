import { GUE, IPIP } from '../packet/tunnel.ts';
import type { Mode } from './mode.ts';

/**
 * Direct server return by a tunnel: the client's packet goes to the server as it came, inside of another one. The server unwraps it, holds the
 * VIP as well, and answers the client itself.
 *
 *     client:cp → VIP:p   becomes   us → server [client:cp → VIP:p]
 *
 * So the rewrite changes nothing; what the packet is wrapped in stands in the next hop (layout/hops.ts: TUNNEL).
 */
const wrapped = {
  directions: 1,
  source: 'client',
  repliesTo: 'nobody',
  onLink: false,
  rewrite(opening, rewrite) {
    rewrite.source = opening.source;
    rewrite.destination = opening.destination;
    rewrite.ports = opening.ports;
  },
} as const satisfies Mode;

/** Generic UDP Encapsulation, as GLB sends it. */
export const dsrGue: Mode = { ...wrapped, tunnel: GUE };

/** IP in IP (RFC 2003). */
export const dsrIpip: Mode = { ...wrapped, tunnel: IPIP };
