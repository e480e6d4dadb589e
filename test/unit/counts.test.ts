/** What two writers have left in a flow, read as one. */
import { expect, test, vi } from 'vitest';
import { bytesOf, bytesSince, idleOf, settleBytes } from '../../src/flow/counts.ts';
import { BYTES, ENTRY, KERNEL_BYTES, KERNEL_BYTES_HIGH, SEEN } from '../../src/layout/flow.ts';

const DAY = 86_400_000;
const GB = 2 ** 30;

test.each([
  ['a moment', { seen: 30 * DAY, now: 30 * DAY + 5 }, 5],
  ['half of what the clock can tell', { seen: 0, now: 30 * DAY }, 30 * DAY],
  ['the clock has begun anew', { seen: 2 ** 32 - 3, now: 2 ** 32 + 4 }, 7],
  ['the kernel has seen one since the clock was read', { seen: 1004, now: 1002 }, 0],
])('idle: %s', (_, { seen, now }, idle) => {
  const flow = new Int32Array(ENTRY);
  flow[SEEN] = seen;
  expect(idleOf(flow, 0, now | 0)).toBe(idle);
});

test('bytes of both, modulo 2^32', () => {
  const flow = new Int32Array(ENTRY);
  flow[BYTES] = -5;
  flow[KERNEL_BYTES] = 7;
  expect(bytesOf(flow, 0)).toBe(2);
});

/** The second of two flows, so that places count. */
class Carried {
  readonly flows = new Int32Array(2 * ENTRY);
  readonly kernel = new BigUint64Array(this.flows.buffer, (ENTRY + KERNEL_BYTES) * 4, 1);
  #cursor = 0;

  carry(worker: number, kernel: number): this {
    this.flows[ENTRY + BYTES] += worker;
    this.kernel[0] += BigInt(kernel);
    return this;
  }

  collect(): number {
    const fresh = bytesSince(this.flows, ENTRY, this.#cursor);
    this.#cursor += fresh;
    settleBytes(this.flows, ENTRY);
    // What TCP's numbers are compared with has not moved.
    expect(bytesOf(this.flows, ENTRY)).toBe(this.#cursor | 0);
    expect(this.kernel[0]).toBeLessThan(2n ** 31n);
    expect(this.flows.subarray(0, ENTRY).every((word) => word === 0)).toBe(true);
    return fresh;
  }
}

const AMOUNTS = [0, 1, 2 * GB - 1, 2 * GB, 2 * GB + 1, 4 * GB - 1, 4 * GB, 4 * GB + 1, 6 * GB, 8 * GB + 7, 2 ** 45 + 3];

test.each(AMOUNTS)('to the byte: %i bytes of the kernel, whatever passed before, and whatever a worker has carried beside', (kernel) => {
  for (const before of AMOUNTS)
    for (const worker of [0, 1, 1460, GB, 2 * GB - 1]) {
      const carried = new Carried();
      expect(carried.carry(0, before).collect()).toBe(before);
      expect(carried.carry(worker, kernel).collect()).toBe(worker + kernel);
      expect(carried.collect()).toBe(0);
    }
});

test('nothing that may fail, or takes its time, lies between the two stores', () => {
  const carried = new Carried().carry(5, 3 * GB);
  const before = carried.flows.slice();
  for (const name of ['BigInt', 'BigInt64Array'] as const) {
    const spy = vi.spyOn(globalThis, name).mockImplementation(() => {
      throw new RangeError('no memory');
    });
    expect(() => settleBytes(carried.flows, ENTRY)).toThrow('no memory');
    spy.mockRestore();
    expect(carried.flows).toEqual(before);
  }
});

test('what the kernel counts is one number of 64 bits', () => {
  expect([KERNEL_BYTES % 2, KERNEL_BYTES_HIGH]).toEqual([0, KERNEL_BYTES + 1]);
});
