/**
 * What lb4 follows of a TCP connection (RFC 9293 section 3.3.2 seen from between the ends), in the CONNECTION word of
 * both its entries:
 *
 *     SYN ─► OPENING ─SYN+ACK─► ANSWERED ─ACK─► ESTABLISHED ─FIN─► CLOSING ─FIN of the other side─► TIME_WAIT
 *     an RST from anywhere ─► CLOSED
 *
 * With direct server return the server's half is not seen (ONE_WAY): the client's first segment after its SYN makes the
 * connection ESTABLISHED, its FIN leads to TIME_WAIT at once.
 *
 * Sequence numbers are not followed: a forged RST shortens a connection's idle timeout to that of CLOSED, no more,
 * since every packet that still passes renews it.
 */

import { ACK, FIN, RST, SYN } from '../packet/fields.ts';

export const OPENING = 1;
export const ANSWERED = 2;
export const ESTABLISHED = 3;
export const CLOSING = 4;
export const TIME_WAIT = 5;
export const CLOSED = 6;
export const STATES = 7;

/** The low byte of a CONNECTION word. */
export const STATE_MASK = 0xff;
/** This entry is for server → client. */
export const REPLY = 0x100;
/** FINs seen, by the side that sent them. */
export const FIN_CLIENT = 0x200;
export const FIN_SERVER = 0x400;
/** Only the client's packets pass here (direct server return). */
export const ONE_WAY = 0x1000;
/** The connection was counted as established. */
export const COUNTED = 0x800;
/**
 * Taken up in mid-stream (direct server return): nobody has seen its handshake, and a forged segment looks just like it.
 * So it never gets more than the timeout of CLOSING; after a longer silence its next segment is taken up again.
 */
export const ADOPTED = 0x2000;
/** Direct server return: the client has sent its SYN again, and that was counted. */
export const REPEATED = 0x4000;

/** Idle timeouts in milliseconds. */
export interface Timeouts {
  readonly syn: number;
  /** RFC 5382 REQ-5: at least 2 hours 4 minutes. */
  readonly established: number;
  readonly fin: number;
  readonly timeWait: number;
  readonly closed: number;
}

/** Idle timeout by state. */
export function timeoutTable(timeouts: Timeouts): Int32Array {
  const table = new Int32Array(STATES);
  table[OPENING] = timeouts.syn;
  table[ANSWERED] = timeouts.syn;
  table[ESTABLISHED] = timeouts.established;
  table[CLOSING] = timeouts.fin;
  table[TIME_WAIT] = timeouts.timeWait;
  table[CLOSED] = timeouts.closed;
  return table;
}

/** The idle timeout of a connection, by its CONNECTION word. */
export function timeoutOf(table: Int32Array, word: number): number {
  const state = word & STATE_MASK;
  return table[state === ESTABLISHED && (word & ADOPTED) !== 0 ? CLOSING : state]!;
}

/**
 * The CONNECTION word after a segment with `flags` from the client, or from the server (`reply`). `word` without its
 * REPLY bit.
 */
export function nextConnection(word: number, flags: number, reply: boolean): number {
  const state = word & STATE_MASK;
  const marks = word & ~STATE_MASK;
  if (flags & RST) return marks | CLOSED;
  if (flags & SYN) return synchronized(word, flags, reply);
  if (flags & FIN) {
    const fins = marks | (reply ? FIN_SERVER : FIN_CLIENT);
    if (state >= TIME_WAIT) return fins | state;
    const both = (fins & FIN_CLIENT) !== 0 && (fins & (FIN_SERVER | ONE_WAY)) !== 0;
    return fins | (both ? TIME_WAIT : CLOSING);
  }
  if (!reply && (state === ANSWERED || (state === OPENING && (marks & ONE_WAY) !== 0))) return marks | ESTABLISHED;
  return word;
}

function synchronized(word: number, flags: number, reply: boolean): number {
  const state = word & STATE_MASK;
  if (reply) return flags & ACK && state === OPENING ? (word & ~STATE_MASK) | ANSWERED : word;
  // The client opens again from TIME_WAIT or after a reset (RFC 9293 section 3.6.1): a new connection on the old path.
  return state >= TIME_WAIT ? OPENING | (word & ONE_WAY) : word;
}
