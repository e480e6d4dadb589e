/** The packet workers that a file asks for: whether there are processors for them, and memory. */
import { availableParallelism } from 'node:os';
import { formatCpus } from '../config/cpus.ts';
import type { Config, Passthrough } from '../config/model.ts';
import { messageOf } from '../errors.ts';
import { lockHolder } from '../io/namespace-lock.ts';
import { CONNECTION_BYTES, WORKER_BYTES } from '../layout/limits.ts';
import { read } from '../rules/read.ts';
import { counted, type Finding, fail, type Host, ok, warn } from './finding.ts';
import { usableCpus } from './network.ts';

const SLOT_BYTES = 128 * 1024;

export function workers({ config }: Host): Finding[] {
  // What a lb4 that runs has taken is not available any more.
  const memory = lockHolder() === undefined ? [judgeMemory(config, availableMemory())] : [];
  return [processors(config), ...memory];
}

function processors(config: Config): Finding {
  try {
    const usable = config.passthrough.cpus === undefined ? [] : usableCpus();
    return judgeWorkers(config, { usable, parallel: availableParallelism() });
  } catch (error) {
    // A sandbox that lets nobody pin threads.
    return fail('workers', messageOf(error), `take cpus out of [passthrough] of ${config.file}`);
  }
}

/**
 * @param usable the processors that threads can be pinned to
 * @param parallel as many run at a time where they are pinned to none
 */
export function judgeWorkers(
  { file, passthrough }: Config,
  { usable, parallel }: { readonly usable: readonly number[]; readonly parallel: number },
): Finding {
  const { workers: count, io } = passthrough;
  const cpus = io === 'ring' ? passthrough.cpus : undefined;
  const where = `in [passthrough] of ${file}`;
  const strange = cpus?.filter((cpu) => !usable.includes(cpu)) ?? [];
  if (strange.length > 0) {
    const message = `the kernel pins nothing to ${formatCpus(strange)} of cpus: not there, or not this process's (cpuset); it may use ${formatCpus(usable)}`;
    return fail('workers', message, `cpus = "${formatCpus(usable)}" ${where}`);
  }
  const own = cpus?.slice(0, count);
  const available = own?.length ?? parallel;
  const on = own === undefined ? `of ${counted(available, 'processor')}` : `pinned to ${formatCpus(own)}`;
  if (count <= available) return ok('workers', `${counted(count, 'packet worker')}, ${on}`);
  const message = `${counted(count, 'packet worker')}, ${on}: more than one a processor take turns, and packets wait for theirs`;
  return warn('workers', message, `workers = ${available} ${where}`);
}

/** @param available bytes; undefined: unknown */
export function judgeMemory({ file, passthrough }: Config, available: number | undefined): Finding {
  const { rings, tables } = needs(passthrough);
  const needed = `${megabytes(rings)} for receive rings and ${megabytes(tables)} for flow tables of ${counted(passthrough.workers, 'worker')}`;
  if (available === undefined) return ok('memory', needed);
  const message = `${needed}; ${megabytes(available)} are available`;
  if (rings + tables <= available) return ok('memory', message);
  return fail('memory', message, `fewer workers, ring_slots or connection_tracker_capacity in [passthrough] of ${file}`);
}

/** Bytes, all of which are taken at the start. Buffers of libpcap are no rings. */
function needs({ workers: count, ringSlots, io, connectionTrackerCapacity }: Passthrough): { rings: number; tables: number } {
  const rings = io === 'ring' ? count * ringSlots * SLOT_BYTES : 0;
  return { rings, tables: connectionTrackerCapacity * CONNECTION_BYTES + count * WORKER_BYTES };
}

/** What the host has, and no more than this control group may have. */
function availableMemory(): number | undefined {
  const kilobytes = /^MemAvailable:\s+(\d+) kB$/m.exec(read('/proc/meminfo') ?? '')?.[1];
  return kilobytes === undefined ? undefined : Math.min(Number(kilobytes) * 1024, process.constrainedMemory() || Number.POSITIVE_INFINITY);
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}
