import { expect, test } from 'vitest';
import { SlowStart } from '../../src/service/slow-start.ts';

test('a server grows to its weight in ten steps', () => {
  const slow = new SlowStart();
  slow.begin('a', 1_000, 10_000);
  expect([1_000, 1_999, 2_000, 6_000, 9_999, 10_000, 11_000].map((now) => slow.share('a', now))).toEqual([0.1, 0.1, 0.2, 0.6, 0.9, 1, 1]);
  expect(slow.share('another', 1_000)).toBe(1);
});

test('it tells when the next step is due, and that none is', () => {
  const slow = new SlowStart();
  expect(slow.nextStep(0)).toBeUndefined();
  slow.begin('a', 0, 10_000);
  slow.begin('b', 300, 10_000);
  expect(slow.nextStep(400)).toBe(600);
  expect(slow.nextStep(1_100)).toBe(200);
  expect(slow.nextStep(9_500)).toBeUndefined();
  expect(slow.share('a', 9_500)).toBe(1);
});

test('without a time a server has its weight at once, also after an earlier slow start', () => {
  const slow = new SlowStart();
  slow.begin('a', 0, 10_000);
  slow.begin('a', 1, 0);
  expect(slow.share('a', 2)).toBe(1);
});

test('it ends by itself', () => {
  const slow = new SlowStart();
  slow.begin('a', 0, 1_000);
  let now = 0;
  let steps = 0;
  for (let wait = slow.nextStep(now); wait !== undefined; wait = slow.nextStep(now)) {
    now += wait + 1;
    if (++steps > 20) break;
  }
  expect(steps).toBeLessThanOrEqual(10);
  expect(slow.share('a', now)).toBe(1);
});
