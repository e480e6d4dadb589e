/**
 * One direction of a connection: 64 bytes, one cache line, all that each of its packets needs. Written by TypeScript and, four words
 * of it, by the kernel's fast path; read by anyone who maps the table (BPF, another thread, the next process). All words are int32 in
 * native order; addresses and ports are as in a packet, sequence numbers as each word says. STATE is stored last when an entry
 * appears, first when it goes: who reads LIVE reads a whole entry.
 */

/** Words an entry. */
export const ENTRY = 16;
export const ENTRY_SHIFT = 4;

/**
 * What the entry is, of which the loop tests all at once:
 *
 *     31 … 16    15 … 8     7      6      5         4         1 0
 *     version    protocol   FAST   LENT   GUARDED   WRAPPED   EMPTY, TOMBSTONE or LIVE
 *
 * The version goes up whenever the slot is taken: who looks twice sees that it is another flow.
 */
export const STATE = 0;
/** The key: source, destination, ports word, as the packet arrives. */
export const SOURCE = 1;
export const DESTINATION = 2;
export const PORTS = 3;
/**
 * The rewrite: the same three as the packet leaves. Of a WRAPPED flow, whose packets leave as they came, the hops to try after the first one, in
 * their order, as far as there are any: addresses as in a packet.
 */
export const NEW_SOURCE = 4;
export const NEW_DESTINATION = 5;
export const NEW_PORTS = 6;
/**
 * Checksum deltas: transport (addresses and ports) in the lower half, addresses alone in the upper. Of a WRAPPED flow the UDP port that it leaves
 * from in the lower half, as in a packet; then how many further hops there are, in two bits (HOPS_SHIFT), and above them (TAG_SHIFT) which tables were in
 * force when they were written (forward/rows.ts); 0: it follows none, all ones: nobody knows.
 */
export const DELTAS = 7;
export const HOPS_SHIFT = 16;
export const TAG_SHIFT = 18;
/** The greatest tag there is. */
export const MOST_TAG = 0x3fff;
/** Index into the next-hop table. */
export const NEXT_HOP = 8;
/** Index of the record of its connection (layout/connection.ts). */
export const CONNECTION = 9;
/** When the last packet passed: CLOCK_MONOTONIC in milliseconds modulo 2^32. Whoever forwards writes it. */
export const SEEN = 10;
/** Payload bytes, modulo 2^32, which with KERNEL_BYTES only grow, for as long as the version stays. */
export const BYTES = 11;
/**
 * Those of the packets that the kernel's fast path took: one number of 64 bits, the lower half first. Both sides change it in one step only:
 * the kernel adds, the collector takes away what it moves to BYTES.
 */
export const KERNEL_BYTES = 12;
export const KERNEL_BYTES_HIGH = 13;
/**
 * TCP: the last acknowledgement number that this side sent, as in a packet: what it has of the other side's bytes. Whoever forwards writes it;
 * of others the word of their packets that stands there.
 */
export const ACKNOWLEDGED = 14;
/**
 * UDP: of the client's flow, its datagrams, as long as they are too few for an established one.
 * TCP: the sequence number (host order) of this side's first byte, less what BYTES was then (and KERNEL_BYTES, as throughout). So ORIGIN + BYTES is the number that it sends
 * next, or a higher one where something was sent twice. Once its FIN has counted: the number of the FIN itself.
 */
export const ORIGIN = 15;

export const EMPTY = 0;
export const TOMBSTONE = 1;
export const LIVE = 2;
/** The bits of STATE that hold one of these three. */
export const PRESENCE = 3;
/** Established, nothing but the rewrite needed: set and taken back by one store. */
export const FAST = 0x80;
/**
 * The kernel has had it, and may have a packet of it in hand: for a moment what it writes may still come, also once the flow is gone. So
 * its slot rests then (flow/table.ts: REST_MS); SEEN says since when.
 */
export const LENT = 0x40;
/** What a server sends its client through this host: it is not taken from a link of clients alone (layout/hops.ts). */
export const GUARDED = 0x20;
/** Its packets go inside of others (packet/tunnel.ts): the next hop says where to. */
export const WRAPPED = 0x10;
export const PROTOCOL_SHIFT = 8;
export const VERSION_SHIFT = 16;
/** The bits of STATE that belong to the key: presence and protocol. */
export const KEYED = 0xff03;

/** STATE & KEYED of a live flow of a protocol, by its number in the IP header. */
export function live(protocol: number): number {
  return LIVE | (protocol << PROTOCOL_SHIFT);
}

/** Slots that a lookup visits before it gives up: a BPF verifier wants to see the bound. */
export const PROBES = 128;
/** Slots from its home on that are read before a lookup begins, where many are made at once: most flows are in one of them. */
export const READ_AHEAD = 4;

export const NONE = -1;
