/** Every scheduler, as its users make it: prepared here, sent across, made there. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { eligible } from '../../src/balance/eligible.ts';
import { type Candidate, createScheduler, isSameChoice, leastLoaded, prepare, type SchedulerName } from '../../src/balance/index.ts';
import { random } from '../../src/balance/random.ts';

const ALL: readonly SchedulerName[] = ['carp', 'first', 'leastconn', 'maglev', 'random', 'roundrobin', 'source'];
const WEIGHTED = ALL.filter((name) => name !== 'first' && name !== 'carp');

/** Candidates whose indexes are not their positions. */
const candidates = (weights: readonly number[], maxconn = 0): Candidate[] =>
  weights.map((weight, i) => ({ name: `10.0.0.${i}:80`, weight, index: 2 * i + 1, maxconn }));
const loadsFor = (count: number) => new Int32Array(2 * count);
const cross = (name: SchedulerName, some: readonly Candidate[], loads: Int32Array) =>
  createScheduler(structuredClone(prepare(name, some)), loads)!;
/** Client i: another address and another port each. */
const client = (i: number): [number, number] => [10 | (((i * 7919) & 0xffffff) << 8), 1024 + (i % 50000)];

function shares(name: SchedulerName, weights: readonly number[], picks: number, keep: boolean): number[] {
  const loads = loadsFor(weights.length);
  const some = candidates(weights);
  const scheduler = cross(name, some, loads);
  const given = weights.map(() => 0);
  for (let i = 0; i < picks; i++) {
    const position = scheduler.pick(...client(i));
    given[position]++;
    if (keep) loads[some[position].index]++;
  }
  return given.map((count) => count / picks);
}

describe.each(WEIGHTED)('%s honours weights', (name) => {
  test.each([
    ['whole', [1, 2, 5]],
    ['fractions, as in a slow start', [0.1, 1, 0.25, 1]],
    ['very different', [100, 1]],
  ])('%s', (_, weights) => {
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    // Of connections that end at once, and of such that stay. So many that the one that draws lots is out by seven standard deviations.
    for (const keep of [false, true])
      shares(name, weights, 50_000, keep).forEach((share, i) => expect(Math.abs(share - weights[i] / total)).toBeLessThan(0.015));
  });
});

test.each(ALL)('%s: any candidates, any client: a position', (name) => {
  const weights = fc.array(fc.double({ min: 0.001, max: 65535, noNaN: true }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(weights, fc.integer(), fc.nat(65535), fc.boolean(), (weights, address, port, full) => {
      const loads = loadsFor(weights.length).fill(full ? 5 : 0);
      const position = cross(name, candidates(weights, 5), loads).pick(address, port);
      expect(Number.isInteger(position) && position >= 0 && position < weights.length).toBe(true);
    }),
    { numRuns: 15 },
  );
});

describe('leastconn', () => {
  test('evens out what is uneven, by weight', () => {
    const loads = loadsFor(3);
    const some = candidates([1, 1, 2]);
    [loads[1], loads[3], loads[5]] = [50, 10, 0];
    const scheduler = cross('leastconn', some, loads);
    for (let i = 0; i < 140; i++) loads[some[scheduler.pick(0, 0)].index]++;
    expect([loads[1], loads[3], loads[5]]).toEqual([50, 50, 100]);
  });

  test('idle servers take turns', () => {
    const scheduler = cross('leastconn', candidates([1, 1, 1]), loadsFor(3));
    expect(Array.from({ length: 6 }, () => scheduler.pick(0, 0))).toEqual([0, 1, 2, 0, 1, 2]);
  });

  test('passes over who is full', () => {
    const loads = loadsFor(2);
    const scheduler = cross('leastconn', [{ ...candidates([100, 1])[0], maxconn: 3 }, candidates([100, 1])[1]], loads);
    loads[1] = 3;
    loads[3] = 1000;
    expect(scheduler.pick(0, 0)).toBe(1);
    // And of equals.
    const equal = [{ ...candidates([1, 1])[0], maxconn: 3 }, candidates([1, 1])[1]];
    loads[3] = 3;
    expect(cross('leastconn', equal, loads).pick(0, 0)).toBe(1);
  });
});

describe.each(['leastconn', 'roundrobin'] as const)('%s in several threads', (name) => {
  const weights = [1, 2, 1];

  test('keeps the weights over all of them, whoever picks', () => {
    const choice = prepare(name, candidates(weights));
    const threads = [0, 1, 2].map(() => createScheduler(structuredClone(choice), loadsFor(3))!);
    const given = [0, 0, 0];
    for (let i = 0; i < 40; i++) given[threads[((i * i) % 7) % 3].pick(0, 0)]++;
    expect(given).toEqual([10, 20, 10]);
  });

  test('goes on where it was while the candidates stay', () => {
    const one = prepare(name, candidates(weights));
    expect(prepare(name, candidates(weights), one).turns).toBe(one.turns);
    expect(prepare(name, candidates([1, 3, 1]), one).turns).not.toBe(one.turns);
  });

  test('a thread that died in its turn does not hold up the others', () => {
    const choice = prepare(name, candidates(weights));
    new Int32Array(choice.turns!)[0] = 1;
    const scheduler = createScheduler(choice, loadsFor(3))!;
    expect(Array.from({ length: 4 }, () => scheduler.pick(0, 0)).sort()).toEqual([0, 1, 1, 2]);
  });
});

describe('random', () => {
  test('takes the less loaded of two that were drawn', () => {
    const loads = loadsFor(4);
    const draws = [0.1, 0.9, 0.9, 0.1, 0.3, 0.6, 0.6, 0.6];
    const scheduler = random(candidates([1, 1, 1, 1]), loads, () => draws.shift()!);
    [loads[1], loads[3], loads[5], loads[7]] = [9, 5, 4, 2];
    expect([scheduler.pick(0, 0), scheduler.pick(0, 0), scheduler.pick(0, 0), scheduler.pick(0, 0)]).toEqual([3, 3, 2, 2]);
  });

  test('is far more even than one draw', () => {
    const loads = loadsFor(10);
    const some = candidates(Array.from({ length: 10 }, () => 1));
    const scheduler = cross('random', some, loads);
    for (let i = 0; i < 10_000; i++) loads[some[scheduler.pick(0, 0)].index]++;
    // One draw's greatest excess over 1,000 is about 50; of two draws it stays at a few, whatever the number of picks.
    for (const { index } of some) expect(Math.abs(loads[index] - 1000)).toBeLessThan(20);
  });
});

describe('first', () => {
  test('fills one after the other up to maxconn, and goes back to the first with room', () => {
    const loads = loadsFor(3);
    const some = candidates([1, 5, 9], 2);
    const scheduler = cross('first', some, loads);
    const picks = Array.from({ length: 6 }, () => {
      const position = scheduler.pick(0, 0);
      loads[some[position].index]++;
      return position;
    });
    expect(picks).toEqual([0, 0, 1, 1, 2, 2]);
    loads[3] = 1;
    expect(scheduler.pick(0, 0)).toBe(1);
  });

  test('without limits the first gets all', () => expect(shares('first', [1, 9], 100, true)).toEqual([1, 0]));
});

describe('eligible', () => {
  const server = (name: string, up: boolean, backup = false, weight = 1) => ({ name, up, backup, weight });
  const names = (...servers: ReturnType<typeof server>[]) => eligible(servers).map(({ name }) => name);

  test('up, and of some weight', () => expect(names(server('a', true), server('b', false), server('c', true, false, 0))).toEqual(['a']));
  test('no backup while another is up', () => expect(names(server('a', true), server('b', true, true))).toEqual(['a']));
  test('all backups when no other is', () =>
    expect(names(server('a', false), server('b', true, true), server('c', true, true), server('d', false, true))).toEqual(['b', 'c']));
  test('nobody', () => expect(names(server('a', false), server('b', true, true, 0))).toEqual([]));
});

describe('leastLoaded', () => {
  test('who has room and the fewest for its weight, but for one', () => {
    const loads = loadsFor(3);
    const some = candidates([1, 1, 4], 4);
    [loads[1], loads[3], loads[5]] = [1, 0, 3];
    expect(leastLoaded(some, loads, -1)).toBe(1);
    expect(leastLoaded(some, loads, 1)).toBe(2);
    loads[5] = 4;
    expect(leastLoaded(some, loads, 1)).toBe(0);
    loads[1] = 4;
    expect(leastLoaded(some, loads, 1)).toBe(-1);
  });
});

describe('a choice', () => {
  test.each(ALL)('%s, of nobody: no scheduler', (name) => expect(createScheduler(prepare(name, []), loadsFor(1))).toBeUndefined());

  test('keeps its table while names and weights stay, whatever their indexes', () => {
    const one = prepare('maglev', candidates([1, 2]));
    const moved = candidates([1, 2]).map((candidate) => ({ ...candidate, index: candidate.index + 7 }));
    expect(prepare('maglev', moved, one).table).toBe(one.table);
    expect(prepare('source', moved, one).table).toBe(one.table);
    expect(prepare('maglev', candidates([1, 3]), one).table).not.toBe(one.table);
    expect(prepare('leastconn', moved, one).table).toBeUndefined();
    expect(prepare('maglev', moved, prepare('leastconn', moved)).table).toEqual(one.table);
  });

  test('crosses threads without a copy of its table', () => {
    const choice = prepare('source', candidates([1, 2]));
    const copy = structuredClone(choice);
    expect(copy).toEqual(choice);
    expect(copy.table!.buffer).toBeInstanceOf(SharedArrayBuffer);
  });

  test('is the same with the same scheduler and candidates', () => {
    const one = prepare('roundrobin', candidates([1, 2]));
    expect(isSameChoice(one, structuredClone(one))).toBe(true);
    expect(isSameChoice(one, prepare('leastconn', candidates([1, 2])))).toBe(false);
    for (const change of [{ weight: 2 }, { maxconn: 1 }, { index: 9 }, { name: 'x' }])
      expect(isSameChoice(one, prepare('roundrobin', [{ ...candidates([1])[0], ...change }, candidates([1, 2])[1]]))).toBe(false);
    expect(isSameChoice(one, prepare('roundrobin', candidates([1])))).toBe(false);
  });
});
