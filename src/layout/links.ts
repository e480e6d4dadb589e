/**
 * The interfaces at which the fast path stands by XDP, a map of its own (native/bpf/lb4.bpf.c: struct link). One is at the place that the lower
 * bits of its index say, or at one of those behind it.
 */

/** A power of two. */
export const PLACES = 256;
/** Places that one may have: a BPF program looks at no more. */
export const PROBES = 8;
