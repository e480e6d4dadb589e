/**
 * Maglev hashing: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
 * Every client hashes to a row of a table that each server filled in the order of its own permutation: shares are
 * within about one percent of the weights, and a server that leaves moves few clients of the others. No secret goes in: balancers that
 * know the same servers choose alike.
 */
import type { Candidate, Scheduler } from './scheduler.ts';

/** The paper's table sizes, both prime: M should be 100 times the servers or more (section 5.3). */
export const SMALL_TABLE = 65537;
export const LARGE_TABLE = 655373;

/** A table of the right size; 3 ms for 3 servers, 70 ms for 700 (measured), 40 ms for a first one: not to be made where packets wait. */
export function prepareMaglev(candidates: readonly Candidate[]): Uint16Array {
  return maglevTable(candidates, candidates.length * 100 > SMALL_TABLE ? LARGE_TABLE : SMALL_TABLE);
}

/** By the client's address and port. */
export function maglev(table: Uint16Array): Scheduler {
  return { pick: (address, port) => table[clientHash(address, port) % table.length] };
}

/** By the client's address alone: a client stays with its server. */
export function source(table: Uint16Array): Scheduler {
  return { pick: (address) => table[clientHash(address, 0) % table.length] };
}

/**
 * The lookup table: `size` (a prime) rows, each the position of a candidate. In shared memory: other threads get it without a copy.
 * Servers take their turns in the order of their names: two files may list them in different orders.
 */
export function maglevTable(unordered: readonly Candidate[], size: number): Uint16Array {
  const positions = byName(unordered);
  const candidates = positions.map((position) => unordered[position]);
  const table = new Uint16Array(new SharedArrayBuffer(size * Uint16Array.BYTES_PER_ELEMENT));
  // One alone has every row: most backends of a large file have one, or one that is up.
  if (candidates.length === 1) return table;
  const taken = new Uint8Array(size);
  const next = candidates.map((candidate) => nameHash(candidate.name, 0x9e3779b9) % size);
  const skip = candidates.map((candidate) => (nameHash(candidate.name, 0x85ebca6b) % (size - 1)) + 1);
  // Section 3.4: weights are the relative frequency of turns. The heaviest takes one every round, the t-th turn of any
  // other is in round ⌈t × heaviest / weight⌉. A calendar of rounds tells whose turn it is: asking every candidate in
  // every round took seconds for thousands of them with one much heavier than the rest.
  const heaviest = Math.max(...candidates.map((candidate) => candidate.weight));
  const turns = new Float64Array(candidates.length);
  const calendar = new Int32Array(size + 1).fill(-1);
  const follower = new Int32Array(candidates.length);
  const schedule = (i: number): void => {
    const round = Math.ceil((++turns[i] * heaviest) / candidates[i].weight);
    if (!(round <= size)) return; // not before the table is full, or never: weight 0
    follower[i] = calendar[round];
    calendar[round] = i;
  };
  for (let i = 0; i < candidates.length; i++) schedule(i);
  const due = new Int32Array(candidates.length);
  for (let round = 1, filled = 0; round <= size; round++) {
    // Who was put down last stands first. From its end on, and those of equal weights are in order; an array a round would be 65,537.
    let first = due.length;
    for (let i = calendar[round]; i >= 0; i = follower[i]) due[--first] = i;
    if (!isAscending(due, first)) due.subarray(first).sort();
    for (let turn = first; turn < due.length; turn++) {
      const i = due[turn];
      let row = next[i];
      while (taken[row] === 1) row = after(row, skip[i], size);
      taken[row] = 1;
      table[row] = positions[i];
      next[i] = after(row, skip[i], size);
      if (++filled === size) return table;
      schedule(i);
    }
  }
  return table;
}

/** The row `skip` rows on, without a division: both are below `size`. */
function after(row: number, skip: number, size: number): number {
  const on = row + skip;
  return on < size ? on : on - size;
}

function isAscending(numbers: Int32Array, first: number): boolean {
  for (let i = first + 1; i < numbers.length; i++) if (numbers[i - 1] > numbers[i]) return false;
  return true;
}

/** Positions in the order of the candidates' names, by code unit: the same on every host, whatever its locale. */
function byName(candidates: readonly Candidate[]): number[] {
  const name = (position: number) => candidates[position].name;
  return [...candidates.keys()].sort((a, b) => (name(a) < name(b) ? -1 : Number(name(a) > name(b))));
}

/** Murmur3's finaliser over address and port: unsigned 32 bits. */
function clientHash(address: number, port: number): number {
  return mix(Math.imul(mix(address), 0x9e3779b1) + port) >>> 0;
}

/** FNV-1a over the name, mixed: unsigned 32 bits. */
function nameHash(name: string, seed: number): number {
  let h = 0x811c9dc5 ^ seed;
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193);
  return mix(h) >>> 0;
}

function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
