import fc from 'fast-check';
import { expect, test } from 'vitest';
import { roundrobin } from '../../src/balance/roundrobin.ts';
import { turnsMemory } from '../../src/balance/turns.ts';

const named = (weights: readonly number[]) => weights.map((weight, i) => ({ name: `10.0.0.${i}:80`, weight, index: i, maxconn: 0 }));
const picks = (weights: readonly number[], count: number) => {
  const scheduler = roundrobin(named(weights), turnsMemory(weights.length));
  return Array.from({ length: count }, () => scheduler.pick(0, 0));
};

test('5, 1, 1 gives a a b a c a a (nginx)', () => {
  expect(
    picks([5, 1, 1], 14)
      .map((i) => 'abc'[i])
      .join(''),
  ).toBe('aabacaaaabacaa');
});

test('equal weights take turns', () => expect(picks([7, 7, 7], 7)).toEqual([0, 1, 2, 0, 1, 2, 0]));

test('one round gives each exactly its weight, never far from it on the way', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 12 }), (weights) => {
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const given = weights.map(() => 0);
      picks(weights, total).forEach((server, i) => {
        given[server]++;
        // At most one server's worth per other server away from its exact share.
        weights.forEach((weight, s) => expect(Math.abs(given[s] - ((i + 1) * weight) / total)).toBeLessThan(weights.length));
      });
      expect(given).toEqual(weights);
    }),
  );
});

test('the heaviest weights and the lightest', () => {
  const given = [0, 0];
  for (const server of picks([65535, 1], 65536)) given[server]++;
  expect(given).toEqual([65535, 1]);
});
