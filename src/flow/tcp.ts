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
import { CHECKSUM_SHIFT } from '../layout/frames.ts';
import { swap32 } from '../packet/address.ts';
import { buildReset, isTransportIntact } from '../packet/build.ts';
import * as F from '../packet/fields.ts';
import {
  ANSWERS,
  BEARS_OUT,
  BEYOND,
  CHALLENGES,
  ESTABLISHES,
  FINISHES,
  GIVES_UP,
  HEARD,
  OPENS,
  RESETS,
  REVIVES,
  type Segment,
  WAITS,
} from './evidence.ts';
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
  WAITING,
  WAITS_CLIENT,
  WAITS_SERVER,
} from './life.ts';
import type { Protocol, Timeouts } from './protocol.ts';
import { begin, isInFlight, remember, settle, weigh } from './tcp-evidence.ts';

/** RFC 9293 section 3.1: bytes behind the beginning of the header. */
const CHECKSUM_PLACE = F.CHECKSUM_PLACES[F.TCP];

export const tcp: Protocol = {
  name: 'tcp',
  number: F.TCP,
  checksum: CHECKSUM_PLACE,
  hasPorts: true,
  isDatagram: false,
  describe,
  opens,
  refuses,
  refuse: buildReset,
  isIntact: isTransportIntact,
  firstOf,
  read,
  begin,
  weigh,
  isUnderWay: (words, quoted, flows, at, other) => isInFlight(flows, at, other, swap32(words[quoted + F.TCP_SEQUENCE])),
  remember,
  settle,
  next,
  timeoutTable,
  timeoutOf,
};

// Copied into this module: an imported binding is a load at each use (forward/pipeline.ts).
const { TCP_FLAGS, FIN, SYN, RST, ACK } = F;
const CHECKSUM = (CHECKSUM_PLACE >> 1) << CHECKSUM_SHIFT;
/** With only the last of these a segment asks for nothing but its rewrite. */
const CONTROLS = (FIN | SYN | RST | ACK) << 8;
const PLAIN = ACK << 8;
/** RFC 9293 section 3.1: the header without options. */
const HEADER_MIN = 20;

/** Marks of what came after a reset. */
const AFTER_RESET = HEARD_CLIENT | HEARD_SERVER | RESET_BY_SERVER | RESET_BEYOND;

/** The data offset in bytes (bits 4–7 of the word with the flags) bounds the payload. */
function describe(words: Int32Array, transport: number, length: number): number {
  const control = words[transport + TCP_FLAGS];
  const header = (control >>> 2) & 0x3c;
  if (header < HEADER_MIN || length < header) return 0;
  return CHECKSUM | (((control & CONTROLS) ^ PLAIN) << 8) | (length - header);
}

function flagsOf(words: Int32Array, transport: number): number {
  return (words[transport + TCP_FLAGS] >>> 8) & 0xff;
}

function opens(words: Int32Array, transport: number): boolean {
  return (flagsOf(words, transport) & (SYN | ACK | FIN | RST)) === SYN;
}

/** RFC 9293 section 3.5.2: a reset is never answered by one. */
function refuses(words: Int32Array, transport: number): boolean {
  return (flagsOf(words, transport) & RST) !== 0;
}

/** The sequence number of the client's first byte, host order: a SYN takes one of its own. */
function firstOf(words: Int32Array, transport: number): number {
  return swap32(words[transport + F.TCP_SEQUENCE]) + (opens(words, transport) ? 1 : 0);
}

function read(words: Int32Array, transport: number, segment: Segment): void {
  segment.flags = flagsOf(words, transport);
  segment.sequence = swap32(words[transport + F.TCP_SEQUENCE]);
  segment.acknowledgment = swap32(words[transport + F.TCP_ACKNOWLEDGMENT]);
}

/** Idle timeout by state. */
function timeoutTable(timeouts: Timeouts): Int32Array {
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
  // A client's reset behind what it has in flight may be forged, behind forged payload: the ends have time to show that they live.
  const isDoubtful = (life & (RESET_BEYOND | RESET_BY_SERVER | ONE_WAY)) === RESET_BEYOND;
  if (state === CLOSED && isDoubtful) return Math.max(table[CLOSING], table[CLOSED]);
  return table[state];
}

/** The LIFE word after a segment from the client, or from the server (`reply`), that has shown `shown`. */
function next(life: number, shown: number, reply: boolean): number {
  const state = life & STATE_MASK;
  if (shown & RESETS) {
    const how = (reply ? RESET_BY_SERVER : 0) | (shown & BEYOND ? RESET_BEYOND : 0);
    return (life & ~(STATE_MASK | AFTER_RESET | WAITING)) | CLOSED | how;
  }
  if (shown & CHALLENGES) return (life & ~(STATE_MASK | AFTER_RESET)) | openState(life);
  // The client opens again from TIME_WAIT or after a reset (RFC 9293 section 3.6.1): a new connection on the old path.
  if (shown & OPENS) return state >= TIME_WAIT ? OPENING | (life & LASTING) : life;
  if (shown & HEARD) return heard(life, reply);
  let after = shown & (WAITS | BEARS_OUT | GIVES_UP) ? waiting(life, shown, reply) : life;
  if (shown & REVIVES) after &= ~FIN_CLIENT;
  if (shown & FINISHES) after = (after & ~(reply ? WAITS_SERVER : WAITS_CLIENT)) | (reply ? FIN_SERVER : FIN_CLIENT);
  if (state === OPENING && shown & ANSWERS) return (after & ~STATE_MASK) | ANSWERED;
  if (state === CLOSED || (state <= ANSWERED && (shown & ESTABLISHES) === 0)) return after;
  return (after & ~STATE_MASK) | openState(after);
}

/** Whose FIN waits, and whose has waited long enough: the opposite side's, or with direct server return the client's own. */
function waiting(life: number, shown: number, reply: boolean): number {
  const after = shown & WAITS ? life | (reply ? WAITS_SERVER : WAITS_CLIENT) : life;
  if ((shown & (BEARS_OUT | GIVES_UP)) === 0) return after;
  const isClients = reply || (life & ONE_WAY) !== 0;
  const rest = after & ~(isClients ? WAITS_CLIENT : WAITS_SERVER);
  return shown & BEARS_OUT ? rest | (isClients ? FIN_CLIENT : FIN_SERVER) : rest;
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
