/** What packets have left in a flow, whoever took them: this process or the kernel's fast path, which counts bytes in a number of its own. */
import * as Flow from '../layout/flow.ts';

const HALF = 2 ** 31;
const WHOLE = 2 ** 32;

/** Payload bytes of the flow at word `at`, modulo 2^32, as an int32. */
export function bytesOf(flows: Int32Array, at: number): number {
  return (flows[at + Flow.BYTES] + flows[at + Flow.KERNEL_BYTES]) | 0;
}

/**
 * Bytes of the flow at word `at` since `cursor` was its {@link bytesOf}: to the byte, however many the kernel has carried, and as long as this
 * process has carried less than 2 GB and {@link settleBytes} was called then. Float64.
 */
export function bytesSince(flows: Int32Array, at: number, cursor: number): number {
  // The kernel had counted less than HALF by then: it has carried at least the rest, and both together less than WHOLE beyond that.
  const least = isSmall(flows, at) ? 0 : Math.max(0, kernelBytes(flows, at) - HALF);
  return least + ((bytesOf(flows, at) - cursor - least) >>> 0);
}

/** Has the kernel's number stay small: what is in it goes over to BYTES. Nothing else changes. */
export function settleBytes(flows: Int32Array, at: number): void {
  if (isSmall(flows, at)) return;
  const bytes = kernelBytes(flows, at);
  // Once in 2 GB: what is allocated here costs no packet anything. All of it before the first store: between the two nobody is to be killed.
  const kernel = new BigInt64Array(flows.buffer, flows.byteOffset + (at + Flow.KERNEL_BYTES) * Int32Array.BYTES_PER_ELEMENT, 1);
  const moved = BigInt(bytes);
  flows[at + Flow.BYTES] += bytes;
  Atomics.sub(kernel, 0, moved);
}

/** The kernel's number is less than HALF. The lower half first: it is not to have begun anew meanwhile. */
function isSmall(flows: Int32Array, at: number): boolean {
  return flows[at + Flow.KERNEL_BYTES] >= 0 && flows[at + Flow.KERNEL_BYTES_HIGH] === 0;
}

/** Both halves at one time, though the kernel may be adding. */
function kernelBytes(flows: Int32Array, at: number): number {
  let high = flows[at + Flow.KERNEL_BYTES_HIGH];
  for (;;) {
    const low = Atomics.load(flows, at + Flow.KERNEL_BYTES) >>> 0;
    const again = Atomics.load(flows, at + Flow.KERNEL_BYTES_HIGH);
    if (again === high) return high * WHOLE + low;
    high = again;
  }
}

/** Milliseconds at `now` since the last packet of the flow at word `at` passed, here or in the kernel; both modulo 2^32. */
export function idleOf(flows: Int32Array, at: number, now: number): number {
  const age = (now - flows[at + Flow.SEEN]) | 0;
  // The kernel has seen one since `now` was read, a moment ago.
  return age < 0 && age > -AHEAD_MS ? 0 : age >>> 0;
}

/** A worker's clock is never so old. */
const AHEAD_MS = 60_000;
