/**
 * Packets inside of others: what lb4 wraps a client's packet in on its way to a server.
 *
 *     IP in IP (RFC 2003)     | IPv4 20                     | IPv4 packet, as it came …
 *     GUE, as GLB sends it    | IPv4 20 | UDP 8 | GUE 8 + n | IPv4 packet, as it came …
 *
 * GUE: draft-ietf-intarea-gue-09 section 3.1, in variant 0; GLB's private data behind it are four bytes (type, index of the next hop, number of hops)
 * and the addresses of the n hops to try after the first one.
 */
import { swap16 } from './address.ts';
import { fold } from './checksum.ts';
import { DONT_FRAGMENT, IP_DESTINATION, IP_FRAGMENT, IP_HEADER, IP_IN_IP, IP_SOURCE, IP_TTL, UDP } from './fields.ts';

/** Bytes of the headers around a packet, without further hops: a tunnel is known by them. */
export const IPIP = 20;
export const GUE = 36;
export type Tunnel = typeof IPIP | typeof GUE;

/** Addresses that GLB's private data may have behind it. */
export const MOST_HOPS = 3;
/** Words from the outer IP header to them. */
export const HOPS_WORD = 9;

const TTL = 64;
/** What GUE has inside, by its protocol number (draft-ietf-intarea-gue-09 section 3.2.1): IPv4. */
const GUE_INNER = 4 << 8;

/**
 * Writes the headers of a tunnel in front of the IPv4 packet of `length` bytes at word `ip`: no options, no identification, not to be fragmented, a TTL of
 * its own; UDP without a checksum (RFC 768), since the packet inside has its own.
 * @param bytes of all of them, IPIP, or GUE and four for each further hop: free memory in front of the packet. The hops' addresses are the caller's to write
 * @param source native order, as `destination`
 * @param ports UDP's, as in a packet; IP in IP has none
 * @returns the word of the outer IP header
 */
export function wrap(
  words: Int32Array,
  ip: number,
  length: number,
  bytes: number,
  source: number,
  destination: number,
  ports: number,
): number {
  const outer = ip - (bytes >>> 2);
  const total = swap16(length + bytes);
  const isGue = bytes !== IPIP;
  const kind = TTL | ((isGue ? UDP : IP_IN_IP) << 8);
  const sum = 0x45 + total + (DONT_FRAGMENT >>> 16) + kind;
  const addresses = (source & 0xffff) + (source >>> 16) + (destination & 0xffff) + (destination >>> 16);
  words[outer] = 0x45 | (total << 16);
  words[outer + IP_FRAGMENT] = DONT_FRAGMENT;
  words[outer + IP_TTL] = kind | (~fold(sum + addresses) << 16);
  words[outer + IP_SOURCE] = source;
  words[outer + IP_DESTINATION] = destination;
  if (!isGue) return outer;
  const hops = (bytes - GUE) >>> 2;
  words[outer + 5] = ports;
  words[outer + 6] = swap16(length + bytes - IP_HEADER);
  // Variant 0, no control message; the length of what follows these four bytes, in words; no flags.
  words[outer + 7] = (1 + hops) | GUE_INNER;
  // Type 0; the next hop is the first one.
  words[outer + 8] = hops << 24;
  return outer;
}

/** The UDP port, as in a packet, that packets of a client leave from: 32768–65535, another one for another port of the client, so that receivers share them out. */
export function outerPort(hash: number, clientPort: number): number {
  return swap16(0x8000 | ((hash ^ clientPort) & 0x7fff));
}
