import { type Candidate, isFull, type Loads, type Scheduler } from './scheduler.ts';

/**
 * Least connections for their weight. Equals, idle servers above all, take turns by their weights (smooth round robin among
 * them, as nginx does it): otherwise short connections would all go to one. A full server is passed over while another has
 * room. O(servers) a pick.
 */
export function leastconn(candidates: readonly Candidate[], loads: Loads): Scheduler {
  const scores = new Float64Array(candidates.length);
  const load = (i: number) => loads[candidates[i]!.index]! / candidates[i]!.weight;
  return {
    pick() {
      let least = Number.POSITIVE_INFINITY;
      for (let i = 0; i < candidates.length; i++) if (load(i) < least && !isFull(candidates[i]!, loads)) least = load(i);
      let best = -1;
      let total = 0;
      for (let i = 0; i < candidates.length; i++) {
        if (load(i) !== least || isFull(candidates[i]!, loads)) continue;
        const { weight } = candidates[i]!;
        total += weight;
        scores[i]! += weight;
        if (best < 0 || scores[i]! > scores[best]!) best = i;
      }
      if (best < 0) return 0;
      scores[best]! -= total;
      return best;
    },
  };
}
