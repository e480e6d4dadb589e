/**
 * Where the fields stand, as masks over little-endian 32-bit loads of the header words (RFC 791, RFC 9293, RFC 792).
 * A DataView would say the same at twice the cost (bench/core).
 */

/** The views over one slab. Offsets of IP headers are 4-byte aligned, so words and halves reach every field. */
export interface Slab {
  readonly bytes: Uint8Array;
  readonly halves: Uint16Array;
  readonly words: Int32Array;
}

export function slabOf(buffer: ArrayBufferLike): Slab {
  return { bytes: new Uint8Array(buffer), halves: new Uint16Array(buffer), words: new Int32Array(buffer) };
}

// Before the IP header, in words relative to it: virtio_net_hdr at -24 … -14, Ethernet at -14 … 0 (layout/frames.ts).
export const VNET_WORD = -6;
export const ETHERNET_HALF = -7;

// IPv4 words.
export const IP_LENGTH = 0; // version, header length, TOS; total length in the upper half
export const IP_FRAGMENT = 1; // identification; flags and fragment offset in the upper half
export const IP_TTL = 2; // TTL, protocol; header checksum in the upper half
export const IP_SOURCE = 3;
export const IP_DESTINATION = 4;

/** MF and the offset: any of them set makes a fragment. DF (0x40 in byte 6) is not among them. */
export const FRAGMENT_MASK = 0xff3f0000 | 0;
/** The offset alone: zero in a packet's first fragment. */
export const FRAGMENT_OFFSET = 0xff1f0000 | 0;
export const DONT_FRAGMENT = 0x00400000;

export const ICMP = 1;
/** IPv4 inside (RFC 2003 section 3.1). */
export const IP_IN_IP = 4;
export const TCP = 6;
export const UDP = 17;
/** Where a transport protocol's checksum stands, in bytes behind the beginning of its header: RFC 9293 section 3.1, RFC 768. */
export const CHECKSUM_PLACES = { [TCP]: 16, [UDP]: 6 } as const;

// TCP words.
export const TCP_PORTS = 0;
export const TCP_SEQUENCE = 1;
export const TCP_ACKNOWLEDGMENT = 2;
export const TCP_FLAGS = 3; // data offset in bits 4–7, flags in bits 8–15, window in the upper half
export const TCP_CHECKSUM = 4; // checksum in the lower half, urgent pointer in the upper

// UDP words.
export const UDP_LENGTH = 1; // length in the lower half, checksum in the upper

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const ACK = 0x10;

export const ICMP_ECHO_REPLY = 0;
export const ICMP_UNREACHABLE = 3;
export const ICMP_PORT_UNREACHABLE = 3; // codes of ICMP_UNREACHABLE
export const ICMP_FRAGMENTATION_NEEDED = 4;
export const ICMP_ECHO_REQUEST = 8;
export const ICMP_TIME_EXCEEDED = 11;
export const ICMP_PARAMETER_PROBLEM = 12;
/** The types that are errors about a packet, whose beginning they quote (RFC 1122 section 3.2.2), as far as they are still in use. */
export const ICMP_ERRORS = [ICMP_UNREACHABLE, ICMP_TIME_EXCEEDED, ICMP_PARAMETER_PROBLEM] as const;

export function isIcmpError(type: number): boolean {
  return type === ICMP_UNREACHABLE || type === ICMP_TIME_EXCEEDED || type === ICMP_PARAMETER_PROBLEM;
}

/** Where its checksum stands, in bytes; of a ping: the word of identifier (lower half) and sequence number. */
export const ICMP_CHECKSUM = 2;
export const ICMP_ECHO = 1;

/** Bytes of an IP header without options. */
export const IP_HEADER = 20;
/** Bytes of the ICMP header, behind which an error quotes. */
export const ICMP_HEADER = 8;
