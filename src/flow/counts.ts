/** What packets have left in a flow, whoever took them: this process or the kernel's fast path, each of which writes words of its own. */
import * as Flow from '../layout/flow.ts';

/** Payload bytes of the flow at word `at`, modulo 2^32, as an int32. */
export function bytesOf(flows: Int32Array, at: number): number {
  return (flows[at + Flow.BYTES] + flows[at + Flow.KERNEL_BYTES]) | 0;
}

/**
 * Milliseconds at `now` since its last packet passed, here or in the kernel. SEEN and KERNEL_SEEN are CLOCK_MONOTONIC in milliseconds modulo
 * 2^32, and the word of whoever does not forward may be weeks old: so their ages are compared, not they.
 */
export function idleOf(flows: Int32Array, at: number, now: number): number {
  return Math.min(ageOf(flows[at + Flow.SEEN], now), ageOf(flows[at + Flow.KERNEL_SEEN], now));
}

/** 0 for what the kernel has seen since `now` was read, a moment ago. */
function ageOf(seen: number, now: number): number {
  const age = (now - seen) | 0;
  return age < 0 && age > -AHEAD_MS ? 0 : age >>> 0;
}

/** A worker's clock is never so old. */
const AHEAD_MS = 60_000;
