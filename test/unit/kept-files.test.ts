/** Where the table that outlives lb4 is put. */
import { expect, test } from 'vitest';
import { rootFor } from '../../src/io/kept-places.ts';

const MB = 1e6;
const place = (root: string, free: number) => ({ root, free: free * MB });

test.each([
  ['in the first place with room', [place('/run', 400), place('/dev/shm', 400)], '/run'],
  ['in the next one where it would take half of the first', [place('/run', 98), place('/dev/shm', 400)], '/dev/shm'],
])('%s', (_, places, root) => {
  expect(rootFor(70 * MB, places, 1000 * MB)).toBe(root);
});

test.each([
  ['without any tmpfs', [], 1000, 'there is no tmpfs at /run or /dev/shm'],
  [
    'where all are small',
    [place('/run', 98), place('/dev/shm', 64)],
    1000,
    'the table takes 70 MB, half or more of what is free (/run 98 MB, /dev/shm 64 MB)',
  ],
  [
    'in a small control group',
    [place('/run', 1000)],
    128,
    'the table takes 70 MB, half or more of the 128 MB that this control group may have',
  ],
])('nowhere %s', (_, places, limit, reason) => {
  expect(() => rootFor(70 * MB, places, limit * MB)).toThrow(reason);
});
