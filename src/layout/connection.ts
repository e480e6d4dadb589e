/**
 * What both directions of a connection share: 32 bytes, which no packet of an established connection touches. Written by the
 * worker alone. The record of no connection has LIFE 0, and FIRST names the next free one.
 */

/** Words a record. */
export const RECORD = 8;
export const RECORD_SHIFT = 3;

/** Slot of the flow client → server. */
export const FIRST = 0;
/** Slot of the flow server → client; NONE where lb4 does not carry it (direct server return). */
export const SECOND = 1;
/** State in the low byte, marks above it (flow/life.ts). */
export const LIFE = 2;
/** Frontend index in the upper half, server index in the lower. */
export const OWNER = 3;
/** Generations of the two in OWNER, likewise: an index that stands for something else by now has another one. */
export const GENERATION = 4;
/** Index of the port pool that its source port goes back to, or NONE. */
export const POOL = 5;
/** Of each direction's bytes (BYTES + KERNEL_BYTES), those that are in the counters already: the collector's cursors. */
export const COLLECTED_FIRST = 6;
export const COLLECTED_SECOND = 7;
