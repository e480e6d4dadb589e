/**
 * What a server sends from the port that lb4 balances, and belongs to no connection of lb4's: answers to those who speak to the server
 * directly, and what comes late of a connection that has ended. The host's rules keep all that such a port sends to others from its
 * kernel, since most of it is to be translated; so this goes on as the kernel would have sent it, by the kernel's routing.
 *
 * Whom it was for is remembered for a while: the same port of that client is taken towards this server (clash.ts). Each has one
 * place, by its hash, and the last one keeps it: to forget one too soon costs no more than a clash that was not foreseen.
 */
import { finishIpHeader } from '../packet/build.ts';
import { IP_TTL, type Slab } from '../packet/fields.ts';

const PLACES = 4096;
/** Words a place: source, destination and ports of what passed, and when. */
const PLACE_SHIFT = 2;
const [SOURCE, DESTINATION, PORTS, WHEN] = [0, 1, 2, 3];
/** Milliseconds. */
const REMEMBERED_MS = 60_000;

export class Passing {
  readonly #places = new Int32Array(PLACES << PLACE_SHIFT);

  /** Something went from a server to a client past all connections. `ports` as in the packet, `now` in milliseconds modulo 2^32. */
  remember(source: number, destination: number, ports: number, now: number): void {
    const at = placeOf(source, destination, ports);
    this.#places[at + SOURCE] = source;
    this.#places[at + DESTINATION] = destination;
    this.#places[at + PORTS] = ports;
    this.#places[at + WHEN] = now;
  }

  /** Whether that was so a moment ago. */
  knows(source: number, destination: number, ports: number, now: number): boolean {
    const at = placeOf(source, destination, ports);
    const places = this.#places;
    if (places[at + SOURCE] !== source || places[at + DESTINATION] !== destination || places[at + PORTS] !== ports) return false;
    return (now - places[at + WHEN]) >>> 0 < REMEMBERED_MS;
  }
}

/** Makes the packet whose IP header is at word `ip`, of TTL 2 at least, the one that a router sends on. */
export function forwardAsRouter(slab: Slab, ip: number): void {
  slab.words[ip + IP_TTL] = slab.words[ip + IP_TTL] - 1;
  finishIpHeader(slab, ip);
}

function placeOf(source: number, destination: number, ports: number): number {
  let h = Math.imul(source ^ Math.imul(destination, 0x9e3779b1), 0x85ebca6b);
  h = Math.imul((h ^ (h >>> 15)) + ports, 0xc2b2ae35);
  return ((h >>> 16) % PLACES) << PLACE_SHIFT;
}
