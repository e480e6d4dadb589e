import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LARGE_TABLE, maglev, maglevTable, prepareMaglev, SMALL_TABLE, source } from '../../src/balance/maglev.ts';

const candidate = (i: number, weight = 1) => ({ name: `10.${i >> 8}.0.${i & 255}:80`, weight, index: i, maxconn: 0 });
const equal = (count: number) => Array.from({ length: count }, (_, i) => candidate(i));

function shares(table: Uint16Array, count: number): number[] {
  const rows = Array.from({ length: count }, () => 0);
  for (const server of table) rows[server]++;
  return rows;
}

const isPrime = (n: number) => {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return true;
};

test('table sizes are prime', () => expect([SMALL_TABLE, LARGE_TABLE].every(isPrime)).toBe(true));

describe('balance', () => {
  // Section 3.4: with equal weights the shares differ by one row at most. Section 5.3: M over 100 N.
  test.each([1, 2, 3, 10, 100, 655])('%i equal servers differ by one row at most', (count) => {
    const rows = shares(maglevTable(equal(count), SMALL_TABLE), count);
    expect(Math.max(...rows) - Math.min(...rows)).toBeLessThanOrEqual(1);
  });

  test.each([[[10, 100, 1, 1]], [[1, 2, 3, 4, 5]], [[65535, 65534, 1000]], [[300, 100]]])('weights %j, within one percent', (weights) => {
    const rows = shares(
      maglevTable(
        weights.map((weight, i) => candidate(i, weight)),
        SMALL_TABLE,
      ),
      weights.length,
    );
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    weights.forEach((weight, i) => {
      const share = (weight / total) * SMALL_TABLE;
      expect(Math.abs(rows[i] - share)).toBeLessThanOrEqual(Math.max(share * 0.01, 1));
    });
  });

  test('clients spread over the servers by weight', () => {
    const weights = [1, 2, 1];
    const scheduler = maglev(prepareMaglev(weights.map((weight, i) => candidate(i, weight))));
    const picks = [0, 0, 0];
    for (let host = 0; host < 200; host++) for (let port = 1024; port < 1524; port++) picks[scheduler.pick(10 | (host << 24), port)]++;
    weights.forEach((weight, i) => expect(Math.abs(picks[i] / 100_000 - weight / 4)).toBeLessThan(0.01));
  });
});

describe('disruption', () => {
  test.each([3, 10, 100])(
    'of %i servers one leaves: few rows of the others move',
    (count) => {
      const before = maglevTable(equal(count), SMALL_TABLE);
      const gone = count >> 1;
      const names = equal(count).filter((_, i) => i !== gone);
      const after = maglevTable(names, SMALL_TABLE);
      let moved = 0;
      for (let row = 0; row < SMALL_TABLE; row++)
        if (before[row] !== gone && equal(count)[before[row]].name !== names[after[row]].name) moved++;
      // Figure 12 of the paper: some percent at most at this ratio of M to N. modulo hashing would move 1 - 1/N of them.
      expect(moved / SMALL_TABLE).toBeLessThan(0.06);
    },
    30_000,
  );
});

describe('agreement', () => {
  test('the same servers give the same table', () => {
    expect(maglevTable(equal(20), SMALL_TABLE)).toEqual(maglevTable(equal(20), SMALL_TABLE));
  });

  // Digests of the tables of lb4 0.1.0: one that takes over, or a neighbour of another version, must choose alike.
  test.each([
    [[1], '3266304f31be278d'],
    [[1, 1, 1], '7271cd817631b512'],
    [[3, 1], 'c098781ff6d5d0e7'],
    [[10, 100, 1, 1], 'ff5a62cfb9fbcf6e'],
    [[7, 0, 2, 7, 5, 1, 3], 'ed27105537320ef9'],
  ])('weights %j give the table that they always gave', (weights, digest) => {
    const table = Uint8Array.from(prepareMaglev(weights.map((weight, i) => candidate(i, weight))));
    expect(createHash('sha256').update(table).digest('hex').slice(0, 16)).toBe(digest);
  });

  test('and the same choice for any client', () => {
    const [a, b] = [maglev(prepareMaglev(equal(7))), maglev(prepareMaglev(equal(7)))];
    fc.assert(
      fc.property(fc.integer(), fc.nat(65535), (address, port) => {
        const choice = a.pick(address, port);
        expect(choice).toBe(b.pick(address, port));
        expect(choice).toBeLessThan(7);
      }),
    );
  });

  test('whatever the order in which the servers are listed', () => {
    const servers = Array.from({ length: 12 }, (_, i) => candidate(i, 1 + (i % 3)));
    const listed = prepareMaglev(servers);
    fc.assert(
      fc.property(fc.shuffledSubarray(servers, { minLength: servers.length }), (shuffled) => {
        const table = prepareMaglev(shuffled);
        expect(table.findIndex((position, row) => shuffled[position] !== servers[listed[row]])).toBe(-1);
      }),
      { numRuns: 20 },
    );
  });

  test('choices do not change from one version to the next: connections would', () => {
    const scheduler = maglev(prepareMaglev([candidate(0), candidate(1, 3), candidate(2, 5)]));
    const choices = Array.from({ length: 16 }, (_, i) => scheduler.pick(0x0a00000a + i * 0x01000000, 40000 + i));
    const few = maglev(prepareMaglev(equal(5)));
    expect([choices.join(''), Array.from({ length: 16 }, (_, i) => few.pick(10 | (i << 24), 4000 + i)).join('')]).toMatchInlineSnapshot(`
      [
        "0102121121002221",
        "0124014104014033",
      ]
    `);
  });
});

test('source: by the address alone', () => {
  const scheduler = source(prepareMaglev(equal(9)));
  const servers = new Set<number>();
  for (let host = 0; host < 100; host++) {
    const address = 10 | (host << 24);
    const choices = new Set(Array.from({ length: 50 }, (_, i) => scheduler.pick(address, i * 1311)));
    expect(choices.size).toBe(1);
    servers.add([...choices][0]);
  }
  expect(servers.size).toBe(9);
});

describe('any weights', () => {
  test('finish, and fill every row with a server that has a weight', () => {
    const weights = fc.array(fc.oneof(fc.constantFrom(0, 1, 65535), fc.nat(65535)), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(weights, (weights) => {
        const table = maglevTable(
          weights.map((weight, i) => candidate(i, weight)),
          8191,
        );
        if (weights.some((weight) => weight > 0)) for (const server of new Set(table)) expect(weights[server]).toBeGreaterThan(0);
      }),
      { numRuns: 50 },
    );
  });

  // The worker builds tables between two batches: a health check must not stop traffic for long.
  test.each([
    ['one heavy, the rest of 4,096 light', (i: number) => (i === 0 ? 65535 : 1)],
    ['equal', () => 1],
    ['all different', (i: number) => 1 + i * 15],
  ])('4,096 servers, %s: every slot is somebody’s', (_, weight) => {
    const table = maglevTable(
      Array.from({ length: 4096 }, (_, i) => candidate(i, weight(i))),
      LARGE_TABLE,
    );
    expect(table.length).toBe(LARGE_TABLE);
    expect(table.every((server) => server < 4096)).toBe(true);
  });
});
