/** What packets have left in a flow, whoever took them: this process or the kernel's fast path, each of which writes words of its own. */
import * as Flow from '../layout/flow.ts';

/** Payload bytes of the flow at word `at`, modulo 2^32, as an int32. */
export function bytesOf(flows: Int32Array, at: number): number {
  return (flows[at + Flow.BYTES] + flows[at + Flow.KERNEL_BYTES]) | 0;
}

/** When its last packet passed: CLOCK_MONOTONIC in milliseconds modulo 2^32. The kernel's clock stands still for some milliseconds at a time. */
export function seenOf(flows: Int32Array, at: number): number {
  const seen = flows[at + Flow.SEEN];
  const byKernel = flows[at + Flow.KERNEL_SEEN];
  return ((byKernel - seen) | 0) > 0 ? byKernel : seen;
}

/** Milliseconds since then, at `now`; 0 where the kernel has taken a packet since `now` was read, a moment ago. */
export function idleOf(flows: Int32Array, at: number, now: number): number {
  const idle = (now - seenOf(flows, at)) | 0;
  return idle < 0 && idle > -AHEAD_MS ? 0 : idle >>> 0;
}

/** A worker's clock is never so old. */
const AHEAD_MS = 60_000;
