/**
 * The table's hash under tuples that somebody chooses: families of them, each under many secret keys. None has more pairs at one home than
 * chance has, by far, and none makes lookups longer. The kernel's is the same hash (test/netns/fast-path.test.ts).
 */
import { describe, expect, test } from 'vitest';
import { hashKey, hashTuple, tableCapacity } from '../../src/flow/table.ts';
import { CLIENT_PORTS } from '../../src/layout/ports.ts';
import { portsWord, swap32 } from '../../src/packet/address.ts';

type Tuple = readonly [source: number, destination: number, ports: number];

/** Tuples of a family, and keys. Where hashing is chance, 41 pairs of a family's have one home. */
const TUPLES = 4096;
const KEYS = 48;
const HOMES = tableCapacity(62_500);
const CHANCE = (TUPLES * (TUPLES - 1)) / 2 / HOMES;
/** As many times chance a family may have on average, and under a key that happens to suit it. */
const MEAN = 1.5;
const MOST = 4;

const VIP = swap32(0xc6336401);
const CLIENT = swap32(0x0a000001);
const of = (address: number): number => swap32((0x0a000000 + address) | 0);
const toHttp = (port: number): number => portsWord(port & 0xffff, 80);
/** Numbers with few bits set, which differ in few. */
const SPARSE = Array.from({ length: 1 << 20 }, (_, i) => i).filter((i) => i.toString(2).replaceAll('0', '').length <= 3);
const STEPS = [1, 2, 3, 4, 5, 7, 8, 13, 15];
const BITS = Array.from({ length: 21 }, (_, bit) => bit);

const FAMILIES: Readonly<Record<string, (i: number) => Tuple>> = {
  ...Object.fromEntries(
    STEPS.map((step) => [`every ${step}. port of a client`, (i: number): Tuple => [CLIENT, VIP, toHttp(1024 + i * step)]]),
  ),
  ...Object.fromEntries(BITS.map((bit) => [`addresses 2^${bit} apart`, (i: number): Tuple => [of(i * 2 ** bit), VIP, toHttp(12_345)]])),
  ...Object.fromEntries(BITS.map((bit) => [`words 2^${bit} apart`, (i: number): Tuple => [i * 2 ** bit, VIP, toHttp(12_345)]])),
  ...Object.fromEntries(
    [4, 6, 8].map((bits) => [
      `${1 << bits} ports of each address`,
      (i: number): Tuple => [of(i >> bits), VIP, toHttp(1024 + (i & ((1 << bits) - 1)))],
    ]),
  ),
  'address and port go up together': (i) => [of(i), VIP, toHttp(1024 + i)],
  'address goes up, port down': (i) => [of(i), VIP, toHttp(65_535 - i)],
  'port by what a bit of the address does to the product': (i) => [
    ((i >> 8) << 13) | 0x0a,
    VIP,
    portsWord(1024 + (i & 255), 80) - (i >> 8),
  ],
  'addresses that differ in few bits': (i) => [SPARSE[i % SPARSE.length], VIP, toHttp(40_000 + Math.floor(i / SPARSE.length))],
  'ports that differ in few bits': (i) => [of(i >> 9), VIP, toHttp(SPARSE[i & 511])],
  'two frontends': (i) => [of(i >> 1), VIP, portsWord(12_345, i & 1 ? 80 : 443)],
  'many ports of a frontend': (i) => [CLIENT, VIP, portsWord(40_000, 1024 + i)],
  'many addresses of frontends': (i) => [CLIENT, swap32(0xc6330000 + i), toHttp(40_000)],
  'answers of a server': (i) => [of(2), of(1), portsWord(80, CLIENT_PORTS.first + i)],
  'answers of servers': (i) => [of(i >> 8), of(1), portsWord(80, CLIENT_PORTS.first + (i & 255))],
};

/** Always the same keys: a test that fails once in a while shows nothing. xorshift32 (Marsaglia, 2003). */
const KEYS_OF_TEST = (() => {
  let x = 0x2545f491;
  const next = (): number => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
  return Array.from({ length: KEYS }, () => hashKey(new Uint32Array([next(), next(), next(), next()])));
})();

/** Pairs of a family's tuples at one home, of so many times chance, under each key; and how many stand at one home at most. */
function search(tuple: (i: number) => Tuple, hash = hashTuple): { mean: number; most: number; crowd: number } {
  const homes = new Int32Array(HOMES);
  let [total, most, crowd] = [0, 0, 0];
  for (const key of KEYS_OF_TEST) {
    homes.fill(0);
    let pairs = 0;
    for (let i = 0; i < TUPLES; i++) {
      const home = Math.floor(((hash(key, ...tuple(i)) >>> 0) * HOMES) / 2 ** 32);
      pairs += homes[home]++;
      crowd = Math.max(crowd, homes[home]);
    }
    total += pairs;
    most = Math.max(most, pairs);
  }
  return { mean: total / KEYS / CHANCE, most: most / CHANCE, crowd };
}

describe('no family of tuples has more at one home than chance', () => {
  test.each(Object.entries(FAMILIES))('%s', (_, tuple) => {
    const tuples = new Set(
      Array.from({ length: TUPLES }, (__, i) =>
        tuple(i)
          .map((word) => word | 0)
          .join(' '),
      ),
    );
    expect(tuples.size, 'tuples that differ').toBe(TUPLES);
    const { mean, most, crowd } = search(tuple);
    expect(mean).toBeLessThan(MEAN);
    expect(most).toBeLessThan(MOST);
    // Chance has five at most, in that many tries.
    expect(crowd).toBeLessThan(12);
  });

  test('and a weak hash is found out: a secret, added', () => {
    const weak: typeof hashTuple = (key, source, destination, ports) => (key[0] + source + destination + ports) | 0;
    expect(search(FAMILIES['every 1. port of a client'], weak).most).toBeGreaterThan(MOST);
  });
});
