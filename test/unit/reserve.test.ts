/** Places that threads take of a shared load. */
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { reserve } from '../../src/balance/index.ts';
import { ROOT } from '../lab/lab.ts';

test('takes a place up to the limit, or without one, and only of a load that is as it was seen', () => {
  const loads = Int32Array.of(0, 0);
  expect(Array.from({ length: 4 }, () => reserve(loads, 1, 3))).toEqual([true, true, true, false]);
  expect(reserve(loads, 1, 0)).toBe(true);
  expect([reserve(loads, 0, 3, 1), reserve(loads, 0, 3, 0), reserve(loads, 0, 3, 0), reserve(loads, 0, 1, 1)]).toEqual([
    false,
    true,
    false,
    false,
  ]);
  expect([...loads]).toEqual([1, 4]);
});

const LIMIT = 3;
const ROUNDS = 20_000;

test('never one too many, however many threads take and give back at a time', async () => {
  const shared = new Int32Array(new SharedArrayBuffer(3 * Int32Array.BYTES_PER_ELEMENT));
  const program = `
    const { shared, limit, rounds } = require('node:worker_threads').workerData;
    import('${ROOT}/dist/src/balance/reserve.js').then(({ reserve }) => {
      for (let i = 0; i < rounds; i++) {
        if (!reserve(shared, 0, limit)) continue;
        // Who is in at a time, counted beside it.
        if (Atomics.add(shared, 1, 1) >= limit) Atomics.add(shared, 2, 1);
        Atomics.sub(shared, 1, 1);
        Atomics.sub(shared, 0, 1);
      }
    });`;
  const workers = Array.from({ length: LIMIT + 1 }, () => {
    return new Worker(program, { eval: true, workerData: { shared, limit: LIMIT, rounds: ROUNDS } });
  });
  const codes = await Promise.all(workers.map((worker) => new Promise((resolve) => void worker.once('exit', resolve))));
  expect(codes).toEqual(workers.map(() => 0));
  expect([...shared]).toEqual([0, 0, 0]);
});
