/** The frontends' lists of clients as the fast path's programs read them (native/bpf/access.h): one book of all, which takes the place of the last one. */
import type { PrefixTable } from '../access/prefix-table.ts';
import { FailureError } from '../errors.ts';
import { endpointHash, portKey } from '../forward/endpoints.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import type { FastPath } from '../io/fast-path.ts';
import { MAX_FRONTENDS } from '../layout/counters.ts';
import { COLUMNS, DRY_RUN, LIST_PAIRS, LISTS, NOTHING, PLACE_PAIRS, PLACE_PROBES, RESETS, SYNS } from '../layout/early-drop.ts';
import { swap16 } from '../packet/address.ts';
import { TCP, UDP } from '../packet/fields.ts';

type Entry = ServiceSet['frontends'][number];

/** Frontends a place at most. */
const LOAD = 0.5;
/** Bytes of a book at most: what createArray takes (native/addon_bpf.cc). */
const MOST_BYTES = 1 << 27;
const PAIR_BYTES = 2 * Uint32Array.BYTES_PER_ELEMENT;

/** Keeps the book of a fast path true to the frontends. */
export class AccessBook {
  readonly #fastPath: Pick<FastPath, 'ask'>;
  /** What the book in force was made of. */
  #made: readonly unknown[] | undefined;

  constructor(fastPath: Pick<FastPath, 'ask'>) {
    this.#fastPath = fastPath;
  }

  /**
   * Has the programs go by these frontends, all of them at once. Most plans change none.
   * @throws the system's error, or a FailureError for lists that are too long: then they go by no list, and user space has it all. Lists that have failed are
   * not tried again until something changes.
   */
  apply(frontends: readonly Entry[]): void {
    const asked = askedOf(frontends);
    const made = asked.flatMap((entry) => [entry.index, entry.address, keyOf(entry), flagsOf(entry), entry.access?.table]);
    if (made.length === this.#made?.length && made.every((value, i) => value === this.#made?.[i])) return;
    this.#made = undefined;
    try {
      this.#ask(asked);
    } catch (error) {
      if (!asked.some(hasList)) throw error;
      // Whether a SYN has come before needs no list.
      this.#ask(askedOf(frontends.map((entry) => ({ ...entry, access: undefined }))));
      this.#made = made;
      throw error;
    }
    this.#made = made;
  }

  #ask(asked: readonly Entry[]): void {
    try {
      if (asked.length === 0) this.#fastPath.ask(NOTHING, undefined);
      else this.#fastPath.ask(asked.some(hasList) ? LISTS : SYNS, bookOf(asked));
    } catch (error) {
      // The last book must not stay in force where there is no other one.
      this.#fastPath.ask(NOTHING, undefined);
      throw error;
    }
  }
}

/** Whether a program goes by a list of its. */
export function hasList({ access }: Entry): boolean {
  return access?.table !== undefined;
}

/** Those of which a program may drop something: of UDP lists alone keep clients out. Of two on one endpoint the one that is found (forward/services.ts). */
function askedOf(frontends: readonly Entry[]): Entry[] {
  const found = new Map<string, Entry>();
  for (const entry of [...frontends].sort((a, b) => Number(a.draining) - Number(b.draining))) {
    const key = `${entry.address} ${keyOf(entry)}`;
    if (!found.has(key)) found.set(key, entry);
  }
  return [...found.values()].filter(({ protocol, access }) => protocol === TCP || (protocol === UDP && access?.table !== undefined));
}

/** As layout/early-drop.ts has it. Throws a FailureError where it would be too long. */
export function bookOf(frontends: readonly Entry[]): Uint32Array {
  const places = placesOf(frontends);
  const lists = new Map<PrefixTable, number>();
  let end = 1 + PLACE_PAIRS * places.length;
  for (const table of tablesOf(frontends)) {
    lists.set(table, end);
    end += pairsOf(table);
  }
  const bytes = end * PAIR_BYTES;
  if (bytes > MOST_BYTES) {
    const [wanted, most] = [bytes, MOST_BYTES].map((size) => Math.ceil(size / 2 ** 20));
    throw new FailureError(
      `the frontends' lists of clients would take ${wanted} MB of the kernel's memory, at most ${most} are allowed: workers alone refuse by them`,
    );
  }
  const book = new Uint32Array(2 * end);
  book[0] = places.length - 1;
  places.forEach((entry, place) => {
    if (entry === undefined) return;
    const list = entry.access?.table === undefined ? 0 : lists.get(entry.access.table)!;
    book.set([entry.address, keyOf(entry), list, entry.index | flagsOf(entry)], 2 * (1 + PLACE_PAIRS * place));
  });
  for (const [table, at] of lists) writeList(book, at, table);
  return book;
}

/** Those of IPv4, each once. */
function tablesOf(frontends: readonly Entry[]): Set<PrefixTable> {
  return new Set(frontends.flatMap(({ access }) => access?.table ?? []));
}

/** Pairs of a list. */
function pairsOf({ index, rules }: PrefixTable): number {
  return LIST_PAIRS + (index.length - 1) + rules.length;
}

/**
 * Bytes of the kernel's memory that early drops take: two books, since one takes the place of another, and a row of counts each frontend and worker for each processor.
 * @param processors that there may be
 */
export function earlyDropBytes(frontends: readonly Entry[], workers: number, processors: number): number {
  const lists = [...tablesOf(frontends)].reduce((sum, table) => sum + pairsOf(table), 0);
  const places = (2 * PLACE_PAIRS * frontends.length) / LOAD;
  const book = Math.min((places + lists) * PAIR_BYTES, MOST_BYTES);
  return 2 * book + (MAX_FRONTENDS + workers) * COLUMNS * BigUint64Array.BYTES_PER_ELEMENT * processors;
}

function writeList(book: Uint32Array, at: number, { starts, rules, index, shift }: PrefixTable): void {
  const first = at + LIST_PAIRS + index.length - 1;
  book.set([first, shift], 2 * at);
  for (let place = 0; place + 1 < index.length; place++) {
    book[2 * (at + LIST_PAIRS + place)] = index[place];
    book[2 * (at + LIST_PAIRS + place) + 1] = index[place + 1];
  }
  for (let range = 0; range < rules.length; range++) {
    book[2 * (first + range)] = starts[range];
    book[2 * (first + range) + 1] = rules[range];
  }
}

/** Each at its home, or one of those behind it that a program looks at; their number is a power of two. */
function placesOf(frontends: readonly Entry[]): (Entry | undefined)[] {
  for (let count = 2 ** Math.ceil(Math.log2(Math.max(1, frontends.length) / LOAD)); ; count *= 2) {
    const places = Array.from<undefined, Entry | undefined>({ length: count }, () => undefined);
    if (frontends.every((entry) => place(places, entry))) return places;
  }
}

function place(places: (Entry | undefined)[], entry: Entry): boolean {
  const home = endpointHash(entry.address, keyOf(entry));
  for (let probe = 0; probe < PLACE_PROBES; probe++) {
    const at = (home + probe) & (places.length - 1);
    if (places[at] !== undefined) continue;
    places[at] = entry;
    return true;
  }
  return false;
}

/** The port as in a packet, with the protocol above it. */
function keyOf({ port, protocol }: Entry): number {
  return portKey(swap16(port), protocol);
}

function flagsOf({ access }: Entry): number {
  return (access?.resets === true ? RESETS : 0) | (access?.dryRun === true ? DRY_RUN : 0);
}
