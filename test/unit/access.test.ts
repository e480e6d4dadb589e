/** Who may connect: the table of prefixes against one that looks at each. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CROWDED, Guard, OVER_MAXCONN, OVER_RATE, REFUSALS_LENGTH, REFUSED_DRY, refusalRow } from '../../src/access/guard.ts';
import { AccessList, maskOf, PrefixList } from '../../src/access/prefix-list.ts';
import { DENIED, prefixTable, ruleOf, ruleOf6 } from '../../src/access/prefix-table.ts';
import { Room, rateOf, SourceTable, sourceHash, sourceMemory } from '../../src/access/source-table.ts';

interface Prefix {
  readonly first: readonly number[];
  readonly bits: number;
}

/** Few addresses, so that prefixes meet, beside the first and the last there are. */
const word = fc.oneof(fc.constantFrom(0, 1, 0xffffffff, 0x80000000, 0x7fffffff), fc.nat(0xff), fc.nat({ max: 0xffffffff }));

function prefix(words: number): fc.Arbitrary<Prefix> {
  return fc.record({ words: fc.array(word, { minLength: words, maxLength: words }), bits: fc.nat(32 * words) }).map(({ words, bits }) => ({
    first: words.map((one, i) => (one & maskOf(bits - i * 32)) >>> 0),
    bits,
  }));
}

function listOf(family: 4 | 6, prefixes: readonly Prefix[]): PrefixList {
  const list = new PrefixList();
  for (const { first, bits } of prefixes) list.add(family, first, bits);
  return list;
}

function has(prefixes: readonly Prefix[], address: readonly number[]): boolean {
  return prefixes.some(({ first, bits }) => first.every((one, i) => (address[i] & maskOf(bits - i * 32)) >>> 0 === one));
}

/** As the documentation says it. */
function expected(allow: readonly Prefix[] | undefined, deny: readonly (readonly Prefix[])[], address: readonly number[]): number {
  const place = deny.findIndex((list) => has(list, address));
  if (place >= 0) return 2 + place;
  return allow !== undefined && !has(allow, address) ? 1 : 0;
}

/** The first and the last address of each prefix, and those beside them: where it would go wrong. */
function edges(prefixes: readonly Prefix[]): number[][] {
  return prefixes.flatMap(({ first, bits }) => {
    const low = first.reduce((sum, one) => sum * 2n ** 32n + BigInt(one), 0n);
    const size = 2n ** BigInt(first.length * 32 - bits);
    const all = 2n ** BigInt(first.length * 32);
    return [low - 1n, low, low + size - 1n, low + size].map((one) => {
      const address = (one + all) % all;
      return first.map((_, i) => Number((address >> BigInt((first.length - 1 - i) * 32)) & 0xffffffffn));
    });
  });
}

test.each([4, 6] as const)('of each address of IPv%i the table has the rule that looking at each prefix finds', (family) => {
  const words = family === 4 ? 1 : 4;
  const list = fc.array(prefix(words), { maxLength: 12 });
  const rules = fc.record({ allow: fc.option(list, { nil: undefined }), deny: fc.array(list, { maxLength: 3 }) });
  const others = fc.array(fc.array(word, { minLength: words, maxLength: words }), { maxLength: 20 });
  fc.assert(
    fc.property(rules, others, ({ allow, deny }, strangers) => {
      const table = prefixTable({ allow: allow && [listOf(family, allow)], deny: deny.map((one) => listOf(family, one)) }, family);
      for (const address of [...strangers, ...edges([...(allow ?? []), ...deny.flat()])]) {
        const rule = table === undefined ? 0 : family === 4 ? ruleOf(table, address[0]) : ruleOf6(table, address);
        expect(rule, `of ${address.map((one) => one.toString(16)).join(':')}`).toBe(expected(allow, deny, address));
      }
    }),
    { numRuns: 300 },
  );
});

test('a list that denies nobody needs no table, one that allows nobody does', () => {
  expect(prefixTable({ allow: undefined, deny: [new PrefixList()] }, 4)).toBeUndefined();
  expect(ruleOf(prefixTable({ allow: [new PrefixList()], deny: [] }, 4)!, 0x0a000001)).toBe(1);
});

test('what sources have is what they entered, however many come and go, and a full set takes in nobody', () => {
  const sources = new SourceTable(sourceMemory(8192));
  const held = new Map<number, number>();
  const order = fc.record({ who: fc.nat(3000), enters: fc.boolean() });
  fc.assert(
    fc.property(fc.array(order, { minLength: 500, maxLength: 500 }), (orders) => {
      for (const { who, enters } of orders) {
        const hash = sourceHash(7, 1, who);
        const count = held.get(hash) ?? 0;
        if (enters && sources.enter(hash, 0)) held.set(hash, count + 1);
        else if (!enters && count > 0) {
          sources.leave(hash);
          held.set(hash, count - 1);
        }
      }
      for (const [hash, count] of held) expect(sources.countOf(hash)).toBe(count);
    }),
    { numRuns: 40 },
  );
  // All of them have connections now: 20,480 places.
  let entered = 0;
  let refused = 0;
  for (let who = 0; who < 100_000; who++) {
    if (sources.enter(sourceHash(8, 1, who), 0)) entered++;
    else refused = sourceHash(8, 1, who);
  }
  expect(entered).toBeLessThanOrEqual(20_480);
  expect(entered).toBeGreaterThan(15_000);
  // Who finds no place is not limited, which is told.
  expect([sources.makeRoom(refused, 0), sources.take(refused, rateOf(1), 0), sources.take(refused, rateOf(1), 0)]).toEqual([
    Room.none,
    true,
    true,
  ]);
});

test('a source has a burst of a second, then its rate; after a silence the burst again, also across the end of the clock', () => {
  const sources = new SourceTable(sourceMemory(1));
  const [hash, rate] = [sourceHash(1, 2, 3), rateOf(10)];
  const taken = (now: number, asks: number) => Array.from({ length: asks }, () => sources.take(hash, rate, now | 0)).filter(Boolean).length;
  const start = 2 ** 32 - 500;
  expect(taken(start, 50)).toBe(10);
  expect(taken(start + 99, 5)).toBe(0);
  expect(taken(start + 100, 5)).toBe(1);
  expect(taken(start + 600, 50)).toBe(5);
  // The clock of ticks has gone round since.
  expect(taken(start + 600 + 2 ** 22 * 1.5, 50)).toBe(10);
  const slow = rateOf(0.1);
  expect([0, 9_999, 10_000, 10_001].map((now) => sources.take(sourceHash(1, 2, 4), slow, now))).toEqual([true, false, true, false]);
});

test('a worker whose clock is a moment behind gives nobody a burst anew', () => {
  const sources = new SourceTable(sourceMemory(1));
  const [hash, rate] = [sourceHash(1, 2, 3), rateOf(10)];
  const taken = (now: number) => Array.from({ length: 50 }, () => sources.take(hash, rate, now | 0)).filter(Boolean).length;
  for (const start of [5_000_000, 2 ** 31, 2 ** 32]) expect([taken(start), taken(start - 1), taken(start - 700)]).toEqual([10, 0, 0]);
});

describe('a full set', () => {
  const SLOW = rateOf(1 / 60);
  /** So many sources of one set. */
  const ofOneSet = (count: number, owner: number): number[] => {
    const hashes: number[] = [];
    for (let who = 0; hashes.length < count; who++) {
      const hash = sourceHash(7, owner, who);
      if (hash >>> 20 === 0) hashes.push(hash);
    }
    return hashes;
  };

  test('a slow source is remembered however many quick ones come by: theirs loses nothing once it is whole again', () => {
    const sources = new SourceTable(sourceMemory(1));
    const [slow] = ofOneSet(1, 1);
    expect(sources.take(slow, SLOW, 0)).toBe(true);
    ofOneSet(200, 2).forEach((hash, i) => {
      const now = i * 250;
      expect(sources.makeRoom(hash, now), `quick source ${i}`).toBe(Room.there);
      sources.take(hash, rateOf(50), now);
      expect(sources.take(slow, SLOW, now), `after ${now} ms`).toBe(false);
    });
    expect(sources.take(slow, SLOW, 60_000)).toBe(true);
  });

  test('the one that is nearest to all it may open makes way, which is told', () => {
    const sources = new SourceTable(sourceMemory(1));
    const slow = ofOneSet(6, 1);
    const rooms = slow.map((hash, i) => {
      const room = sources.makeRoom(hash, i * 1000);
      sources.take(hash, SLOW, i * 1000);
      return room;
    });
    expect(rooms).toEqual([Room.there, Room.there, Room.there, Room.there, Room.there, Room.anothers]);
    // The first one is forgotten, and takes the place of the second.
    expect(slow.slice(2).map((hash) => sources.take(hash, SLOW, 6000))).toEqual([false, false, false, false]);
    expect(sources.take(slow[0], SLOW, 6000)).toBe(true);
  });
});

describe('a guard of IPv6', () => {
  const FRONTEND = 3;
  const words = (subnet: number, host = 1) => [0x20010db8, subnet, 0, host];
  const refusals = new Float64Array(REFUSALS_LENGTH);
  const counted = (column: number) => refusals[refusalRow(FRONTEND) + column];
  const guardOf = (more: Partial<ConstructorParameters<typeof Guard>[0]>, sources = new SourceTable(sourceMemory(1))) => {
    refusals.fill(0);
    const access = { sourceRate: 0, sourceMaxconn: 0, sourceBits: 32, resets: false, dryRun: false, ...more };
    return new Guard(access, FRONTEND, { sources, refusals, seed: 5 });
  };

  test('goes by the lists of that family, and counts by rule', () => {
    const list = listOf(6, [{ first: words(7, 0), bits: 64 }]);
    const table6 = prefixTable({ allow: undefined, deny: [list] }, 6);
    const guard = guardOf({ table6 });
    expect([guard.denies6(words(7)), guard.denies6(words(8)), guard.denies(7), counted(DENIED)]).toEqual([true, false, false, 1]);
    const dry = guardOf({ table6, dryRun: true });
    expect([dry.denies6(words(7)), counted(DENIED), counted(DENIED + REFUSED_DRY)]).toEqual([false, 0, 1]);
  });

  test('takes a /64 for one source', () => {
    const guard = guardOf({ sourceRate: 2 });
    expect([1, 2, 3].map((host) => guard.limits6(words(7, host), 0))).toEqual([false, false, true]);
    expect([guard.limits6(words(8), 0), counted(OVER_RATE)]).toEqual([false, 1]);
    const sources = new SourceTable(sourceMemory(1));
    const few = guardOf({ sourceMaxconn: 1 }, sources);
    expect([few.limits6(words(7), 0), sources.enter(few.hashOf6(words(7)), 0), few.limits6(words(7, 9), 0)]).toEqual([false, true, true]);
    expect([counted(OVER_MAXCONN), counted(CROWDED)]).toEqual([1, 0]);
  });

  test('lets in whom it has no room for, and counts them', () => {
    const sources = new SourceTable(sourceMemory(1));
    for (let who = 0; who < 200_000; who++) sources.enter(sourceHash(8, 1, who), 0);
    const guard = guardOf({ sourceMaxconn: 1, sourceRate: 1 }, sources);
    expect([guard.limits6(words(7), 0), guard.limits6(words(7), 0), counted(CROWDED)]).toEqual([false, false, 2]);
  });
});

test('an access list says what is in its files, and nothing where it is printed', () => {
  const file = listOf(4, [
    { first: [0x0a000000], bits: 8 },
    { first: [0xc0000200], bits: 24 },
  ]);
  const list = new AccessList(listOf(6, []), new Map([['/etc/block', file]]), ['192.0.2.1', '@/etc/block']);
  expect([list.summary, list.files, list.lists.length, file.size, JSON.stringify({ list })]).toEqual([
    '192.0.2.1, @/etc/block (2)',
    ['/etc/block'],
    2,
    2,
    '{}',
  ]);
});
