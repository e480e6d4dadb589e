/**
 * CARP, the Cache Array Routing Protocol: draft-vinod-carp-v1-03, section 3. Every server has a score for every client, and the highest takes the
 * connection: a server that comes or goes moves its own clients alone, and balancers that know the same servers choose alike. The key is the client's
 * address in dotted form, where the draft has a URL. It is hashed once, as the draft says; Squid 7 goes on with the hash of the server
 * before, which is not this, and chooses otherwise.
 */
import type { Candidate, Scheduler } from './scheduler.ts';

/** The draft's constant. */
const FACTOR = 0x62531965;
/** A smaller share counts as none: the draft gives load factors in thousandths. */
const LEAST_SHARE = 0.001;
const DOT = 0x2e;
const ZERO = 0x30;

/** By the client's address alone. O(servers) a pick: the tables of maglev and source are faster where there are hundreds. */
export function carp(candidates: readonly Candidate[]): Scheduler {
  const members = new Uint32Array(candidates.map(({ name }) => memberHash(name)));
  const factors = multipliers(candidates.map(({ weight }) => weight));
  return {
    pick(address) {
      const key = addressHash(address);
      let best = 0;
      let highest = -1;
      for (let i = 0; i < members.length; i++) {
        const score = scatter(key ^ members[i]) * factors[i];
        if (score <= highest) continue;
        highest = score;
        best = i;
      }
      return best;
    },
  };
}

/** What names hash to: h += rotl(h, 19) + c of each character. */
export function keyHash(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = step(hash, text.charCodeAt(i));
  return hash >>> 0;
}

/** A server's: its name's, scattered. */
export function memberHash(name: string): number {
  return scatter(keyHash(name));
}

/**
 * What scores are multiplied with, so that shares are as the weights: with the shares P in ascending order, 1 ≤ k ≤ K,
 * X(k) = (((K-k+1) (P(k) - P(k-1))) / (X(1) … X(k-1)) + X(k-1)^(K-k+1))^(1/(K-k+1)).
 */
export function multipliers(weights: readonly number[]): Float64Array {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const shares = weights.map((weight) => (weight / total < LEAST_SHARE ? 0 : weight / total));
  const order = [...weights.keys()].sort((a, b) => shares[a] - shares[b]);
  const factors = new Float64Array(weights.length);
  let [share, last, product] = [0, 0, 1];
  for (const [done, position] of order.entries()) {
    const left = weights.length - done;
    // Those without a share stay at 0, and are no part of the product.
    if (shares[position] === 0) continue;
    last = ((left * (shares[position] - share)) / product + last ** left) ** (1 / left);
    share = shares[position];
    product *= last;
    factors[position] = last;
  }
  return factors;
}

/** Of `192.0.2.1` as text, without making one: this runs where packets wait. */
function addressHash(address: number): number {
  let hash = 0;
  for (let shift = 0; shift < 32; shift += 8) {
    const byte = (address >>> shift) & 255;
    if (shift > 0) hash = step(hash, DOT);
    if (byte >= 100) hash = step(hash, ZERO + Math.trunc(byte / 100));
    if (byte >= 10) hash = step(hash, ZERO + (Math.trunc(byte / 10) % 10));
    hash = step(hash, ZERO + (byte % 10));
  }
  return hash;
}

function step(hash: number, character: number): number {
  return (hash + rotate(hash, 19) + character) | 0;
}

/** Unsigned 32 bits. */
function scatter(hash: number): number {
  return rotate((hash + Math.imul(hash, FACTOR)) | 0, 21) >>> 0;
}

function rotate(hash: number, bits: number): number {
  return (hash << bits) | (hash >>> (32 - bits));
}
