/**
 * Choosing a server. A scheduler is made for a fixed set of servers that may be chosen and made anew when the set changes; it
 * knows nothing of packets or sockets.
 */

import type { RowTable } from './glb-hash.ts';
import type { Standing } from './glb-table.ts';

/** A server as a scheduler sees it. */
export interface Candidate {
  /** What names it everywhere and always ("192.0.2.7:80"): hashing schedulers must agree between processes and hosts. */
  readonly name: string;
  /** Above 0; a fraction while a server starts slowly. */
  readonly weight: number;
  /** Its element in {@link Loads}. */
  readonly index: number;
  /** Connections that it may have at a time; 0: no limit. */
  readonly maxconn: number;
  /** With balance = "glb": what it is to the table. */
  readonly standing?: { readonly state: Standing['state']; readonly healthy: boolean };
}

/** Connections that each server has now, those still opening included. Read at each pick: whoever counts them writes them. */
export type Loads = Int32Array;

export interface Scheduler {
  /**
   * The position of the chosen server among the candidates, which may be full.
   * @param address the client's address, any int32
   * @param port the client's port, any 16 bits
   * @param to and
   * @param toPort what the client called
   */
  pick(address: number, port: number, to?: number, toPort?: number): number;
  /** Of one that chooses by loads: that of the server chosen last, when it was chosen. */
  readonly seen?: number;
  /** Of one that goes by GLB's table: the whole of what it knows. */
  readonly rows?: RowTable;
}

/** Whether a server with that load may get another connection. */
export function hasRoom({ maxconn }: Candidate, load: number): boolean {
  return maxconn === 0 || load < maxconn;
}

/** Whether a server may not get another connection. */
export function isFull(candidate: Candidate, loads: Loads): boolean {
  return !hasRoom(candidate, loads[candidate.index]);
}

/**
 * The server with the fewest connections for its weight among those with room, or -1: what to do when a scheduler's own choice
 * is full, or cannot be reached. `except` (a position, -1 for none) is left out. O(candidates), allocates nothing.
 */
export function leastLoaded(candidates: readonly Candidate[], loads: Loads, except: number): number {
  let best = -1;
  let bestLoad = 0;
  for (let i = 0; i < candidates.length; i++) {
    const candidate = candidates[i];
    if (i === except || isFull(candidate, loads)) continue;
    // As it would be with the new connection: of idle servers the heaviest is first.
    const load = (loads[candidate.index] + 1) / candidate.weight;
    if (best >= 0 && load >= bestLoad) continue;
    best = i;
    bestLoad = load;
  }
  return best;
}
