/** The first words of shared memory: what it is, for a process that finds it. int32. */

export const HEADER_WORDS = 16;
export const MAGIC_WORD = 0;
export const LAYOUT = 1;
/** Slots of the flow table. */
export const CAPACITY = 2;
/** Records of connections. */
export const CONNECTIONS = 3;

/** "lb4\0" as bytes. */
export const MAGIC = 0x0034626c;
/** Goes up whenever a word of src/layout gets another meaning. */
export const LAYOUT_VERSION = 1;
