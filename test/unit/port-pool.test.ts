import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { PortPool } from '../../src/flow/port-pool.ts';
import { CLIENT_PORTS } from '../../src/layout/ports.ts';
import { ALL_PORTS, portSlice } from '../../src/packet/steering.ts';

const range = (from: number, many: number): number[] => Array.from({ length: many }, (_, i) => from + i);

test('claims and releases agree with a model', () => {
  const parts = fc.record({
    first: fc.integer({ min: 1, max: 50000 }),
    step: fc.integer({ min: 1, max: 50 }),
    count: fc.integer({ min: 1, max: 300 }),
    start: fc.double({ min: 0, max: 1, noNaN: true }),
    /** By the place in the range. */
    taken: fc.oneof(
      fc.uniqueArray(fc.nat(), { maxLength: 50 }),
      fc.tuple(fc.nat(300), fc.nat(300)).map(([from, many]) => range(from, many)),
    ),
  });
  // Mostly claims, then mostly releases, then mixed.
  const steps = fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 1000, size: 'max' });
  fc.assert(
    fc.property(parts, steps, ({ first, step, count, start, taken }, steps) => {
      const pool = new PortPool({ first, count, step }, start);
      const out = new Set<number>(taken.map((place) => first + (place % count) * step));
      for (const port of out) pool.take(port);
      expect(pool.available).toBe(count - out.size);
      const rested: number[] = [];
      let fresh = count - out.size;
      for (const [claim, which] of steps) {
        if (claim) {
          const port = pool.claim();
          if (out.size === count) expect(port).toBe(0);
          else {
            expect(port).toBeGreaterThanOrEqual(first);
            expect(port).toBeLessThan(first + count * step);
            expect((port - first) % step).toBe(0);
            expect(out.has(port)).toBe(false);
            // A port that was never used before one that was; then the one that has rested longest.
            if (fresh > 0) fresh--;
            else expect(port).toBe(rested.shift());
            out.add(port);
          }
        } else if (out.size > 0) {
          const port = [...out][which % out.size];
          out.delete(port);
          rested.push(port);
          pool.release(port);
        }
        expect(pool.available).toBe(count - out.size);
        expect(pool.size).toBe(count);
      }
    }),
  );
});

test('the whole range goes out once, and again in the order of its return', () => {
  const pool = new PortPool();
  const ports = Array.from({ length: pool.size }, () => pool.claim());
  expect(new Set(ports).size).toBe(CLIENT_PORTS.last - CLIENT_PORTS.first + 1);
  expect([Math.min(...ports), Math.max(...ports)]).toEqual([CLIENT_PORTS.first, CLIENT_PORTS.last]);
  expect(pool.claim()).toBe(0);
  for (const port of ports) pool.release(port);
  expect(Array.from({ length: pool.size }, () => pool.claim())).toEqual(ports);
});

test('whoever has taken up a full pool passes its ports by a word at a time, once', () => {
  const pool = new PortPool(ALL_PORTS, 0.5);
  const place = Math.floor(ALL_PORTS.count / 2);
  for (let port = CLIENT_PORTS.first; port <= CLIENT_PORTS.last; port++) if (port !== CLIENT_PORTS.first + place - 1) pool.take(port);
  const looks = vi.spyOn(Math, 'clz32');
  expect(pool.claim()).toBe(CLIENT_PORTS.first + place - 1);
  expect(looks.mock.calls.length).toBeLessThanOrEqual(Math.ceil(ALL_PORTS.count / 32) + 2);
  looks.mockClear();
  expect([pool.claim(), looks.mock.calls.length]).toEqual([0, 0]);
  looks.mockRestore();
});

test('it begins somewhere else each time', () => {
  expect(new Set(Array.from({ length: 20 }, () => new PortPool().claim())).size).toBeGreaterThan(1);
});

test('workers share the range out: each port is of one', () => {
  for (const workers of [1, 2, 3, 7, 64]) {
    const pools = Array.from({ length: workers }, (_, worker) => new PortPool(portSlice(worker, workers)));
    const ports = pools.flatMap((pool) => Array.from({ length: pool.size }, () => pool.claim()));
    expect([...ports].sort((a, b) => a - b)).toEqual(Array.from({ length: ALL_PORTS.count }, (_, i) => CLIENT_PORTS.first + i));
    expect(pools.map((pool) => pool.claim())).toEqual(pools.map(() => 0));
  }
});
