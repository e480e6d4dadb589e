/** What two writers have left in a flow, read as one. */
import { expect, test } from 'vitest';
import { bytesOf, idleOf } from '../../src/flow/counts.ts';
import { BYTES, ENTRY, KERNEL_BYTES, KERNEL_SEEN, SEEN } from '../../src/layout/flow.ts';

const DAY = 86_400_000;

test.each([
  ['a worker forwards, and the kernel never has', { seen: 30 * DAY, kernel: 0, now: 30 * DAY + 5 }, 5],
  ['the kernel forwards, and a worker has not for weeks', { seen: 0, kernel: 30 * DAY, now: 30 * DAY + 5 }, 5],
  ['the distance is half of what the clock can tell', { seen: 2 ** 31 + 1, kernel: 0, now: 2 ** 31 + 8 }, 7],
  ['the clock has begun anew', { seen: 2 ** 32 - 3, kernel: 2 ** 32 - 9, now: 2 ** 32 + 4 }, 7],
  ['the kernel has taken one since the clock was read', { seen: 1000, kernel: 1004, now: 1002 }, 0],
  ['both are old', { seen: 1000, kernel: 3000, now: 500_000 }, 497_000],
])('idle: %s', (_, { seen, kernel, now }, idle) => {
  const flow = new Int32Array(ENTRY);
  flow[SEEN] = seen;
  flow[KERNEL_SEEN] = kernel;
  expect(idleOf(flow, 0, now | 0)).toBe(idle);
});

test('bytes of both, modulo 2^32', () => {
  const flow = new Int32Array(ENTRY);
  flow[BYTES] = -5;
  flow[KERNEL_BYTES] = 7;
  expect(bytesOf(flow, 0)).toBe(2);
});
