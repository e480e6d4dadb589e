/** What a reload cannot change: sizes of memory and numbers of threads, which are settled at the start. */
import type { Config } from './model.ts';

/** By their paths in the file. Everything else is reloadable, a backend's `dsr` too: running connections keep the rewrite they have. */
const RESTART_ONLY: Readonly<Record<string, (config: Config) => unknown>> = {
  'passthrough.connection_tracker_capacity': ({ passthrough }) => passthrough.connectionTrackerCapacity,
  'passthrough.workers': ({ passthrough }) => passthrough.workers,
  'passthrough.cpus': ({ passthrough }) => passthrough.cpus?.join(),
  'passthrough.ring_slots': ({ passthrough }) => passthrough.ringSlots,
  'passthrough.busy_poll': ({ passthrough }) => passthrough.busyPollUs,
  'passthrough.fast_path': ({ passthrough }) => passthrough.fastPath,
  'passthrough.io': ({ passthrough }) => passthrough.io,
  'passthrough.resets_per_second': ({ passthrough }) => passthrough.resetsPerSecond,
  'passthrough.resets_per_source': ({ passthrough }) => passthrough.resetsPerSource,
  'passthrough.syn_flood_from': ({ passthrough }) => passthrough.synFloodFrom,
  'proxy.workers': ({ proxy }) => proxy.workers,
};

/** The paths of the keys that differ and keep their old value until lb4 is started anew, in a fixed order. */
export function restartOnly(before: Config, after: Config): string[] {
  return Object.keys(RESTART_ONLY).filter((path) => RESTART_ONLY[path]?.(before) !== RESTART_ONLY[path]?.(after));
}

/** Whether a change of the key at that path needs a restart. */
export function needsRestart(path: string): boolean {
  return Object.hasOwn(RESTART_ONLY, path);
}
