/**
 * What the kernel knows of a frame and libpcap does not tell: whether its checksum is whole, and whether it is a super-packet. Both can be
 * seen in the frame itself.
 */
import { FLAG_GSO, FLAG_PARTIAL } from '../layout/frames.ts';
import { swap16 } from '../packet/address.ts';
import { fold } from '../packet/checksum.ts';
import { CHECKSUM_PLACES, type Slab, TCP, UDP } from '../packet/fields.ts';

/** Where a protocol's checksum stands, in half-words from its header on: TCP's and UDP's. */
const CHECKSUM: Readonly<Record<number, number>> = { [TCP]: CHECKSUM_PLACES[TCP] / 2, [UDP]: CHECKSUM_PLACES[UDP] / 2 };

/** Payload bytes a segment that the pipeline is told of a super-packet: RFC 1122's default, so that it complains of no next hop. */
const NOMINAL_SEGMENT = 536;

/**
 * What super-packets are cut to, headers included. How large their segments were is not known, and larger ones might be too large for a
 * path behind the next hop: its ICMP errors would ask of the sender what that does already. Links take this much (RFC 8200 section 5).
 */
const CUT_BYTES = 1280;

/** One's complement sum of bytes of the slab: `sum` of io/native.ts. */
export type Sum = (offset: number, length: number) => number;

/**
 * The FLAGS word of the IPv4 packet at byte `ip`, of which `length` bytes are there.
 * @param mtu of the interface that it came by: what is larger is several packets in one
 */
export function flagsOf({ halves, bytes }: Slab, ip: number, length: number, mtu: number, sum: Sum): number {
  const total = swap16(halves[(ip >> 1) + 1]);
  const header = (bytes[ip] & 0xf) * 4;
  const field = CHECKSUM[bytes[ip + 9]];
  // What is no whole packet is the pipeline's business.
  if (field === undefined || header < 20 || total > length || total < header + field * 2 + 2) return 0;
  if (total > mtu) return FLAG_GSO | FLAG_PARTIAL | (NOMINAL_SEGMENT << 16);
  const pseudo = pseudoSum(halves, bytes, ip, total - header);
  const checksum = halves[((ip + header) >> 1) + field];
  // Anything but a whole checksum that happens to be the pseudo-header's sum: a broken one stays broken, for the receiver to see.
  const isPartial = checksum === pseudo && fold(pseudo + sum(ip + header, total - header)) !== 0xffff;
  return isPartial ? FLAG_PARTIAL : 0;
}

/** Makes a partial checksum whole, in place. */
export function finishChecksum({ halves, bytes }: Slab, ip: number, sum: Sum): void {
  const header = (bytes[ip] & 0xf) * 4;
  const field = CHECKSUM[bytes[ip + 9]];
  if (field === undefined) return;
  // The pseudo-header's sum stands in the field, and so in the sum.
  const whole = ~sum(ip + header, swap16(halves[(ip >> 1) + 1]) - header) & 0xffff;
  // RFC 768: to UDP zero is none at all; to a sum both are the same.
  halves[((ip + header) >> 1) + field] = whole === 0 ? 0xffff : whole;
}

/** Payload bytes that each segment of a super-packet gets on a link of `mtu`. */
export function segmentBytes({ bytes }: Slab, ip: number, mtu: number): number {
  const header = (bytes[ip] & 0xf) * 4;
  return Math.min(mtu, CUT_BYTES) - header - (bytes[ip + header + 12] >> 4) * 4;
}

/** The sum of the pseudo-header (RFC 9293 section 3.1) of `length` bytes behind the IP header. */
function pseudoSum(halves: Uint16Array, bytes: Uint8Array, ip: number, length: number): number {
  const half = ip >> 1;
  return fold(halves[half + 6] + halves[half + 7] + halves[half + 8] + halves[half + 9] + (bytes[ip + 9] << 8) + swap16(length));
}
