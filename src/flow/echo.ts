/**
 * Pings (RFC 792, echo) as connections: the identifier takes the port's place, and a request opens one as a datagram does. It stands where
 * no port does, so requests are known by (identifier, 0) and replies by (0, identifier), which mirror each other as ports do; and packets go the
 * long way, all of them (forward/echo.ts).
 */

import { swap16 } from '../packet/address.ts';
import { sum } from '../packet/checksum.ts';
import * as F from '../packet/fields.ts';
import { ESTABLISHED, STATES } from './life.ts';
import type { Protocol } from './protocol.ts';
import { udp } from './udp.ts';

export const echo: Protocol = {
  // Who has been heard moves it, as there.
  ...udp,
  name: 'icmp',
  number: F.ICMP,
  checksum: F.ICMP_CHECKSUM,
  hasPorts: false,
  describe: () => 0,
  // Silence says that nobody is there.
  refuse: () => 0,
  isIntact,
  timeoutTable: ({ icmp }) => new Int32Array(STATES).fill(icmp),
  timeoutOf: (table) => table[ESTABLISHED],
};

/** Whether the ICMP message at word `icmp` is a ping, or the answer to one. */
export function isEcho(words: Int32Array, icmp: number): boolean {
  const type = words[icmp] & 0xff;
  return type === F.ICMP_ECHO_REQUEST || type === F.ICMP_ECHO_REPLY;
}

/** What its connection is known by in place of ports: as a ports word. */
export function echoPorts(words: Int32Array, icmp: number): number {
  const word = words[icmp + F.ICMP_ECHO];
  return (words[icmp] & 0xff) === F.ICMP_ECHO_REQUEST ? word & 0xffff : word << 16;
}

/** The word of identifier and sequence number, with the identifier of such a ports word, of which one half is zero. */
export function identified(word: number, ports: number): number {
  return (word & ~0xffff) | ((ports | (ports >>> 16)) & 0xffff);
}

function isIntact({ words, bytes }: F.Slab, ip: number): boolean {
  const header = (words[ip] & 0xf) * 4;
  return sum(bytes, ip * 4 + header, swap16(words[ip] >>> 16) - header) === 0xffff;
}
