/** A thread that ranks servers for GLB's tables, one set of addresses after the other, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { rankRows } from '../balance/index.ts';

/** What it is given; for each it sends its ranks, in that order. */
export interface RankJob {
  readonly seed: string;
  readonly addresses: readonly number[];
}

for (const { seed, addresses } of workerData as readonly RankJob[]) parentPort?.postMessage(rankRows(seed, addresses), []);
