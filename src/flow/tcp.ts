/**
 * What lb4 follows of a TCP connection (RFC 9293 section 3.3.2 seen from between the ends), in the LIFE word of its record:
 *
 *     SYN ─► OPENING ─SYN+ACK─► ANSWERED ─its ACK─► ESTABLISHED ─FIN─► CLOSING ─FIN of the other side─► TIME_WAIT
 *     an RST from either side ─► CLOSED
 *
 * With direct server return the server's half is not seen (ONE_WAY): the client's first segment after its SYN makes the connection
 * ESTABLISHED, its FIN leads to TIME_WAIT at once.
 *
 * A state changes by what a segment has shown (tcp-evidence.ts), never by its flags alone.
 */
import type { Protocol } from './protocol.ts';
import { ANSWERS, BEYOND, CHALLENGES, ESTABLISHES, FINISHES, HEARD, OPENS, RESETS, REVIVES } from './tcp-evidence.ts';
import {
  ADOPTED,
  ANSWERED,
  CLOSED,
  CLOSING,
  ESTABLISHED,
  FIN_CLIENT,
  FIN_SERVER,
  HEARD_CLIENT,
  HEARD_SERVER,
  LASTING,
  ONE_WAY,
  OPENING,
  RESET_BEYOND,
  RESET_BY_SERVER,
  STATE_MASK,
  STATES,
  TIME_WAIT,
} from './tcp-states.ts';

export const tcp: Protocol = { name: 'tcp', number: 6, checksum: 16, next, timeoutOf };

/** Marks of what came after a reset. */
const AFTER_RESET = HEARD_CLIENT | HEARD_SERVER | RESET_BY_SERVER | RESET_BEYOND;

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

/** The idle timeout of a connection. */
function timeoutOf(table: Int32Array, life: number): number {
  const state = life & STATE_MASK;
  if (state === ESTABLISHED && (life & ADOPTED) !== 0) return table[CLOSING];
  // Only the client's FIN was seen: the server may go on sending (RFC 9293 section 3.6), and its client is not heard meanwhile.
  if (state === TIME_WAIT && (life & ONE_WAY) !== 0) return Math.max(table[CLOSING], table[TIME_WAIT]);
  return table[state];
}

/** The LIFE word after a segment from the client, or from the server (`reply`), that has shown `shown`. */
function next(life: number, shown: number, reply: boolean): number {
  const state = life & STATE_MASK;
  if (shown & RESETS) {
    const how = (reply ? RESET_BY_SERVER : 0) | (reply && shown & BEYOND ? RESET_BEYOND : 0);
    return (life & ~(STATE_MASK | AFTER_RESET)) | CLOSED | how;
  }
  if (shown & CHALLENGES) return (life & ~(STATE_MASK | AFTER_RESET)) | openState(life);
  // The client opens again from TIME_WAIT or after a reset (RFC 9293 section 3.6.1): a new connection on the old path.
  if (shown & OPENS) return state >= TIME_WAIT ? OPENING | (life & LASTING) : life;
  if (shown & HEARD) return heard(life, reply);
  let after = life;
  if (shown & REVIVES) after &= ~FIN_CLIENT;
  if (shown & FINISHES) after |= reply ? FIN_SERVER : FIN_CLIENT;
  if (state === OPENING && shown & ANSWERS) return (after & ~STATE_MASK) | ANSWERED;
  if (state === CLOSED || (state <= ANSWERED && (shown & ESTABLISHES) === 0)) return after;
  return (after & ~STATE_MASK) | openState(after);
}

/** The state of a connection that both sides hear, by who of them has finished. */
function openState(life: number): number {
  const client = (life & FIN_CLIENT) !== 0;
  const server = (life & FIN_SERVER) !== 0;
  if (client && (server || (life & ONE_WAY) !== 0)) return TIME_WAIT;
  return client || server ? CLOSING : ESTABLISHED;
}

/** A reset that both sides go on after was none of theirs. */
function heard(life: number, reply: boolean): number {
  const after = life | (reply ? HEARD_SERVER : HEARD_CLIENT);
  const isAlive = (after & HEARD_CLIENT) !== 0 && (after & (HEARD_SERVER | ONE_WAY)) !== 0;
  return isAlive ? (after & ~(STATE_MASK | AFTER_RESET | FIN_CLIENT | FIN_SERVER)) | ESTABLISHED : after;
}
