import { type Candidate, isFull, type Loads, type Scheduler } from './scheduler.ts';

/** The first server below its `maxconn`, in the file's order, so that the others may sleep. Weights say nothing here. */
export function first(candidates: readonly Candidate[], loads: Loads): Scheduler {
  return {
    pick() {
      for (let i = 0; i < candidates.length; i++) if (!isFull(candidates[i], loads)) return i;
      return 0;
    },
  };
}
