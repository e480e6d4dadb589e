/**
 * The LIFE word of a connection's record (layout/connection.ts): a state in its low byte, marks above it. The states are TCP's; another
 * protocol goes through those of them that it has, in this order.
 */

export const OPENING = 1;
export const ANSWERED = 2;
export const ESTABLISHED = 3;
export const CLOSING = 4;
export const TIME_WAIT = 5;
export const CLOSED = 6;
export const STATES = 7;
export const STATE_MASK = 0xff;

/** FINs that count, by the side that sent them. */
export const FIN_CLIENT = 0x100;
export const FIN_SERVER = 0x200;
/** The connection was counted as established: both sides have shown that they hear each other. */
export const COUNTED = 0x400;
/** Only the client's packets pass here (direct server return). */
export const ONE_WAY = 0x800;
/**
 * Taken up in mid-stream (direct server return): nobody has seen its handshake, and a forged segment looks just like it.
 * So it never gets more than the timeout of CLOSING; after a longer silence its next segment is taken up again.
 */
export const ADOPTED = 0x1000;
/** Direct server return: the client has sent its SYN again, and that was counted. */
export const REPEATED = 0x2000;
/** Sides that went on after a reset. */
export const HEARD_CLIENT = 0x4000;
export const HEARD_SERVER = 0x8000;
/** Direct server return: the hash finds its server without a flow, too. */
export const HASHED = 0x10000;
/** Its last reset was the server's. */
export const RESET_BY_SERVER = 0x20000;
/** It had a number that is not sure to be right (BEYOND of evidence.ts). */
export const RESET_BEYOND = 0x40000;
/** A FIN waits to count (pending-fins.ts), by the side that sent it. */
export const WAITS_CLIENT = 0x80000;
export const WAITS_SERVER = 0x100000;
export const WAITING = WAITS_CLIENT | WAITS_SERVER;
/** The server of a datagram's flow has answered. */
export const SPOKEN = 0x200000;
/** A way for one answer: FIRST is the server's flow, and there is no SECOND (udp_per_packet). */
export const ANSWER_ONLY = 0x400000;
/** Its packets stand for themselves (protocol.ts: isDatagram): it waits in a list, oldest first to make way, all its life. */
export const DATAGRAM = 0x800000;
/** It has ended, and the connection log was told so (forward/endings.ts). */
export const TOLD = 0x1000000;
/** As a source of how many bits it is counted (forward/source-counts.ts); 0: not. Six bits. */
export const SOURCE_SHIFT = 25;
export const SOURCE_BITS = 0x3f << SOURCE_SHIFT;
/** What a connection keeps when it is opened again. */
export const LASTING = ONE_WAY | HASHED;

/** Whether both sides of a connection with that LIFE word have been heard. */
export function isHeard(life: number): boolean {
  return (life & COUNTED) !== 0 && (life & (DATAGRAM | SPOKEN)) !== DATAGRAM;
}

/** Whether packets of a connection with that LIFE word need nothing but its rewrite: the client's at least. */
export function isFast(life: number): boolean {
  return (life & (STATE_MASK | WAITING)) === ESTABLISHED;
}

/** Whether the server's do as well: its first datagram has something to tell. */
export function isReplyFast(life: number): boolean {
  return isFast(life) && (life & (DATAGRAM | SPOKEN)) !== DATAGRAM;
}

/** Whether a connection with that LIFE word is in the list of those that may make way. */
export function isListed(life: number): boolean {
  return (life & (COUNTED | DATAGRAM)) !== COUNTED;
}
