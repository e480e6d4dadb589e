import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { delta, fold, sum, update } from '../../src/packet/checksum.ts';
import { referenceChecksum, referenceSum } from '../lab/packets.ts';

/** The core sums in native (little-endian) order, the reference in the network's. */
const swap = (value: number) => ((value & 0xff) << 8) | (value >>> 8);
/** Both are zero in one's complement. */
const same = (a: number, b: number) => expect(a % 0xffff).toBe(b % 0xffff);

/** Bytes and words in which the corners turn up often. */
const byte = fc.oneof({ weight: 2, arbitrary: fc.constantFrom(0, 0xff) }, fc.integer({ min: 0, max: 255 }));
const half = fc.oneof(fc.constantFrom(0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff), fc.integer({ min: 0, max: 0xffff }));
const word = fc.tuple(half, half).map(([low, high]) => low | (high << 16));

describe('fold', () => {
  test('adds the carries in, below 2^32', () => {
    fc.assert(
      fc.property(fc.nat(0xffffffff), (total) => {
        const folded = fold(total);
        expect(folded).toBeLessThanOrEqual(0xffff);
        expect(folded).toBe(total === 0 ? 0 : ((total - 1) % 0xffff) + 1);
      }),
    );
  });

  test.each([
    [0, 0],
    [0xffff, 0xffff],
    [0x10000, 1],
    [0x1ffff, 1],
    [0xffff0000, 0xffff],
    [0xffffffff, 0xffff],
  ])('of %i is %i', (total, expected) => expect(fold(total)).toBe(expected));
});

describe('sum', () => {
  test('is the slow sum, at any even offset and any length', () => {
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 200 }), fc.nat(20), (message, half) => {
        const bytes = new Uint8Array(half * 2 + message.length + 8).fill(0xaa);
        bytes.set(message, half * 2);
        expect(swap(sum(bytes, half * 2, message.length))).toBe(referenceSum(message));
      }),
    );
  });

  test.each([0, 1, 2, 3, 65534, 65535])('of %i bytes of 0xff', (length) => {
    const bytes = new Uint8Array(length).fill(0xff);
    expect(swap(sum(bytes, 0, length))).toBe(referenceSum(bytes));
  });

  test('of the example of RFC 1071 section 3', () => {
    expect(swap(sum(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7), 0, 8))).toBe(0xddf2);
  });
});

describe('update', () => {
  test('RFC 1624 section 4: 0xDD2F, 0x5555 becoming 0x3285, is 0x0000', () => {
    expect(update(0xdd2f, delta(0x5555, 0x3285))).toBe(0x0000);
    expect(swap(update(swap(0xdd2f), delta(swap(0x5555), swap(0x3285))))).toBe(0x0000);
  });

  test('a word replaced: the checksum is that of the changed message', () => {
    fc.assert(
      fc.property(fc.array(byte, { minLength: 8, maxLength: 60 }), fc.nat(6), word, (message, at, to) => {
        const view = new DataView(new ArrayBuffer(64));
        message.forEach((value, i) => view.setUint8(i, value));
        const bytes = new Uint8Array(view.buffer, 0, message.length);
        const place = Math.min(at * 4, (message.length - 4) & ~1);
        const before = swap(referenceChecksum(bytes));
        const change = delta(view.getInt32(place, true), to);
        view.setInt32(place, to, true);
        expect(change).toBeGreaterThanOrEqual(0);
        expect(change).toBeLessThanOrEqual(0xffff);
        const after = update(before, change);
        same(swap(after), referenceChecksum(bytes));
        // A message that is not all zeroes has one true checksum, and it is never 0xffff.
        if (bytes.some((value) => value !== 0) && before !== 0xffff) expect(swap(after)).toBe(referenceChecksum(bytes));
      }),
      { numRuns: 1000 },
    );
  });

  test('several deltas may be added and folded', () => {
    fc.assert(
      fc.property(half, fc.array(fc.tuple(word, word), { minLength: 1, maxLength: 5 }), (checksum, changes) => {
        const once = update(checksum, fold(changes.reduce((total, [from, to]) => total + delta(from, to), 0)));
        same(
          once,
          changes.reduce((value, [from, to]) => update(value, delta(from, to)), checksum),
        );
      }),
    );
  });

  test('there and back again is where it was', () => {
    fc.assert(
      fc.property(half, word, word, (checksum, from, to) => {
        same(update(update(checksum, delta(from, to)), delta(to, from)), checksum);
      }),
    );
  });
});
