/** Gives each name a row of its own, for as long as it is named. */
export class Rows {
  #rows: ReadonlyMap<string, number> = new Map();

  /** The rows of `names`: known ones keep theirs, new ones get none that was in use before. At most twice as many rows as names. */
  assign(names: readonly string[]): ReadonlyMap<string, number> {
    const used = new Set(this.#rows.values());
    const rows = new Map<string, number>();
    let next = 0;
    for (const name of names) {
      let row = this.#rows.get(name);
      if (row === undefined) {
        while (used.has(next)) next++;
        used.add(next);
        row = next;
      }
      rows.set(name, row);
    }
    this.#rows = rows;
    return rows;
  }
}
