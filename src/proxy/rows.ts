/** Gives each name a row of its own, for as long as it is named. */
export class Rows {
  readonly #limit: number;
  #rows: ReadonlyMap<string, number> = new Map();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The rows of `names`: known ones keep theirs, new ones get none that was in use before. Throws a RangeError when there are too many. */
  assign(names: readonly string[]): ReadonlyMap<string, number> {
    const used = new Set(this.#rows.values());
    let next = 0;
    const rows = new Map<string, number>();
    for (const name of names) {
      let row = this.#rows.get(name);
      if (row === undefined) {
        while (used.has(next)) next++;
        if (next >= this.#limit) throw new RangeError(`more than ${this.#limit} backends`);
        used.add(next);
        row = next;
      }
      rows.set(name, row);
    }
    this.#rows = rows;
    return rows;
  }
}
