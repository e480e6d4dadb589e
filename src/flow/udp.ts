/**
 * UDP (RFC 768). A flow has no handshake and no end; what is known of it is who has been heard:
 *
 *     a datagram ─► OPENING ─the server's first─► ESTABLISHED, SPOKEN          timeouts: udp, then udp_stream
 *                       └────the client's third─► ESTABLISHED                  udp: one way, as syslog; its answer is still waited for
 *
 * With direct server return the client's second one makes it ESTABLISHED, and it is given the longer time: nobody goes on to whom none answers.
 */

import * as Flow from '../layout/flow.ts';
import { CHECKSUM_SHIFT } from '../layout/frames.ts';
import { swap16 } from '../packet/address.ts';
import { buildIcmpError, isTransportIntact } from '../packet/build.ts';
import * as F from '../packet/fields.ts';
import { ACKNOWLEDGES, BELONGS, ESTABLISHES, type Segment } from './evidence.ts';
import { ESTABLISHED, ONE_WAY, OPENING, SPOKEN, STATE_MASK, STATES } from './life.ts';
import type { Protocol, Timeouts } from './protocol.ts';

const CHECKSUM_PLACE = F.CHECKSUM_PLACES[F.UDP];
const HEADER = 8;

export const udp: Protocol = {
  name: 'udp',
  number: F.UDP,
  checksum: CHECKSUM_PLACE,
  hasPorts: true,
  isDatagram: true,
  describe,
  opens: () => true,
  refuses: () => false,
  refuse: (slab, ip) => buildIcmpError(slab, ip, F.ICMP_UNREACHABLE, F.ICMP_PORT_UNREACHABLE, 0, slab.words[ip + F.IP_DESTINATION]),
  isIntact: isTransportIntact,
  firstOf: () => 0,
  read: () => undefined,
  begin,
  weigh,
  // Its packets have no numbers.
  isUnderWay: () => true,
  remember,
  settle: () => undefined,
  next,
  timeoutTable,
  timeoutOf,
};

/** In half-words. */
const CHECKSUM = CHECKSUM_PLACE >> 1;
/** The client's datagram that makes its flow established: until then each goes the long way. */
const THIRD = 3;
const SECOND = 2;

/** Its own length bounds the payload; the IP packet may be longer. */
function describe(words: Int32Array, transport: number, length: number, ip: number): number {
  if (length < HEADER) return 0;
  const word = words[transport + F.UDP_LENGTH];
  const own = swap16(word & 0xffff);
  if (own < HEADER || own > length) return 0;
  // Where there is none to mend, the half-word in front of the IP header.
  const checksum = word >>> 16 === 0 ? (ip - transport) * 2 - 1 : CHECKSUM;
  return (checksum << CHECKSUM_SHIFT) | (own - HEADER);
}

/** ORIGIN counts the client's datagrams, as long as that matters. */
function begin(flows: Int32Array, at: number): void {
  flows[at + Flow.ORIGIN] = 1;
}

function weigh(flows: Int32Array, at: number, _other: number, life: number, { isReply }: Segment): number {
  const needed = (life & ONE_WAY) === 0 ? THIRD : SECOND;
  const establishes = isReply || flows[at + Flow.ORIGIN] + 1 >= needed;
  return BELONGS | ACKNOWLEDGES | (establishes ? ESTABLISHES : 0);
}

function remember(flows: Int32Array, at: number, _other: number, _shown: number, { isReply }: Segment): void {
  if (!isReply && flows[at + Flow.ORIGIN] < THIRD) flows[at + Flow.ORIGIN]++;
}

function next(life: number, shown: number, reply: boolean): number {
  const after = reply ? life | SPOKEN : life;
  return shown & ESTABLISHES ? (after & ~STATE_MASK) | ESTABLISHED : after;
}

function timeoutTable({ udp: single, udpStream }: Timeouts): Int32Array {
  const table = new Int32Array(STATES).fill(single);
  table[ESTABLISHED] = udpStream;
  return table;
}

function timeoutOf(table: Int32Array, life: number): number {
  const isStream = (life & STATE_MASK) === ESTABLISHED && (life & (SPOKEN | ONE_WAY)) !== 0;
  return table[isStream ? ESTABLISHED : OPENING];
}
