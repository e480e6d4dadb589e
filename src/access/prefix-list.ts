/** Prefixes of both families, compact, since there may be a hundred thousand. */

/** Words of an address of each family. */
export const WORDS = { 4: 1, 6: 4 } as const;
export type Family = keyof typeof WORDS;

/** The first address of each prefix, most significant word first, words unsigned and in host order, and how many bits count. */
export interface Prefixes {
  readonly firsts: readonly number[];
  readonly bits: readonly number[];
}

/** One list. What is in it is private, so that whoever freezes or prints a configuration passes it by. */
export class PrefixList {
  readonly #prefixes: Record<Family, { firsts: number[]; bits: number[] }> = { 4: { firsts: [], bits: [] }, 6: { firsts: [], bits: [] } };

  /** Prefixes of both families. */
  get size(): number {
    return this.of(4).bits.length + this.of(6).bits.length;
  }

  of(family: Family): Prefixes {
    return this.#prefixes[family];
  }

  /** @param first no bit of it is set beyond the first `bits`, 0 to 32 a word */
  add(family: Family, first: readonly number[], bits: number): void {
    const prefixes = this.#prefixes[family];
    prefixes.firsts.push(...first);
    prefixes.bits.push(bits);
  }
}

/** A frontend's `allow` or `deny`: the file's entries for people, and what is in them for whoever makes a table. */
export class AccessList {
  /** As the file has it, with how many prefixes are in each of its files. */
  readonly summary: string;
  readonly #inline: PrefixList;
  readonly #files: ReadonlyMap<string, PrefixList>;

  /** @param entries as the file has them */
  constructor(inline: PrefixList, files: ReadonlyMap<string, PrefixList>, entries: readonly string[]) {
    this.#inline = inline;
    this.#files = files;
    this.summary = entries
      .map((text) => {
        const list = files.get(text.slice(1));
        return list === undefined ? text : `${text} (${list.size})`;
      })
      .join(', ');
  }

  /** What the file itself has, then each further file's; in the order of {@link files}. */
  get lists(): readonly PrefixList[] {
    return [this.#inline, ...this.#files.values()];
  }

  get files(): readonly string[] {
    return [...this.#files.keys()];
  }

  /** What lists there are by name, beside the file's own. */
  get named(): ReadonlyMap<string, PrefixList> {
    return this.#files;
  }

  get inline(): PrefixList {
    return this.#inline;
  }

  /** Nothing: notes about frontends have no use for it. */
  toJSON(): undefined {
    return undefined;
  }
}

/** A `deny`, or none, and lists of another origin in it, each under its name, which is no path of a file. */
export function denyAlso(list: AccessList | undefined, others: ReadonlyMap<string, PrefixList>): AccessList {
  const entries = [...(list === undefined ? [] : [list.summary]), ...others.keys()];
  return new AccessList(list?.inline ?? new PrefixList(), new Map([...(list?.named ?? []), ...others]), entries);
}

/** The first `bits` bits of a word, signed; all of them from 32 on. */
export function maskOf(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}
