import type { Candidate, Loads, Scheduler } from './scheduler.ts';

/**
 * The power of two choices (Mitzenmacher 2001): two servers are drawn by lot, by weight, and the one with fewer connections for
 * its weight is taken; of equals, idle servers above all, the first drawn, so that weights hold for short connections, too.
 * Nearly as even as least connections, without a herd when many balancers choose at once. O(log servers) a pick.
 */
export function random(candidates: readonly Candidate[], loads: Loads, draw: () => number = Math.random): Scheduler {
  const sums = new Float64Array(candidates.length);
  let total = 0;
  for (let i = 0; i < candidates.length; i++) sums[i] = total += candidates[i].weight;
  const load = (position: number) => loads[candidates[position].index] / candidates[position].weight;
  return {
    pick() {
      const one = drawn(sums, draw() * total);
      const two = drawn(sums, draw() * total);
      return load(two) < load(one) ? two : one;
    },
  };
}

/** The first position whose running sum is above `mark`. */
function drawn(sums: Float64Array, mark: number): number {
  let low = 0;
  let high = sums.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sums[middle] > mark) high = middle;
    else low = middle + 1;
  }
  return low;
}
