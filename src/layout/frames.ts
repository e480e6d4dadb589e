/**
 * How a batch of frames is described. Written by the driver's `receive`, read and answered by the pipeline, obeyed by
 * `transmit`. native/layout.h is rendered from it.
 *
 * One Int32Array: HEADER words, then STRIDE words a frame. In the slab, around each frame's IP header at OFFSET
 * (4-byte aligned, so that an Int32Array reads it):
 *
 *     OFFSET-24        OFFSET-14        OFFSET
 *     | virtio_net_hdr | Ethernet       | IPv4 …
 *
 * In front of that are HEADROOM bytes for the headers of a tunnel: then OFFSET moves down, and what stands before it with it.
 */

/** Bytes in front of each frame that `transmit` may find headers in, beside its own. */
export const HEADROOM = 48;

/** Words before the first frame. */
export const HEADER = 16;
/** Word 0 of the header: CLOCK_MONOTONIC in milliseconds modulo 2^32, read at each `receive`. */
export const CLOCK = 0;
/** Word 1: how many frames of the last batch the kernel refused, written by `transmit`. */
export const REFUSED = 1;

/** Words a frame: one cache line. */
export const STRIDE = 16;
/** Byte offset of the IP header in the slab. */
export const OFFSET = 0;
/** Bytes captured from the IP header on (Ethernet padding included). Transmit: bytes to send from the IP header on. */
export const LENGTH = 1;
/** Interface index the frame came in on; transmit: the one it goes out on. */
export const INTERFACE = 2;
/** Flag bits in the low half, gso_size (bytes of payload a segment) in the high half. */
export const FLAGS = 3;
/** What to do with it: DROP, SEND (as an Ethernet frame), ROUTE (IP_HDRINCL: the kernel finds the way). */
export const OUT = 4;
/** Transmit, with FLAG_CUT: bytes that an IP packet may have at most. */
export const LIMIT = 5;

// The rest is the pipeline's own. What the frame is, found once, so that nothing after that asks for the protocol (forward/parse.ts):
/** Word index of its home in the flow table; for what can have no flow, of an entry that is never live. */
export const HOME = 6;
/**
 * In one word, since each costs a store and a load a packet: bytes of payload in the lower half; above them what asks for more than a
 * rewrite (CONTROL), and where the transport checksum stands, in half-words from the transport header on, signed: a packet that has none says where
 * the EtherType stands, which is written after it.
 */
export const DETAIL = 7;
export const CONTROL = 0xff0000;
export const CONTROL_SHIFT = 16;
export const CHECKSUM_SHIFT = 24;
/** What it counts as (forward/verdict.ts), once the slow path has seen it. */
export const VERDICT = 8;

/**
 * Of a driver that takes any frame (io/driver.ts): the VLAN tag that the kernel took off, its tag control information in the low half and its
 * EtherType in the high one, both in host order; 0: none. `transmit` puts it back where it stood, so that a frame has it whatever becomes of it.
 */
export const VLAN = 9;

/** With FLAG_TUNNEL: bytes of the headers at OFFSET in front of the packet itself. */
export const TUNNEL = 10;

/** The transport checksum holds only the pseudo-header's sum (VIRTIO_NET_HDR_F_NEEDS_CSUM). */
export const FLAG_PARTIAL = 1;
/** A super-packet: the kernel or the NIC cuts it on the way out, `transmit` where it goes by ROUTE (gso_size says how). */
export const FLAG_GSO = 2;
/** The frame did not fit its slot: it must not be forwarded. */
export const FLAG_TRUNCATED = 4;
/** The interface has no Ethernet header (tun): the frame can only be sent by ROUTE. */
export const FLAG_NO_ETHERNET = 8;
/**
 * A super-packet of more than 64 KB (BIG TCP): LENGTH says how many bytes it has, its IP header 65535 for as long as it is here.
 * What does not fit the slot is kept elsewhere.
 */
export const FLAG_BIG = 16;
/** Set by the pipeline: too large for its next hop and without DF, so it is cut to LIMIT bytes (RFC 791 section 3.2). */
export const FLAG_CUT = 32;
/** No IPv4, of a driver that takes any frame: what stands at OFFSET is behind an Ethernet header of another EtherType. It has no flow. */
export const FLAG_FOREIGN = 64;
/**
 * Set by the pipeline: the packet is inside of another one, whose headers stand at OFFSET. FLAG_CUT and LIMIT, as the flags that it came with, are of
 * the packet itself: what is cut is wrapped piece by piece.
 */
export const FLAG_TUNNEL = 128;

export const DROP = 0;
export const SEND = 1;
export const ROUTE = 2;
/** As SEND, as it is, by each of the driver's ports but the first one and the one it came by. */
export const FLOOD = 3;

/** Frames in a batch: enough to overlap cache misses, few enough to stay in the first-level cache. */
export const BATCH = 64;

/** A descriptor array for one batch. */
export function createFrames(): Int32Array {
  return new Int32Array(HEADER + BATCH * STRIDE);
}
