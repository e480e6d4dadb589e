/**
 * What the fast path's programs need to drop first packets by themselves (native/bpf/early_drop.h), in maps of its own that end with the process:
 *
 *     syns    lines of 64 bytes: one for all workers, then of each worker its state and the sketch of its SYN guard (forward/syn-sketch.ts)
 *     book    pairs of words: how many places of frontends there are less one; those places, two pairs each; what the frontends' lists are
 *     drops   a row each frontend, as the refusals begin (counters.ts), then one each worker
 */

/** Lines of a sketch, and cells of a line, a byte each. */
export const LINES_SHIFT = 16;
export const LINE_SHIFT = 6;
/** Lines of a worker. */
export const WORKER_LINES = (1 << LINES_SHIFT) + 1;
/** Words of a line. */
export const LINE_WORDS = 1 << (LINE_SHIFT - 2);

/** In the first line of all, told by the main thread: what is asked of first packets. */
export const ASKED = 0;
/** Nothing: user space has all of them. */
export const NOTHING = 0;
/** Of SYNs, whether they have come before, while they flood. */
export const SYNS = 1;
/** And of all, whether a list denies them. */
export const LISTS = 2;

/** In a worker's first line, told by the worker: the bit of now's half second, and above it those that prove a SYN; 0: there is no flood. */
export const MARKS = 0;
export const PROVING_SHIFT = 8;

/**
 * A frontend's place in the book: its address as in a packet, and its port as in a packet with the protocol above it (0: nobody's); then where its list
 * is, and its index with what becomes of whom that denies.
 */
export const PLACE_PAIRS = 2;
/** Places that a frontend may have, from its home on. */
export const PLACE_PROBES = 16;
export const INDEX_BITS = 16;
/** It is answered: user space does that. */
export const RESETS = 1 << 16;
/** It is counted alone. */
export const DRY_RUN = 1 << 17;

/**
 * A list: where its ranges begin in the book (0: there is none), and how far an address is shifted to the right for its place in the index, which is
 * the pairs behind this one: the first and the last range that such addresses can be in. A range: its first address, host order, and its rule.
 */
export const LIST_PAIRS = 1;
/** Halvings of a list of ranges at most: 2^24 of them, which is more than files can have. */
export const STEPS = 24;

/** Columns of a row of the drops, a power of two: of the refusals' those of lists, and of lists that are only counted. */
export const COLUMNS = 16;
/** Columns of a worker's row: SYNs that had not come before, and packets of clients that lists deny. */
export const FIRST_SYNS = 0;
export const DENIED = 1;
