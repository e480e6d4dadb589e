/**
 * The interfaces at which the fast path stands by XDP, between interfaces all of them, a map of its own (native/bpf/links.h: struct link). One is at the place that the lower
 * bits of its index say, or at one of those behind it.
 */

/** A power of two. */
export const PLACES = 256;
/** Places that one may have: a BPF program looks at no more. */
export const PROBES = 8;
