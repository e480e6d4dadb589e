/** What the fast path's programs are asked where the book of lists cannot be had. */
import { expect, test } from 'vitest';
import { prefixTable } from '../../src/access/prefix-table.ts';
import { AccessBook, bookOf } from '../../src/engine/access-book.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import { LISTS, NOTHING, SYNS } from '../../src/layout/early-drop.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { TCP } from '../../src/packet/fields.ts';

type Table = NonNullable<ReturnType<typeof prefixTable>>;

const SMALL = prefixTable({ allow: [], deny: [] }, 4)!;
/** More than a book may be: its rules alone take 128 MB there. */
const LONG: Table = { ...SMALL, rules: new Uint8Array(1 << 24) };

function frontendsWith(table: Table | undefined): ServiceSet['frontends'] {
  const access = table && { table, sourceRate: 0, sourceMaxconn: 0, sourceBits: 32, resets: false, dryRun: false };
  return [{ index: 0, address: parseAddress('10.0.0.1'), port: 80, protocol: TCP, backend: 'web', maxconn: 0, draining: false, access }];
}

/** A book, and what is asked of the kernel: whether by a book, too. */
function watched(fails: (asked: number) => boolean = () => false) {
  const calls: [asked: number, hasBook: boolean][] = [];
  const book = new AccessBook({
    ask: (asked, words) => {
      calls.push([asked, words !== undefined]);
      if (fails(asked)) throw new Error('bpf(BPF_MAP_CREATE): ENOMEM');
    },
  });
  return { book, takeCalls: () => calls.splice(0) };
}

test('lists that are too long are in no book, the last ones do not stay, floods are dropped all the same; told once', () => {
  const { book, takeCalls } = watched();
  book.apply(frontendsWith(SMALL));
  expect(takeCalls()).toEqual([[LISTS, true]]);
  expect(() => book.apply(frontendsWith(LONG))).toThrow(/^the frontends' lists of clients would take 129 MB .* at most 128 are allowed/);
  expect(takeCalls()).toEqual([
    [NOTHING, false],
    [SYNS, true],
  ]);
  book.apply(frontendsWith(LONG));
  expect(takeCalls()).toEqual([]);
  book.apply(frontendsWith(SMALL));
  expect(takeCalls()).toEqual([[LISTS, true]]);
});

test('so it is where the kernel has no memory for lists', () => {
  const { book, takeCalls } = watched((asked) => asked === LISTS);
  expect(() => book.apply(frontendsWith(SMALL))).toThrow('ENOMEM');
  book.apply(frontendsWith(SMALL));
  expect(takeCalls()).toEqual([
    [LISTS, true],
    [NOTHING, false],
    [SYNS, true],
  ]);
});

test('where it has none for any book nothing is dropped, and it is tried again', () => {
  const { book, takeCalls } = watched((asked) => asked !== NOTHING);
  const once = [
    [SYNS, true],
    [NOTHING, false],
  ];
  for (let i = 0; i < 2; i++) {
    expect(() => book.apply(frontendsWith(undefined))).toThrow('ENOMEM');
    expect(takeCalls()).toEqual(once);
  }
});

test('addresses of one network, which differ in their last byte alone, have places apart: at load one half twice as many do', () => {
  const [frontend] = frontendsWith(undefined);
  const network = Array.from({ length: 256 }, (_, last) => ({ ...frontend, index: last, address: parseAddress(`10.0.0.${last}`) }));
  expect(bookOf(network)[0] + 1).toBeLessThanOrEqual(1024);
});
