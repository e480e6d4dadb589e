import { type Candidate, hasRoom, isFull, type Loads, type Scheduler } from './scheduler.ts';
import { Turns } from './turns.ts';

/**
 * Least connections for their weight. Equals, idle servers above all, take turns by their weights (smooth round robin among
 * them, as nginx does it, over all threads that share `memory`): otherwise short connections would all go to one. A full server is passed
 * over while another has room. O(servers) a pick.
 */
export function leastconn(candidates: readonly Candidate[], loads: Loads, memory: ArrayBufferLike): Scheduler {
  const turns = new Turns(candidates, memory);
  const isLeast = new Uint8Array(candidates.length);
  // Other threads change the loads meanwhile: one look at each.
  const seen = new Int32Array(candidates.length);
  let chosen = 0;
  return {
    pick() {
      let least = Number.POSITIVE_INFINITY;
      for (let i = 0; i < candidates.length; i++) {
        const { index, weight } = candidates[i];
        seen[i] = loads[index];
        if (seen[i] / weight < least && hasRoom(candidates[i], seen[i])) least = seen[i] / weight;
      }
      for (let i = 0; i < candidates.length; i++)
        isLeast[i] = Number(seen[i] / candidates[i].weight === least && hasRoom(candidates[i], seen[i]));
      // -1: all are full.
      chosen = Math.max(0, turns.next(isLeast));
      return chosen;
    },
    get seen() {
      return seen[chosen];
    },
  };
}

/** Positions of those that have the fewest connections for their weight now; empty: all are full. */
export function leastOf(candidates: readonly Candidate[], loads: Loads): number[] {
  const shares = candidates.map((one) => (isFull(one, loads) ? Number.POSITIVE_INFINITY : loads[one.index] / one.weight));
  const least = shares.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  return least === Number.POSITIVE_INFINITY ? [] : [...shares.keys()].filter((i) => shares[i] === least);
}
