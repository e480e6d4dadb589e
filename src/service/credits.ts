/** What other lb4s have counted of those that have an index here: it is added to what this one counts. */
import { addCounted, type Book, type Counted, type Line } from './books.ts';
import { frontendKey } from './members.ts';
import type { Plan } from './plan.ts';

class Credit {
  readonly #lines = new Map<number, { readonly key: string; readonly counted: Counted }>();
  #indexes: ReadonlyMap<string, number>;

  constructor(indexes: ReadonlyMap<string, number>) {
    this.#indexes = indexes;
  }

  /** An index that is somebody else's now has nothing to its credit; whoever is gone keeps it, until then. */
  follow(indexes: ReadonlyMap<string, number>): void {
    this.#indexes = indexes;
    for (const [key, index] of indexes) if (this.#lines.get(index)?.key !== key) this.#lines.delete(index);
  }

  /** False: nobody here is meant. */
  add(line: Line): boolean {
    const { key, total, bytesTx, bytesRx, refused, connectFailures, retries } = line;
    const index = key === undefined ? undefined : this.#indexes.get(key);
    if (key === undefined || index === undefined) return false;
    const counted = { total, bytesTx, bytesRx, refused, connectFailures, retries };
    const before = this.#lines.get(index)?.counted;
    this.#lines.set(index, { key, counted: before === undefined ? counted : addCounted(before, counted) });
    return true;
  }

  to<C extends Partial<Counted>>(index: number, own: C): C {
    const credit = this.#lines.get(index)?.counted;
    if (credit === undefined) return own;
    const sums = Object.entries(own).map(([column, value]) => [column, (value ?? 0) + (credit[column as keyof Counted] ?? 0)]);
    return { ...own, ...Object.fromEntries(sums) } as C;
  }
}

export class Credits {
  readonly #frontends: Credit;
  readonly #servers: Credit;

  constructor(plan: Plan) {
    this.#frontends = new Credit(frontendIndexes(plan));
    this.#servers = new Credit(serverIndexes(plan));
  }

  follow(plan: Plan): void {
    this.#frontends.follow(frontendIndexes(plan));
    this.#servers.follow(serverIndexes(plan));
  }

  /** Returns the lines of those who are not here. */
  add({ frontends, servers }: Book): Book {
    return {
      frontends: frontends.filter((line) => !this.#frontends.add(line)),
      servers: servers.filter((line) => !this.#servers.add(line)),
    };
  }

  /** `own` with what is to a frontend's credit. */
  frontend<C extends Partial<Counted>>(index: number, own: C): C {
    return this.#frontends.to(index, own);
  }

  /** The same of a server. */
  server<C extends Partial<Counted>>(index: number, own: C): C {
    return this.#servers.to(index, own);
  }
}

function frontendIndexes({ frontends }: Plan): ReadonlyMap<string, number> {
  return new Map(frontends.map(({ index, frontend }) => [frontendKey(frontend), index]));
}

function serverIndexes({ serverKeys }: Plan): ReadonlyMap<string, number> {
  return new Map([...serverKeys].map(([index, key]) => [key, index]));
}
