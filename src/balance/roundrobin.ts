import type { Candidate, Scheduler } from './scheduler.ts';

/**
 * Smooth weighted round robin (nginx's): each pick adds every server's weight to its score, takes the highest and
 * subtracts the sum of weights from it. Weights 5, 1, 1 give a a b a c a a, never five in a row. O(servers) a pick.
 */
export function roundrobin(candidates: readonly Candidate[]): Scheduler {
  const weights = Float64Array.from(candidates, (candidate) => candidate.weight);
  const scores = new Float64Array(candidates.length);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return {
    pick() {
      let best = 0;
      for (let i = 0; i < scores.length; i++) {
        scores[i]! += weights[i]!;
        if (scores[i]! > scores[best]!) best = i;
      }
      scores[best]! -= total;
      return best;
    },
  };
}
