/** Gives each name a small number and keeps it: counters and flows know frontends and servers by number. */
export class Indexes {
  private readonly byName = new Map<string, number>();

  /** The number of a name; the next free one for a new name. */
  of(name: string): number {
    let index = this.byName.get(name);
    if (index === undefined) {
      index = this.byName.size;
      this.byName.set(name, index);
    }
    return index;
  }
}
