import { type Candidate, type Loads, type Scheduler } from './scheduler.ts';

/** Least connections, by weight; of equals the one after the last choice, so that idle servers take turns. O(servers) a pick. */
export function leastconn(candidates: readonly Candidate[], loads: Loads): Scheduler {
  let last = 0;
  return {
    pick() {
      let best = last;
      let bestLoad = Number.POSITIVE_INFINITY;
      for (let i = 1; i <= candidates.length; i++) {
        const position = (last + i) % candidates.length;
        const { index, weight, maxconn } = candidates[position]!;
        const load = (loads[index]! + 1) / weight;
        if (load >= bestLoad || (maxconn !== 0 && loads[index]! >= maxconn)) continue;
        best = position;
        bestLoad = load;
      }
      last = best;
      return best;
    },
  };
}
