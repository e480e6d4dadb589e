/**
 * Where frames go next: a small table in shared memory that rewrites name by index, so that a neighbour that changes
 * its address costs one store, however many flows use it.
 *
 *     0                    the kernel's own routing (IP_HDRINCL)
 *     1 … SERVER_HOPS-1    one a way to a server (forward/ways.ts), kept by the main thread from rtnetlink
 *     SERVER_HOPS …        learnt by the worker: the last hop of clients, to whom replies go back the way they came
 *
 * An entry is sixteen words, a cache line: interface, MTU in bytes, what to do (layout/frames.ts: SEND or ROUTE), then the Ethernet
 * header as it is stored in front of the IP header: half a word and three words; then a version, for who reads while another writes; then
 * what packets of wrapped flows (layout/flow.ts: WRAPPED) are put into.
 */

/** Words an entry. */
export const HOP = 16;
export const SHIFT = 4;
export const INTERFACE = 0;
export const MTU = 1;
export const OUT = 2;
export const ETHERNET = 3;
/** Odd while the entry is being written, another one afterwards: what the kernel's fast path has copied meanwhile it does not use. */
export const VERSION = 7;
/**
 * Of a way that wraps packets (packet/tunnel.ts): bytes of the outer headers at most in the lower half, which MTU is less by; above them the UDP port
 * that they go to, as in a packet. 0: it wraps none.
 */
export const TUNNEL = 8;
/** And the outer addresses, as in a packet. */
export const TUNNEL_SOURCE = 9;
export const TUNNEL_DESTINATION = 10;

/** Entries kept for the ways to servers, the kernel's included: eight source addresses for each of as many servers as there may be. */
export const SERVER_HOPS = 65_536;
const LEARNT = 12_287;
/** Next hops in all: 12,287 clients or routers on our own links can be told apart, further ones go by the kernel's routing. */
export const HOPS = SERVER_HOPS + LEARNT;
/**
 * Behind them two sets of links, each a bit an interface (forward/links.ts), by its index modulo LINKS: those by which clients come, told by the
 * worker, then those that lead to servers, told by the main thread. Each by the first of its entries.
 */
export const LINKS = 8192;
export const CLIENT_LINKS = SERVER_HOPS + LEARNT;
export const SERVER_LINKS = HOPS + LINKS / 32 / HOP;
/**
 * And an entry whose first word says which tables are in force that wrapped flows follow (forward/rows.ts), told by the worker: 1 to MOST_TAG - 1 of
 * layout/flow.ts; 0: it has not begun yet.
 */
export const TABLES = SERVER_LINKS + LINKS / 32 / HOP;
/** Entries in all. */
export const ENTRIES = TABLES + 1;
/**
 * Which way each of those places is, told by the main thread for the next process, which goes on with the same numbers: then the kernel's fast
 * path need not stop meanwhile. Source and destination as in a packet, the port in host order with the protocol above it, then what the way
 * is, stored last: 0 none, one of two (forward/ways.ts: Way.onLink), or the bytes of a tunnel's headers (Way.tunnel).
 */
export const WAY = 4;
export const WAY_SOURCE = 0;
export const WAY_DESTINATION = 1;
export const WAY_PORT = 2;
export const WAY_KIND = 3;
export const ROUTED = 1;
export const ON_LINK = 2;
/** By the kernel's routing. */
export const KERNEL_HOP = 0;
