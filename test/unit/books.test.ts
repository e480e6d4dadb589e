/** What proxies have counted, handed from one to the next by names and addresses. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { addBook, type Book, bookOf, isBook, since } from '../../src/service/books.ts';
import { Credits } from '../../src/service/credits.ts';
import { Members } from '../../src/service/members.ts';
import { makePlan, type Plan, UNCHECKED } from '../../src/service/plan.ts';

const frontends = (...names: string[]) =>
  names.map((name, i) => `[frontends.${name}]\nlisten_addr = "192.0.2.1:${80 + i}"\nbackend = "app"\n`).join('');
const servers = (...names: string[]) =>
  `[backends.app.servers]\n${names.map((name) => `${name} = { addr = "10.0.0.${name.charCodeAt(0)}:80" }\n`).join('')}`;

/** A proxy, of which each connection is 10 bytes there and 100 back. */
class World {
  readonly members: Members;
  readonly credits: Credits;
  plan: Plan;
  readonly #own = new Map<string, number>();

  constructor(toml: string) {
    const { config } = parseConfig(toml, 'test.toml');
    this.members = new Members(config);
    this.plan = makePlan(config, 'proxy', this.members, UNCHECKED, undefined);
    this.credits = new Credits(this.plan);
  }

  reload(toml: string): void {
    const { config } = parseConfig(toml, 'test.toml');
    this.members.enrol(config);
    this.plan = makePlan(config, 'proxy', this.members, UNCHECKED, this.plan);
    this.credits.follow(this.plan);
  }

  /** A connection more of each. */
  count(...indexes: readonly string[]): void {
    for (const index of indexes) this.#own.set(index, (this.#own.get(index) ?? 0) + 1);
  }

  #of(index: string) {
    const total = this.#own.get(index) ?? 0;
    return { total, current: 0, load: 0, bytesTx: 10 * total, bytesRx: 100 * total };
  }

  frontend = (index: number) => this.credits.frontend(index, { ...this.#of(`f${index}`), refused: 0 });
  server = (index: number) => this.credits.server(index, { ...this.#of(`s${index}`), connectFailures: 1, retries: 0 });

  get book(): Book {
    return bookOf(this.plan, this.members, this);
  }

  add(book: Book): void {
    addBook(JSON.parse(JSON.stringify(book)) as Book, this.plan, this.members, { credit: (all) => this.credits.add(all) });
  }
}

const lines = ({ frontends: some, servers: others }: Book) =>
  [...some, ...others].filter(({ total }) => total > 0).map(({ group, key, total, bytesRx }) => [group, key, total, bytesRx]);

test('totals go on by name and address, whatever the index; those of who left the file stay in the sums', () => {
  const old = new World(frontends('web', 'shop') + servers('a', 'b'));
  old.count('f0', 'f0', 'f1', 's0', 's1', 's1');
  const next = new World(frontends('web') + servers('c', 'b'));
  next.add(old.book);
  next.count('f0', 's1');
  expect(lines(next.book)).toEqual([
    ['', undefined, 1, 100],
    ['', 'web 192.0.2.1:80', 3, 300],
    ['app', undefined, 1, 100],
    ['app', 'app / b / 10.0.0.98:80', 3, 300],
  ]);
  // And once more, with all that the first two counted.
  const last = new World(frontends('web', 'shop') + servers('a', 'b'));
  last.add(next.book);
  expect(lines(last.book)).toEqual(lines(next.book));
  const b = last.plan.backends[0]?.servers[1]?.index ?? -1;
  expect(last.server(b)).toMatchObject({ total: 3, bytesTx: 30, bytesRx: 300, connectFailures: 3, retries: 0 });
});

test('what one counts while it drains is told bit by bit, and nothing where nothing is', () => {
  const old = new World(frontends('web') + servers('a', 'b'));
  const next = new World(frontends('web') + servers('b'));
  old.count('f0', 's0');
  const first = old.book;
  next.add(first);
  expect(since(first, old.book)).toBeUndefined();
  old.count('f0', 's1');
  const more = since(first, old.book);
  expect(lines(more!)).toEqual([
    ['', 'web 192.0.2.1:80', 1, 100],
    ['app', 'app / b / 10.0.0.98:80', 1, 100],
  ]);
  next.add(more!);
  expect(lines(next.book).map(([, key, total]) => [key, total])).toEqual([
    ['web 192.0.2.1:80', 2],
    [undefined, 1],
    ['app / b / 10.0.0.98:80', 1],
  ]);
});

test('an index that passes on takes no credit with it', () => {
  const old = new World(frontends('web') + servers('a'));
  old.count('s0');
  const next = new World(frontends('web') + servers('a'));
  next.add(old.book);
  const index = next.plan.backends[0]?.servers[0]?.index ?? -1;
  next.credits.follow({ ...next.plan, serverKeys: new Map() });
  expect(next.server(index).total).toBe(1);
  next.credits.follow({ ...next.plan, serverKeys: new Map([[index, 'app / z / 10.0.0.9:80']]) });
  expect(next.server(index).total).toBe(0);
});

test('a backend that left the file is counted no more; the sum of the frontends is', () => {
  const old = new World(frontends('web') + servers('a'));
  old.count('f0', 's0');
  const next = new World((frontends('other') + servers('a')).replaceAll('app', 'else'));
  next.add(old.book);
  expect(lines(next.book)).toEqual([['', undefined, 1, 100]]);
});

test('what is no book is none', () => {
  const { book } = new World(frontends('web') + servers('a'));
  expect(isBook(book)).toBe(true);
  const [line] = book.servers as [Book['servers'][number]];
  for (const wrong of [
    {},
    { ...book, servers: [{ ...line, total: -1 }] },
    { ...book, frontends: Array.from({ length: 20_000 }, () => line) },
  ])
    expect(isBook(wrong as Book)).toBe(false);
});
