/** Whatever comes in: the pipeline does not throw, each frame has one verdict, nothing leaves broken that came whole. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FLAG_GSO, FLAG_NO_ETHERNET, FLAG_PARTIAL } from '../../src/layout/frames.ts';
import { HOP } from '../../src/layout/hops.ts';
import { rows } from '../fixtures/rows.ts';
import { buildFrame, referenceChecksum, wrongChecksums } from '../lab/packets.ts';
import { World, type WorldOptions } from '../lab/world.ts';

const valid = rows.flatMap((row) => row.steps.map((step) => buildFrame(step.in))).filter((frame) => frame.length < 2000);
const mutation = fc.tuple(fc.oneof(fc.nat(60), fc.nat(1999)), fc.oneof(fc.constantFrom(0, 0xff, 0x45, 0x46, 0x50, 0x0f), fc.nat(255)));
/** A valid frame, bytes of it changed, sometimes cut or lengthened; its IP checksum sometimes put right again. */
const mutated = fc
  .record({
    frame: fc.constantFrom(...valid),
    changes: fc.array(mutation, { maxLength: 6 }),
    length: fc.option(fc.nat(200)),
    right: fc.boolean(),
  })
  .map(({ frame, changes, length, right }) => {
    const bytes = new Uint8Array(length === null ? frame.length : Math.max(14, length));
    bytes.set(frame.subarray(0, bytes.length));
    for (const [at, value] of changes) if (at + 14 < bytes.length) bytes[at + 14] = value;
    if (right && bytes.length >= 34) {
      bytes.fill(0, 24, 26);
      const checksum = referenceChecksum(bytes.subarray(14, 14 + (bytes[14] & 0xf) * 4));
      bytes.set([checksum >> 8, checksum & 0xff], 24);
    }
    return bytes;
  });
const bytes = fc.oneof({ weight: 4, arbitrary: mutated }, { weight: 1, arbitrary: fc.uint8Array({ minLength: 14, maxLength: 300 }) });
const flags = fc.constantFrom(0, 0, 0, FLAG_PARTIAL, FLAG_PARTIAL | FLAG_GSO | (1460 << 16), FLAG_NO_ETHERNET);

const isWhole = (ip: Uint8Array) => ip.length >= 20 && (ip[0] & 0xf) >= 5 && ip.length >= (ip[0] & 0xf) * 4;

function survives(options: WorldOptions, frames: readonly (readonly [Uint8Array, number])[]): void {
  const world = new World(options);
  for (const [frame, flag] of frames) {
    const before = frame.slice();
    const was = isWhole(frame.subarray(14)) ? wrongChecksums(frame.subarray(14), (flag & FLAG_PARTIAL) !== 0) : ['IP'];
    // Throws unless exactly one verdict was counted, and OUT was set.
    const result = world.sendFrames([{ frame, flags: flag }])[0];
    expect(frame).toEqual(before);
    const forwards =
      ['forwarded', 'opened', 'adopted', 'stateless', 'icmpTranslated'].includes(result.verdict) ||
      /^reset|^timeExceeded|^tooBig/.test(result.verdict);
    expect(result.out !== 'drop', result.verdict).toBe(forwards);
    if (result.out === 'drop') continue;
    const ip = result.frame.subarray(14);
    expect(ip.length).toBe(ip[2] * 256 + ip[3]);
    const wrong = wrongChecksums(ip, (result.flags & FLAG_PARTIAL) !== 0);
    if (!was.includes('IP')) expect(wrong, result.verdict).not.toContain('IP');
    if (was.length === 0)
      expect(
        wrong.filter((name) => !name.startsWith('quoted')),
        result.verdict,
      ).toEqual([]);
    // lb4's own packets are always right.
    if (/^reset|^timeExceeded|^tooBig/.test(result.verdict)) expect(wrong.filter((name) => !name.startsWith('quoted'))).toEqual([]);
  }
  expect(world.table.size % (options.mode === undefined ? 2 : 1)).toBe(0);
  expect(world.verdicts.reduce((sum, n) => sum + n, 0)).toBe(frames.length);
  world.sweepAll(200_000);
  expect(world.table.size).toBe(0);
}

const sequence = fc.array(fc.tuple(bytes, flags), { minLength: 1, maxLength: 60, size: 'max' });

test.each<[string, WorldOptions]>([
  ['full NAT', {}],
  ['full NAT, no server up', { up: [false, false] }],
  ['a small MTU', { mtu: 100, clientMtu: 100 }],
  ['few answers', { answers: 2 }],
  ['a small table', { connections: 4 }],
  ['DSR, adopting', { mode: 'dsr', scheduler: 'maglev' }],
  ['DSR, a small table', { mode: 'dsr', scheduler: 'source', connections: 8 }],
  ['limits', { maxconn: 2, frontendMaxconn: 3 }],
  ['L2 DSR', { mode: 'dsrL2' }],
])('%s', (_, options) => {
  fc.assert(
    fc.property(sequence, (frames) => survives(options, frames)),
    { numRuns: 150 },
  );
});

test('every frame of the fixtures, one after the other, and in batches of four', () => {
  survives(
    {},
    valid.map((frame) => [frame, 0] as const),
  );
  const world = new World();
  for (let i = 0; i + 4 <= valid.length; i += 4) world.sendFrames(valid.slice(i, i + 4).map((frame) => ({ frame })));
  expect(world.verdicts.reduce((sum, n) => sum + n, 0)).toBe(valid.length - (valid.length % 4));
  expect(world.hops[1 * HOP]).toBe(2);
});
