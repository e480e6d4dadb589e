import { type Candidate, isFull, type Loads, type Scheduler } from './scheduler.ts';
import { Turns } from './turns.ts';

/**
 * Least connections for their weight. Equals, idle servers above all, take turns by their weights (smooth round robin among
 * them, as nginx does it, over all threads that share `memory`): otherwise short connections would all go to one. A full server is passed
 * over while another has room. O(servers) a pick.
 */
export function leastconn(candidates: readonly Candidate[], loads: Loads, memory: ArrayBufferLike): Scheduler {
  const turns = new Turns(candidates, memory);
  const isLeast = new Uint8Array(candidates.length);
  const load = (i: number) => loads[candidates[i].index] / candidates[i].weight;
  return {
    pick() {
      let least = Number.POSITIVE_INFINITY;
      for (let i = 0; i < candidates.length; i++) if (load(i) < least && !isFull(candidates[i], loads)) least = load(i);
      for (let i = 0; i < candidates.length; i++) isLeast[i] = Number(load(i) === least && !isFull(candidates[i], loads));
      // -1: all are full, or another thread has just changed what was the least.
      return Math.max(0, turns.next(isLeast));
    },
  };
}
