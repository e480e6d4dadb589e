/**
 * Clients stay with their server for a while after their last connection: a bounded table of all workers (layout/affinity.ts), which
 * the opener asks before the scheduler. Written when a connection opens, which proves little, and when it is established; renewed by the
 * sweep while it lives.
 *
 * Whoever forges addresses can open connections, and have his datagrams answered, and so takes places of others that have proven nothing, or
 * whose time is over: a place that a handshake has proven goes to another proven client alone, and first that whose time ends first.
 *
 * A set is locked by one compare-and-swap, for some nanoseconds, with the time in the lock: who died with it in hand holds it for a second.
 * Where another has it for longer than a few looks, nobody waits: it is as if the client were not known.
 */
import * as A from '../layout/affinity.ts';
import type { HashKey } from '../layout/memory.ts';

/** What a backend says of it. */
export interface Affinity {
  readonly ms: number;
}

/** A server of a backend, as a service set has it. */
interface BondServer {
  readonly index: number;
  readonly address: number;
  readonly peer?: number;
}

/** A backend's half: its servers as the table knows them. */
export class Bond {
  readonly ms: number;
  /** By a word of the table: the position among the candidates. */
  readonly #positions = new Map<number, number>();
  /** By the index of a server, those that may not be chosen too. */
  readonly #words = new Map<number, number>();
  readonly #known: ReadonlySet<number>;

  /** @param candidates those of `servers` that may be chosen, by position */
  constructor({ ms }: Affinity, servers: readonly BondServer[], candidates: readonly BondServer[]) {
    this.ms = ms;
    for (const server of servers) this.#words.set(server.index, wordOf(server));
    for (const [position, server] of candidates.entries()) this.#positions.set(wordOf(server), position);
    this.#known = new Set(this.#words.values());
  }

  /** The position of a server that may be chosen, -1 where it is none, or another backend's. */
  positionOf(word: number): number {
    return this.#positions.get(word & ~A.PROVEN) ?? -1;
  }

  /** Whether a word of the table is of one of its servers, that of one that left it included, with `affinity_across` that of another protocol. */
  knows(word: number): boolean {
    return this.#known.has(word & ~A.PROVEN);
  }

  /** The index of the server that a word of the table is of, whether it may be chosen or not; undefined: it is another backend's. */
  serverOf(word: number): number | undefined {
    return [...this.#words].find(([, own]) => own === (word & ~A.PROVEN))?.[0];
  }

  /** What the table has of a server, by its index; 0: it is not of this backend. */
  wordOf(index: number): number {
    return this.#words.get(index) ?? 0;
  }
}

/** An index may pass to another server: then the address tells. 0 is none: the lowest bit of the upper half is set. */
function wordOf({ index, address, peer = index }: BondServer): number {
  return (((address ^ (address >>> 16)) | 1) << 16) | (peer & A.INDEX);
}

/** Nobody has proven anything by a first packet: for so long at most, in ms. */
const UNPROVEN_MS = 10_000;

/** Times further ahead than a file can ask for have passed long since: the clock has 32 bits. */
const MOST_MS = 604_800_000;
/** Looks at a lock that another worker has. */
const LOOKS = 100;
/** Nobody holds one for so many ms. */
const DEAD_MS = 1000;

/** Before all whose time is not over, in ms. */
const OVER = -(2 ** 33);

/** The table, as one worker uses it. */
export class Bonds {
  readonly #words: Int32Array;
  readonly #sets: number;
  readonly #seed: number;
  readonly #multiplier: number;
  #evicted = 0;

  constructor(words: Int32Array, [seed, multiplier]: HashKey) {
    this.#words = words;
    this.#sets = Math.floor(words.length / A.SET);
    this.#seed = seed;
    this.#multiplier = multiplier;
  }

  /** Clients whose time was not over when their place went to others, since the start. */
  get evicted(): number {
    return this.#evicted;
  }

  /** The position among the candidates of the server that a client is to stay with, -1: whichever. */
  find(bond: Bond, client: number, now: number): number {
    const set = this.#setOf(client);
    if (!this.#lock(set, now)) return -1;
    const words = this.#words;
    let position = -1;
    for (let at = set + A.CLIENTS; at < set + A.SET && position < 0; at += A.CLIENT) {
      // A time too far ahead is none: the clock has gone round since.
      const left = (words[at + A.UNTIL] - now) | 0;
      if (words[at + A.ADDRESS] === client && left > 0 && left <= bond.ms) position = bond.positionOf(words[at + A.SERVER]);
    }
    this.#unlock(set);
    return position;
  }

  /**
   * The server that a client is with, by its index, and for how many ms yet; undefined: with none. For who only looks: no worker finds the set
   * locked by it. While a worker writes it may be wrong.
   */
  peek(bond: Bond, client: number, now: number): { readonly server: number; readonly leftMs: number } | undefined {
    const set = this.#setOf(client);
    const words = this.#words;
    for (let at = set + A.CLIENTS; at < set + A.SET; at += A.CLIENT) {
      const leftMs = (words[at + A.UNTIL] - now) | 0;
      if (words[at + A.ADDRESS] !== client || leftMs <= 0 || leftMs > bond.ms) continue;
      const server = bond.serverOf(words[at + A.SERVER]);
      if (server !== undefined) return { server, leftMs };
    }
    return undefined;
  }

  /** A client's first packet goes to a server, by its index. */
  open(bond: Bond, client: number, server: number, now: number): void {
    const word = bond.wordOf(server);
    if (word !== 0) this.#write(bond, client, word, Math.min(bond.ms, UNPROVEN_MS), now, true);
  }

  /**
   * A connection to a server, by its index, is established, goes on, or ends. Of several servers the one that the client was sent to last counts.
   * @param isProven by a handshake: datagrams show nothing, since who forges one is answered as well
   */
  renew(bond: Bond, client: number, server: number, now: number, isProven: boolean): void {
    const word = bond.wordOf(server);
    if (word !== 0) this.#write(bond, client, isProven ? word | A.PROVEN : word, bond.ms, now, false);
  }

  /** @param moves another server of the backend that the client has is no longer its own */
  #write(bond: Bond, client: number, word: number, ms: number, now: number, moves: boolean): void {
    const set = this.#setOf(client);
    if (!this.#lock(set, now)) return;
    const at = this.#placeFor(set, bond, client, word, now);
    if (at >= 0) this.#store(at, client, word, ms, bond.ms, now, moves);
    this.#unlock(set);
  }

  #store(at: number, client: number, word: number, ms: number, most: number, now: number, moves: boolean): void {
    const words = this.#words;
    const left = (words[at + A.UNTIL] - now) | 0;
    const isItsOwn = words[at + A.ADDRESS] === client && left > 0 && left <= MOST_MS;
    const known = words[at + A.SERVER];
    const isSame = isItsOwn && ((known ^ word) & ~A.PROVEN) === 0;
    if (isItsOwn && !isSame && !moves) return;
    words[at + A.ADDRESS] = client;
    words[at + A.SERVER] = isSame ? known | word : word;
    // A file that asks for less than when it was entered has its way from now on.
    words[at + A.UNTIL] = now + (isSame ? Math.min(Math.max(left, ms), most) : ms);
  }

  /**
   * The place of a client and backend in a set: its own, else one whose time is over, else one that is not proven, and for a proven client
   * that whose time ends first. -1: none.
   */
  #placeFor(set: number, bond: Bond, client: number, word: number, now: number): number {
    const words = this.#words;
    let best = -1;
    let least = Number.POSITIVE_INFINITY;
    for (let at = set + A.CLIENTS; at < set + A.SET; at += A.CLIENT) {
      const left = (words[at + A.UNTIL] - now) | 0;
      const isOver = words[at + A.ADDRESS] === 0 || left <= 0 || left > MOST_MS;
      const server = words[at + A.SERVER];
      if (!isOver && words[at + A.ADDRESS] === client && bond.knows(server)) return at;
      // Those that are over come first, then those unproven.
      const rank = isOver ? OVER : (server & A.PROVEN) === 0 ? left - 2 ** 32 : left;
      if (rank >= least) continue;
      best = at;
      least = rank;
    }
    if (least >= 0 && (word & A.PROVEN) === 0) return -1;
    if (least > OVER) this.#evicted++;
    return best;
  }

  #setOf(client: number): number {
    const mixed = Math.imul(client ^ this.#seed, this.#multiplier);
    return Math.floor(((Math.imul(mixed ^ (mixed >>> 15), this.#multiplier) >>> 0) * this.#sets) / 2 ** 32) * A.SET;
  }

  #lock(set: number, now: number): boolean {
    const mine = now | 1;
    let held = 0;
    for (let looks = 0; looks < LOOKS; looks++) {
      held = Atomics.compareExchange(this.#words, set + A.LOCK, 0, mine);
      if (held === 0) return true;
    }
    const age = (now - held) | 0;
    return (age > DEAD_MS || age < -DEAD_MS) && Atomics.compareExchange(this.#words, set + A.LOCK, held, mine) === held;
  }

  #unlock(set: number): void {
    Atomics.store(this.#words, set + A.LOCK, 0);
  }
}
