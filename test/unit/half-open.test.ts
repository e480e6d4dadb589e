/** Lists of half-open connections: the oldest of each goes first. */
import { expect, test } from 'vitest';
import { HalfOpen } from '../../src/flow/half-open.ts';
import { NONE } from '../../src/layout/flow.ts';

test('there may be more lists than were foreseen: those before keep what is in them', () => {
  const lists = new HalfOpen(new Int32Array(2 * 8));
  const many = 1_000_000;
  lists.add(0, 3);
  lists.add(1, 3);
  lists.add(2, many);
  expect([3, many, many - 1, 2 * many].map((list) => [lists.oldest(list), lists.length(list)])).toEqual([
    [0, 2],
    [2, 1],
    [NONE, 0],
    [NONE, 0],
  ]);
  lists.renew(0, 3);
  expect([lists.oldest(3), lists.next(1), lists.next(0), lists.size, lists.longest]).toEqual([1, 0, NONE, 3, 3]);
  for (const record of [0, 1]) lists.remove(record, 3);
  lists.measure();
  expect([lists.longest, lists.oldest(3)]).toEqual([many, NONE]);
});
