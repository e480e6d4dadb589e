/**
 * GLB's rendezvous table (github/glb-director, docs/development/glb-hashing.md): for each of 65,536 rows the two servers that score best,
 * the second of which gets what the first does not know. Scores depend on addresses and a seed alone, so balancers agree whatever the
 * order of their files, and a server that goes takes its own rows only. Ranking takes long (70 ms for 4 servers, 3 s for 256), and is done once for a set of
 * addresses; states and health only swap the two of a row (some 2 ms).
 */
import { swap32 } from '../packet/address.ts';
import { sipHash, sipKey } from './siphash.ts';

/** A power of two: a row is the low bits of a hash. */
export const ROWS = 0x10000;

/** What a server is to a table. `filling` is as good as `active`, but takes no other's place; `inactive` is in no row. */
export const GLB_STATES = ['filling', 'active', 'draining', 'inactive'] as const;
export type GlbState = (typeof GLB_STATES)[number];

/** A server that is in a table. */
export interface Standing {
  /** What the table is to name it by, 16 bits. */
  readonly position: number;
  readonly state: Exclude<GlbState, 'inactive'>;
  readonly healthy: boolean;
}

/**
 * Of each row the two best among `addresses`, the best one first, as their places in that list: 2 × {@link ROWS} elements, in shared memory,
 * so that other threads get them without a copy. A server that is alone is both.
 * @param seed 32 hexadecimal digits
 * @param addresses IPv4, the network's bytes in native order; one at least
 */
export function rankRows(seed: string, addresses: readonly number[]): Uint16Array {
  const ranks = emptyTable();
  const key = sipKey(seed);
  const score = new Int32Array(2);
  const row = new Int32Array(2);
  const message = new Int32Array(4);
  for (let i = 0; i < ROWS; i++) {
    row[0] = swap32(i);
    sipHash(key, row, 4, score);
    message[0] = score[0];
    message[1] = score[1];
    // A score is its digest's bytes as a number, the first on top. The lowest is best.
    let [best, bestHigh, bestLow] = [0, Infinity, Infinity];
    let [next, nextHigh, nextLow] = [0, Infinity, Infinity];
    for (let place = 0; place < addresses.length; place++) {
      message[2] = addresses[place];
      sipHash(key, message, 12, score);
      const high = swap32(score[0]) >>> 0;
      const low = swap32(score[1]) >>> 0;
      if (high < bestHigh || (high === bestHigh && low < bestLow)) {
        next = best;
        nextHigh = bestHigh;
        nextLow = bestLow;
        best = place;
        bestHigh = high;
        bestLow = low;
      } else if (high < nextHigh || (high === nextHigh && low < nextLow)) {
        next = place;
        nextHigh = high;
        nextLow = low;
      }
    }
    ranks[2 * i] = best;
    ranks[2 * i + 1] = next;
  }
  return ranks;
}

/** When the second of a row takes the first one's place. GLB's own program asks for the second one's state alone (glb-director#77). */
export type SwapRule = 'state' | 'state and health';

/**
 * The table: of each row the positions of its primary and its secondary, one after the other, in shared memory. They are swapped where the
 * first is draining or not healthy and the second may take its place.
 * @param standings in the order of the addresses that were ranked
 */
export function glbTable(ranks: Uint16Array, standings: readonly Standing[], rule: SwapRule = 'state and health'): Uint16Array {
  const table = emptyTable();
  const positions = Uint16Array.from(standings, ({ position }) => position);
  const gives = Uint8Array.from(standings, ({ state, healthy }) => Number(state === 'draining' || !healthy));
  const takes = Uint8Array.from(standings, ({ state, healthy }) => Number(state === 'active' && (healthy || rule === 'state')));
  for (let i = 0; i < table.length; i += 2) {
    const swapped = gives[ranks[i]] & takes[ranks[i + 1]];
    table[i] = positions[ranks[i + swapped]];
    table[i + 1] = positions[ranks[i + 1 - swapped]];
  }
  return table;
}

/** Where a packet of that row goes: the primary's position, and above 16 bits the secondary's. One number: nothing is allocated. */
export function hopsOf(table: Uint16Array, row: number): number {
  return table[2 * row] | (table[2 * row + 1] << 16);
}

export function primaryOf(hops: number): number {
  return hops & 0xffff;
}

export function secondaryOf(hops: number): number {
  return hops >>> 16;
}

function emptyTable(): Uint16Array {
  return new Uint16Array(new SharedArrayBuffer(2 * ROWS * Uint16Array.BYTES_PER_ELEMENT));
}
