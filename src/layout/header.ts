/** The first words of shared memory: what it is, for a process that finds it. int32. */

export const HEADER_WORDS = 32;
export const MAGIC_WORD = 0;
export const LAYOUT = 1;
/** Homes of a worker's flow table. */
export const CAPACITY = 2;
/** A worker's records of connections. */
export const CONNECTIONS = 3;
/** Flows a connection: 2 with full NAT, 1 with direct server return. */
export const DIRECTIONS = 4;
/** Workers, each with flows and connections of its own (CAPACITY and CONNECTIONS are one's), and source ports of its own. */
export const WORKERS = 5;
/** Four words: the seed and the multipliers of the flow table's hash. */
export const KEY = 8;
/** Four words: since when the clock of SEEN has been running (/proc/sys/kernel/random/boot_id). */
export const BOOT = 12;
/** Two words: which network namespace (SO_NETNS_COOKIE), the lower half first. */
export const NETWORK = 16;
/**
 * How many processes have begun to take it up, or had a worker that hangs, since one last went well by it: who dies, or hangs, of what is in it
 * leaves it as it was, for the next one.
 */
export const ATTEMPTS = 18;

/** The id of the BPF map that the flows are in, next hops beside it; 0: they are in this memory. */
export const MAP = 19;

/** "lb4\0" as bytes. */
export const MAGIC = 0x0034626c;
/** Goes up whenever a word of src/layout gets another meaning: also LIFE, the order of verdicts, and which home a flow has. */
export const LAYOUT_VERSION = 9;
