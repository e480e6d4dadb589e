/** The ways to servers: one next hop for each source address and server's address and port. */
import { expect, test } from 'vitest';
import { prepare } from '../../src/balance/index.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import { Ways } from '../../src/forward/ways.ts';
import { MAX_SERVERS } from '../../src/layout/counters.ts';
import { SERVER_HOPS, WAY } from '../../src/layout/hops.ts';
import { TCP } from '../../src/packet/fields.ts';

type Mode = ServiceSet['backends'][number]['mode'];

/** Frontends as [source, backend], backends as name → servers' addresses. */
function set(
  frontends: readonly (readonly [number, string])[],
  backends: Record<string, readonly number[]>,
  mode: Mode = 'passthrough',
): ServiceSet {
  let index = 0;
  return {
    frontends: frontends.map(([address, backend], i) => ({
      index: i,
      address,
      port: 80 + i,
      protocol: TCP,
      backend,
      maxconn: 0,
      draining: false,
    })),
    backends: Object.entries(backends).map(([name, addresses]) => {
      const servers = addresses.map((address) => ({ index: index++, address, port: 80, protocol: TCP }));
      return { name, mode, servers, choice: prepare('roundrobin', []) };
    }),
  };
}

const places = (ways: Ways) => [...ways.all()].map(({ hop, source, destination }) => [hop, source, destination]);

test('each source has a way of its own to each server; frontends share it', () => {
  const ways = new Ways();
  const hops = ways.apply(
    set(
      [
        [1, 'a'],
        [2, 'a'],
        [1, 'a'],
      ],
      { a: [11, 12, 11] },
    ),
  );
  expect([...hops.values()]).toEqual([
    [1, 2, 1],
    [3, 4, 3],
    [1, 2, 1],
  ]);
  expect(hops.get(0)).toBe(hops.get(2));
  expect(places(ways)).toEqual([
    [1, 1, 11],
    [2, 1, 12],
    [3, 2, 11],
    [4, 2, 12],
  ]);
});

test('servers that differ only in their port have ways of their own, as rules may tell them apart, and share them where there is no room', () => {
  const apply = (ways: Ways) => {
    const one = set([[1, 'a']], { a: [11, 11, 12] });
    const [backend] = one.backends as [ServiceSet['backends'][number]];
    return ways
      .apply({ ...one, backends: [{ ...backend, servers: backend.servers.map((server, i) => ({ ...server, port: 80 + i })) }] })
      .get(0);
  };
  const ways = new Ways();
  expect(apply(ways)).toEqual([1, 2, 3]);
  expect([...ways.all()].map(({ destination, port }) => [destination, port])).toEqual([
    [11, 80],
    [11, 81],
    [12, 82],
  ]);
  const few = new Ways(new Int32Array(3 * WAY));
  expect(apply(few)).toEqual([1, 1, 2]);
  expect([...few.all()].map(({ port }) => port)).toEqual([0, 0]);
});

test('a frontend whose backend is not in the set has none', () => {
  expect(new Ways().apply(set([[1, 'gone']], { a: [11] })).get(0)).toEqual([]);
});

test('the same set asks for nothing new, and a way stays where it is whatever comes or goes beside it', () => {
  const ways = new Ways();
  ways.apply(set([[1, 'a']], { a: [11, 12] }));
  const before = [...ways.all()];
  ways.apply(set([[1, 'a']], { a: [11, 12] }));
  expect([...ways.all()]).toEqual(before);
  expect(ways.apply(set([[1, 'a']], { a: [12] })).get(0)).toEqual([2]);
  expect(ways.apply(set([[1, 'a']], { a: [13, 12] })).get(0)).toEqual([3, 2]);
});

test('a frontend that changes its backend keeps the ways of the connections it has', () => {
  const ways = new Ways();
  ways.apply(
    set(
      [
        [1, 'a'],
        [2, 'b'],
      ],
      { a: [11], b: [12] },
    ),
  );
  ways.apply(
    set(
      [
        [1, 'b'],
        [2, 'a'],
      ],
      { a: [11], b: [12] },
    ),
  );
  expect(places(ways)).toEqual([
    [1, 1, 11],
    [2, 2, 12],
    [3, 2, 11],
    [4, 1, 12],
  ]);
  ways.apply(set([[1, 'b']], { b: [12] }));
  expect(places(ways)).toEqual([[4, 1, 12]]);
});

test('the next process goes on with the places that it finds, those between them included', () => {
  const memory = new Int32Array(16 * WAY);
  const ways = new Ways(memory);
  ways.apply(set([[-1, 'a']], { a: [11, -12, 13] }, 'dsrL2'));
  ways.apply(set([[-1, 'a']], { a: [-12, 13] }, 'dsrL2'));
  const next = new Ways(memory.slice());
  expect([...next.all()]).toEqual([...ways.all()]);
  expect(next.apply(set([[-1, 'a']], { a: [14, 13, -12] }, 'dsrL2')).get(0)).toEqual([4, 3, 2]);
  // The other mode's are others.
  expect(next.apply(set([[-1, 'a']], { a: [14] })).get(0)).toEqual([5]);
});

test('L2 DSR and L3 DSR to one server are two ways', () => {
  const ways = new Ways();
  const [two, three] = [set([[1, 'a']], { a: [11] }, 'dsrL2'), set([[1, 'b']], { b: [11] }, 'dsr')];
  ways.apply({ frontends: [...two.frontends, { ...three.frontends[0], index: 1 }], backends: [...two.backends, ...three.backends] });
  expect([...ways.all()].map(({ onLink }) => onLink)).toEqual([true, false]);
});

test('places run out for what is wanted, never for what was; the one that has rested longest comes first', () => {
  const ways = new Ways(new Int32Array(16 * WAY));
  const many = (from: number, count: number) => set([[1, 'a']], { a: Array.from({ length: count }, (_, i) => from + i) });
  expect(() => ways.apply(many(0, 16))).toThrow('there is room for 15');
  expect(places(ways)).toEqual([]);
  ways.apply(many(0, 15));
  ways.apply(many(0, 10));
  expect(ways.apply(many(20, 2)).get(0)).toEqual([11, 12]);
  for (let i = 0; i < 100; i++) ways.apply(many(i * 16, 15));
  expect(new Set(places(ways).map(([hop]) => hop)).size).toBe(15);
  // A frontend that changes its backend over and over: old ways are kept while there is room, and give way then.
  for (let i = 0; i < 100; i++)
    ways.apply({
      ...set(
        [
          [1, i % 2 ? 'a' : 'b'],
          [2, 'a'],
        ],
        { a: [1, 2, 3, 4], b: [5, 6, 7, 8] },
      ),
    });
  expect(places(ways).length).toBeLessThan(16);
});

test('there is room for eight addresses of as many servers as there may be', () => {
  expect(SERVER_HOPS).toBeGreaterThanOrEqual(8 * MAX_SERVERS);
});

test('where no place is left, a way that only old flows may have makes one', () => {
  const ways = new Ways(new Int32Array(4 * WAY));
  const backends = { a: [11], b: [12, 13] };
  const frontends = (one: string, two: string) => [[1, one] as const, [2, two] as const];
  ways.apply(set(frontends('a', 'b'), backends));
  ways.apply(set(frontends('b', 'a'), backends));
  expect(places(ways).toSorted()).toEqual([
    [1, 2, 11],
    [2, 1, 12],
    [3, 1, 13],
  ]);
});
