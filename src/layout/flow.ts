/**
 * One direction of a connection: 64 bytes, one cache line, written by TypeScript and read by anyone who maps the table
 * (a BPF program, another thread, the next process). All words are little-endian int32; addresses and ports are as in
 * a packet. STATE is stored last when an entry appears, first when it goes: who reads LIVE reads a whole entry.
 */

/** Words an entry. */
export const ENTRY = 16;
export const ENTRY_SHIFT = 4;

/** EMPTY, TOMBSTONE, or LIVE with the protocol in bits 8–15. */
export const STATE = 0;
/** The key: source, destination, ports word, as the packet arrives. */
export const SOURCE = 1;
export const DESTINATION = 2;
export const PORTS = 3;
/** The rewrite: the same three as the packet leaves. */
export const NEW_SOURCE = 4;
export const NEW_DESTINATION = 5;
export const NEW_PORTS = 6;
/** Checksum deltas: transport (addresses and ports) in the lower half, addresses alone in the upper. */
export const DELTAS = 7;
/** Index into the next-hop table. */
export const NEXT_HOP = 8;
/** Index of the entry of the other direction, or NONE. */
export const TWIN = 9;
/** Connection state in the low byte (flow/tcp.ts), direction and FINs seen above it. */
export const CONNECTION = 10;
/** When the last packet passed: CLOCK_MONOTONIC in milliseconds modulo 2^32. */
export const SEEN = 11;
/** Index of the port pool that its source port goes back to, or NONE. */
export const POOL = 12;
/** Payload bytes since the sweep last collected them, modulo 2^32: 34 Gbit/s a flow at one sweep a second. */
export const BYTES = 13;
/** Frontend index in the upper half, server index in the lower. */
export const OWNER = 14;
/** Generations of the two in OWNER, likewise: an index that stands for something else by now has another one. */
export const GENERATION = 15;

export const EMPTY = 0;
export const TOMBSTONE = 1;
export const LIVE = 2;
export const LIVE_TCP = LIVE | (6 << 8);

/** Slots that a lookup visits before it gives up: a BPF verifier wants to see the bound. */
export const PROBES = 64;

export const NONE = -1;
