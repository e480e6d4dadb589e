/** A frontend's rules as workers go by them, on its first packets and on clients that are accepted: who may connect, and how often. */
import { CROWDED, REFUSED_DRY, refusalRow } from '../layout/counters.ts';
import { swap32 } from '../packet/address.ts';
import { maskOf } from './prefix-list.ts';
import { ADMITTED, type PrefixTable, ruleOf, ruleOf6 } from './prefix-table.ts';
import { type Rate, Room, rateOf, type SourceTable, sourceHash } from './source-table.ts';

export { CROWDED, REFUSALS, REFUSALS_LENGTH, REFUSED_DRY, refusalRow } from '../layout/counters.ts';

/** Plain data that crosses threads. */
export interface Access {
  /** By family; undefined: all of it may connect. */
  readonly table?: PrefixTable | undefined;
  readonly table6?: PrefixTable | undefined;
  /** New connections a second and connections at a time that a source may have; 0: no limit. */
  readonly sourceRate: number;
  readonly sourceMaxconn: number;
  /** Bits of an IPv4 address that make a source; of IPv6 it is SOURCE_BITS_6. */
  readonly sourceBits: number;
  /** Who is refused is told, by a reset. */
  readonly resets: boolean;
  /** Who would be refused is counted, and let in. */
  readonly dryRun: boolean;
}

/** Bits of an IPv6 address that make a source: what a subscriber has at least. */
const SOURCE_BITS_6 = 64;

/** Columns of the counters: lists have those of their rules (prefix-table.ts), limits these. */
export const OVER_RATE = 0;
export const OVER_MAXCONN = 7;

/** What a source of a frontend, by its index, is known by: the first `bits` bits of an address. */
export function hashOfSource(seed: number, frontend: number, address: number, bits: number): number {
  return sourceHash(seed, (frontend << 8) | bits, swap32(address) & maskOf(bits));
}

export interface GuardParts {
  readonly sources: SourceTable;
  /** Of this worker: layout/counters.ts. */
  readonly refusals: Float64Array;
  /** That of the sources' hashes. */
  readonly seed: number;
}

/** Allocates nothing once it is made. Addresses are native words of packets; those of IPv6 four words in host order. */
export class Guard {
  readonly resets: boolean;
  /** How many bits of a source are counted; 0: connections are not. */
  readonly countedBits: number;
  readonly #access: Access;
  readonly #rate: Rate | undefined;
  readonly #row: number;
  readonly #crowded: number;
  readonly #index: number;
  readonly #parts: GuardParts;

  /** @param index the frontend's */
  constructor(access: Access, index: number, parts: GuardParts) {
    this.resets = access.resets;
    this.countedBits = access.sourceMaxconn > 0 ? access.sourceBits : 0;
    this.#access = access;
    this.#rate = access.sourceRate > 0 ? rateOf(access.sourceRate) : undefined;
    this.#row = refusalRow(index) + (access.dryRun ? REFUSED_DRY : 0);
    this.#crowded = refusalRow(index) + CROWDED;
    this.#index = index;
    this.#parts = parts;
  }

  /** Whether lists keep an address out, which then is counted. */
  denies(address: number): boolean {
    const { table } = this.#access;
    return table !== undefined && this.#refuses(ruleOf(table, swap32(address) >>> 0));
  }

  denies6(words: readonly number[]): boolean {
    const { table6 } = this.#access;
    return table6 !== undefined && this.#refuses(ruleOf6(table6, words));
  }

  /** Whether limits keep one more connection of a source out, which then is counted; else its rate has been told of it. `now` in ms modulo 2^32. */
  limits(address: number, now: number): boolean {
    const { sourceBits } = this.#access;
    return this.#isLimited(this.hashOf(address, sourceBits), now);
  }

  limits6(words: readonly number[], now: number): boolean {
    return this.#isLimited(this.hashOf6(words), now);
  }

  /** What a source with that many bits is known by. */
  hashOf(address: number, bits: number): number {
    return hashOfSource(this.#parts.seed, this.#index, address, bits);
  }

  hashOf6([first, second]: readonly number[]): number {
    return sourceHash(this.#parts.seed, (this.#index << 8) | SOURCE_BITS_6, first, second);
  }

  #isLimited(hash: number, now: number): boolean {
    const { sourceMaxconn } = this.#access;
    const { sources, refusals } = this.#parts;
    if (sourceMaxconn === 0 && this.#rate === undefined) return false;
    if (sources.makeRoom(hash, now) !== Room.there) refusals[this.#crowded]++;
    if (sourceMaxconn > 0 && sources.countOf(hash) >= sourceMaxconn) return this.#count(OVER_MAXCONN);
    if (this.#rate !== undefined && !sources.take(hash, this.#rate, now)) return this.#count(OVER_RATE);
    return false;
  }

  #refuses(rule: number): boolean {
    return rule !== ADMITTED && this.#count(rule);
  }

  #count(column: number): boolean {
    this.#parts.refusals[this.#row + column]++;
    return !this.#access.dryRun;
  }
}
