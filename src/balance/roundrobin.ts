import type { Candidate, Scheduler } from './scheduler.ts';
import { Turns } from './turns.ts';

/** Smooth weighted round robin over all threads that share `memory` (turnsMemory). O(servers) a pick. */
export function roundrobin(candidates: readonly Candidate[], memory: ArrayBufferLike): Scheduler {
  const turns = new Turns(candidates, memory);
  const all = new Uint8Array(candidates.length).fill(1);
  return { pick: () => turns.next(all) };
}
