/** Whether there is memory for what a packet mode takes: a table that outgrows the control group is no error of a call, the kernel kills who fills it. */
import type { Passthrough } from '../config/model.ts';
import { CONNECTION_BYTES, WORKER_BYTES } from '../layout/limits.ts';

/** Of Node.js and lb4 themselves, about. */
const PROCESS_BYTES = 100e6;

/**
 * Why it is too little, and what to do; undefined: it is not. Rings are left out: their pages are the kernel's, which it charges to no control group.
 * @param limit bytes that this process may have: of its control group (memory.max, systemd's MemoryMax=), or of the host
 */
export function memoryShortage({ connectionTrackerCapacity, workers }: Passthrough, limit: number): string | undefined {
  const needed = PROCESS_BYTES + connectionTrackerCapacity * CONNECTION_BYTES + workers * WORKER_BYTES;
  if (needed <= limit) return undefined;
  return (
    `the flow tables and lb4 itself take ${megabytes(needed)}, and this host, or the control group of this process, has ${megabytes(limit)} at most: ` +
    'the kernel kills lb4 when they are used up; raise its limit (MemoryMax=, memory.max), or lower connection_tracker_capacity in [passthrough]'
  );
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}
