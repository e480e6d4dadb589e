/**
 * Packets inside of others: what lb4 wraps a client's packet in on its way to a server.
 *
 *     IP in IP (RFC 2003)     | IPv4 20                     | IPv4 packet, as it came …
 *     GUE, as GLB sends it    | IPv4 20 | UDP 8 | GUE 8 + n | IPv4 packet, as it came …
 *
 * GUE: draft-ietf-intarea-gue-09 section 3.1, in variant 0; GLB's private data behind it are four bytes (type, index of the next hop, number of hops)
 * and the addresses of the n hops to try after the first one.
 */

/** Bytes of the headers around a packet, without further hops: a tunnel is known by them. */
export const IPIP = 20;
export const GUE = 36;
export type Tunnel = typeof IPIP | typeof GUE;
