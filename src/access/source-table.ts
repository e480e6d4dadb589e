/**
 * What each source has: connections now, and when it may open the next one. One table of a fixed size, of all workers, without locks: sets
 * of five that are a cache line each, found by a keyed hash that nobody can aim at.
 *
 * A place is a word with a tag of the source and its connections, changed by compare-and-swap alone, so that none is counted for somebody
 * else; beside it when it last opened one, and its rate. A place whose source has no connection goes to others: first of those one whose
 * source may open as many as ever, which loses nothing, then the one that is nearest to it. Where all five have some, a new source finds none: then it is not
 * limited, and counts when there is room (the sweep asks again).
 */

const PLACE = 3;
const WAYS = 5;
/** A cache line. */
const SET_SHIFT = 4;
/** Words of a place: tag and connections; milliseconds on the clock of frames; when its tokens are full again. */
const WORD = 0;
const SEEN = 1;
const FULL_AT = 2;

/** Connections stand in the lower half of a place's word. */
const COUNT = 0xffff;
/** Connections of one source that can be told apart. */
export const MOST_COUNTED = COUNT;
/** Looks at a place that other workers change, before it is let be. */
const TRIES = 64;
/** The clock of rates: parts of a millisecond, modulo 2^32. */
const TICKS = 1024;
/** So many milliseconds a worker's clock may be behind another's: it stands still for the frames of a batch, whose worker may not be let run. */
const BEHIND_MS = 60_000;
/** Sets there are at least and at most: 256 KB and 64 MB, of which what nobody's limits touch takes no memory. */
const LEAST_SETS = 4096;
const MOST_SETS = 2 ** 20;

/** Bytes for the sources of so many connections: more than a place for each. */
export function sourceBytes(connections: number): number {
  const sets = Math.min(MOST_SETS, Math.max(LEAST_SETS, 2 ** Math.ceil(Math.log2(connections / WAYS))));
  return (sets << SET_SHIFT) * Int32Array.BYTES_PER_ELEMENT;
}

export function sourceMemory(connections: number): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(sourceBytes(connections)));
}

/** How often a source may open a connection, as {@link SourceTable.take} goes by it. */
export interface Rate {
  /** Ticks from one to the next. */
  readonly step: number;
  /** Ticks that may be taken in advance: those of a second, or of one connection where that is more. */
  readonly burst: number;
}

/** The slowest that the clock of rates can tell, a second. */
export const SLOWEST_RATE = 0.001;

/** @param perSecond SLOWEST_RATE or more */
export function rateOf(perSecond: number): Rate {
  const step = Math.max(1, Math.round((1000 * TICKS) / perSecond));
  return { step, burst: Math.max(step, 1000 * TICKS) };
}

/** Whoever has been silent for so many ticks may open as many as ever, whatever his rate. */
const MOST_BURST = rateOf(SLOWEST_RATE).burst;

/** What {@link SourceTable.makeRoom} says. */
export const Room = { none: 0, there: 1, anothers: 2 } as const;

/** A source's hash: of up to four words of its address, and of whose limits. Never 0. */
export function sourceHash(seed: number, owner: number, first: number, second = 0, third = 0, fourth = 0): number {
  const hash = mix(mix(mix(mix(mix(seed, owner), first), second), third), fourth);
  return hash === 0 ? 1 : hash;
}

/** MurmurHash3's round and finish. */
function mix(hash: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = Math.imul((k << 15) | (k >>> 17), 0x1b873593);
  let h = hash ^ k;
  h = Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** One worker's hands on it. Sources are named by {@link sourceHash}. */
export class SourceTable {
  readonly #words: Int32Array;
  readonly #shift: number;

  /** @param words of {@link sourceMemory} */
  constructor(words: Int32Array) {
    this.#words = words;
    this.#shift = 32 - Math.log2(words.length >>> SET_SHIFT);
  }

  /**
   * Sees to it that a source has a place ({@link Room}): `none`, where each of its set has connections of somebody else; `anothers`, where somebody who may not
   * open as many as ever yet had to be forgotten for it. `now` in ms modulo 2^32.
   */
  makeRoom(hash: number, now: number): number {
    if (this.#find(hash) >= 0) return Room.there;
    const free = this.#leastMissed(this.#setOf(hash), now);
    const isMissed = free >= 0 && Atomics.load(this.#words, free + WORD) !== 0 && this.#ahead(free, MOST_BURST, now) > 0;
    if (this.#place(hash, now) < 0) return Room.none;
    return isMissed ? Room.anothers : Room.there;
  }

  /** Connections of a source that are counted. */
  countOf(hash: number): number {
    const at = this.#find(hash);
    return at < 0 ? 0 : Atomics.load(this.#words, at + WORD) & COUNT;
  }

  /** Counts one more connection of a source. False where there is no place for it. */
  enter(hash: number, now: number): boolean {
    const words = this.#words;
    for (let tries = TRIES; tries > 0; tries--) {
      const at = this.#place(hash, now);
      if (at < 0) return false;
      const word = Atomics.load(words, at + WORD);
      if (tagOf(word) !== this.#tagOf(hash)) continue;
      if ((word & COUNT) === MOST_COUNTED) return false;
      if (Atomics.compareExchange(words, at + WORD, word, word + 1) === word) return true;
    }
    return false;
  }

  /** Takes back what {@link enter} has counted. */
  leave(hash: number): void {
    const words = this.#words;
    // Others change it for a moment at most.
    for (;;) {
      const at = this.#find(hash);
      if (at < 0) return;
      const word = Atomics.load(words, at + WORD);
      if ((word & COUNT) === 0) return;
      if (Atomics.compareExchange(words, at + WORD, word, word - 1) === word) return;
    }
  }

  /** Whether a source may open one more connection now by its rate (GCRA, as ITU-T I.371 has it), which then is taken. `now` in ms modulo 2^32. */
  take(hash: number, { step, burst }: Rate, now: number): boolean {
    const words = this.#words;
    const at = this.#place(hash, now);
    if (at < 0) return true;
    for (let tries = TRIES; tries > 0; tries--) {
      const fullAt = Atomics.load(words, at + FULL_AT);
      const ahead = this.#ahead(at, burst, now);
      if (ahead + step > burst) return false;
      if (Atomics.compareExchange(words, at + FULL_AT, fullAt, (Math.imul(now, TICKS) + ahead + step) | 0) !== fullAt) continue;
      words[at + SEEN] = now;
      return true;
    }
    return false;
  }

  /** Ticks that the source of a place has taken in advance. After a longer silence than `burst` none, whatever stands there: the clock goes round. */
  #ahead(at: number, burst: number, now: number): number {
    const words = this.#words;
    const silence = ((now - words[at + SEEN] + BEHIND_MS) >>> 0) - BEHIND_MS;
    return silence * TICKS > burst ? 0 : Math.max(0, (Atomics.load(words, at + FULL_AT) - Math.imul(now, TICKS)) | 0);
  }

  #tagOf(hash: number): number {
    // The upper bits say which set; two hashes of a set whose lower halves are alike are one source.
    const tag = hash & 0xffff;
    return tag === 0 ? 1 : tag;
  }

  #setOf(hash: number): number {
    return (hash >>> this.#shift) << SET_SHIFT;
  }

  /** The word of a source's place, -1: it has none. */
  #find(hash: number): number {
    const words = this.#words;
    const set = this.#setOf(hash);
    const tag = this.#tagOf(hash);
    for (let at = set; at < set + WAYS * PLACE; at += PLACE) if (tagOf(Atomics.load(words, at + WORD)) === tag) return at;
    return -1;
  }

  /** The same, and takes one where it has none: -1 where none is free. */
  #place(hash: number, now: number): number {
    const words = this.#words;
    for (let tries = WAYS; tries > 0; tries--) {
      const known = this.#find(hash);
      if (known >= 0) return known;
      const free = this.#leastMissed(this.#setOf(hash), now);
      if (free < 0) return -1;
      const word = Atomics.load(words, free + WORD);
      if ((word & COUNT) !== 0) continue;
      const own = this.#tagOf(hash) << 16;
      if (Atomics.compareExchange(words, free + WORD, word, own) !== word) continue;
      words[free + SEEN] = now;
      words[free + FULL_AT] = Math.imul(now, TICKS);
      // Another worker may have made one, too: who finds that gives up its own.
      if (!this.#isTwice(hash, free)) return free;
      Atomics.compareExchange(words, free + WORD, own, 0);
    }
    return -1;
  }

  #isTwice(hash: number, own: number): boolean {
    const words = this.#words;
    const set = this.#setOf(hash);
    const tag = this.#tagOf(hash);
    for (let at = set; at < set + WAYS * PLACE; at += PLACE) if (at !== own && tagOf(Atomics.load(words, at + WORD)) === tag) return true;
    return false;
  }

  /** An empty place, or of those without a connection the one whose source has taken least in advance; -1: there is none. */
  #leastMissed(set: number, now: number): number {
    const words = this.#words;
    let best = -1;
    let least = Infinity;
    for (let at = set; at < set + WAYS * PLACE; at += PLACE) {
      const word = Atomics.load(words, at + WORD);
      if (word === 0) return at;
      if ((word & COUNT) !== 0) continue;
      const ahead = this.#ahead(at, MOST_BURST, now);
      if (ahead >= least) continue;
      best = at;
      least = ahead;
    }
    return best;
  }
}

function tagOf(word: number): number {
  return word >>> 16;
}
