import type { PendingFins } from './pending-fins.ts';

/** What a packet can show of its connection, in any protocol: bits, more than one at a time. */

/** The client asks, for the first time or again. */
export const OPENS = 0x01;
/** The server has heard the client. */
export const ANSWERS = 0x02;
/** The client has heard the server. */
export const ESTABLISHES = 0x04;
export const FINISHES = 0x08;
export const RESETS = 0x10;
/** A side goes on after a reset. */
export const HEARD = 0x20;
/** A FIN of the client that had counted was not its own: it has gone on. */
export const REVIVES = 0x40;
/** A reset by a number that is not sure to be right: a server's beyond what it has sent, a client's beyond what its server has acknowledged. */
export const BEYOND = 0x80;
/** Nothing new, but it belongs to the connection: its packets keep that alive. */
export const BELONGS = 0x100;
/** The side that a reset was sent to answers it: RFC 5961 section 3.2, a reset that it did not believe. */
export const CHALLENGES = 0x200;
/** Pass 3 may keep its third word (ACKNOWLEDGED in layout/flow.ts). */
export const ACKNOWLEDGES = 0x400;

/** A FIN behind what has not passed here yet: it waits (pending-fins.ts) … */
export const WAITS = 0x800;
/** … until the opposite side shows that it has it (direct server return: until what was missing has passed), as this packet does … */
export const BEARS_OUT = 0x1000;
/** … or it waits no longer. */
export const GIVES_UP = 0x2000;

/** A packet as its protocol reads it, numbers in host order; 0 what it does not have. One object, written anew for each. */
export interface Segment {
  flags: number;
  sequence: number;
  acknowledgment: number;
  payload: number;
  isReply: boolean;
  /** Milliseconds modulo 2^32. */
  now: number;
  /** FINs that wait, of all connections. */
  readonly pendingFins: PendingFins;
}
