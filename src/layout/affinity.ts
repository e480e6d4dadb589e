/**
 * Which server each client was with last: all workers', kept as other memory is. A set is a cache line: a lock, then the clients that hash
 * to it. Words: the client as in a packet; whose connections they were (forward/affinity.ts); until when, on the clock of SEEN.
 */

export const SET = 16;
export const LOCK = 0;
/** Where the first client of a set stands, and how many words each has. */
export const CLIENTS = 1;
export const CLIENT = 3;
export const EACH = 5;

export const ADDRESS = 0;
export const SERVER = 1;
export const UNTIL = 2;

/** Of SERVER: a connection to it was established. Below are the index of a server, above what tells its address from others. */
export const PROVEN = 0x8000;
export const INDEX = 0x7fff;

/** Connections for each client that there is a place for: so all of one connection's memory is 256 bytes at most (unit/room). */
const CONNECTIONS = 4;

/** Sets for so many connections. */
export function affinitySets(connections: number): number {
  return Math.ceil(connections / CONNECTIONS / EACH);
}
