/** FINs that wait to be borne out: how many can, and for how long. */
import { describe, expect, test } from 'vitest';
import { PendingFins } from '../../src/flow/pending-fins.ts';
import { ENTRY, NONE } from '../../src/layout/flow.ts';

const flow = (slot: number) => slot * ENTRY;

/** Slots as the flow table's hash strews them. */
function strewn(count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.imul(i + 1, 0x9e3779b1) >>> 12);
}

describe('FINs that wait', () => {
  test('five hundred at a time, each with its own number', () => {
    const pendingFins = new PendingFins();
    const slots = strewn(500);
    for (const [i, slot] of slots.entries()) pendingFins.put(flow(slot), 1000 + i, i, 0xffffff00 | 0);
    for (const [i, slot] of slots.entries()) {
      const at = pendingFins.find(flow(slot), 100);
      expect([pendingFins.number(at), pendingFins.payload(at)]).toEqual([1000 + i, i]);
    }
  });

  test('one that comes again has one place', () => {
    const pendingFins = new PendingFins();
    for (let i = 0; i < 100; i++) pendingFins.put(flow(8), i, 0, i);
    pendingFins.put(flow(9), 7, 0, 100);
    expect(pendingFins.number(pendingFins.find(flow(8), 100))).toBe(99);
    pendingFins.drop(pendingFins.find(flow(8), 100));
    expect(pendingFins.find(flow(8), 100)).toBe(NONE);
    expect(pendingFins.number(pendingFins.find(flow(9), 100))).toBe(7);
  });

  test('more than there are places for: the latest', () => {
    const pendingFins = new PendingFins();
    for (let i = 0; i < 100_000; i++) pendingFins.put(flow(i), i, 0, i);
    const waiting = Array.from({ length: 100_000 }, (_, i) => i).filter((i) => pendingFins.find(flow(i), 100_000) !== NONE);
    expect(waiting).toHaveLength(4096);
    expect(waiting[0]).toBe(100_000 - 4096);
  });

  test('a minute', () => {
    const pendingFins = new PendingFins();
    pendingFins.put(flow(1), 7, 0, 0);
    expect(pendingFins.find(flow(1), 60_000)).not.toBe(NONE);
    expect(pendingFins.find(flow(1), 60_001)).toBe(NONE);
  });
});
