/** Whether there is memory for what a packet mode takes: a table that outgrows the control group is no error of a call, the kernel kills who fills it. */
import { cpus } from 'node:os';
import { tableBytes } from '../access/prefix-table.ts';
import { sourceBytes } from '../access/source-table.ts';
import type { Passthrough } from '../config/model.ts';
import { earlyDropBytes } from '../engine/access-book.ts';
import type { Settings } from '../engine/engine.ts';
import { CONNECTION_BYTES, WORKER_BYTES } from '../layout/limits.ts';

type Frontends = Settings['services']['frontends'];

/** Of Node.js and lb4 themselves, about: 40 MB, for two at a takeover, and what they grow by. */
const PROCESS_BYTES = 100e6;

/**
 * Why it is too little, and what to do; undefined: it is not. Rings are left out: their pages are the kernel's, which it charges to no control group.
 * @param frontends with the tables of those who may connect
 * @param limit bytes that this process may have: of its control group (memory.max, systemd's MemoryMax=), or of the host
 * @param processors of this host
 */
export function memoryShortage(
  passthrough: Passthrough,
  frontends: Frontends,
  limit: number,
  processors = cpus().length,
): string | undefined {
  const { connectionTrackerCapacity, workers } = passthrough;
  const access = accessBytes(passthrough, frontends, processors);
  const needed = PROCESS_BYTES + connectionTrackerCapacity * CONNECTION_BYTES + workers * WORKER_BYTES + access;
  if (needed <= limit) return undefined;
  const lists = access < 1e6 ? '' : `, ${megabytes(access)} for who may connect,`;
  return (
    `the flow tables${lists} and lb4 itself take ${megabytes(needed)}, and this host, or the control group of this process, has ${megabytes(limit)} at most: ` +
    'the kernel kills lb4 when they are used up; raise its limit (MemoryMax=, memory.max), or lower connection_tracker_capacity in [passthrough]'
  );
}

/** Of lists of clients and limits a source, the kernel's part included. */
function accessBytes({ connectionTrackerCapacity, workers, fastPath }: Passthrough, frontends: Frontends, processors: number): number {
  const all = frontends.flatMap(({ access }) => access ?? []);
  const tables = new Set(all.flatMap(({ table, table6 }) => [table ?? [], table6 ?? []].flat()));
  const own = [...tables].reduce((sum, table) => sum + tableBytes(table), 0);
  const sources = all.some(({ sourceRate, sourceMaxconn }) => sourceRate + sourceMaxconn > 0) ? sourceBytes(connectionTrackerCapacity) : 0;
  return own + sources + (fastPath === 'off' ? 0 : earlyDropBytes(frontends, workers, processors));
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}
