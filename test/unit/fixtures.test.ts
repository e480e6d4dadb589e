import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { verdictNames } from '../../src/forward/verdict.ts';
import { FLAG_GSO, FLAG_PARTIAL } from '../../src/layout/frames.ts';
import type { Row, Step } from '../fixtures/frames.ts';
import { rows } from '../fixtures/rows.ts';
import { buildFrame, wrongChecksums } from '../lab/packets.ts';
import { BACK, FRONT, MAC, World } from '../lab/world.ts';

const seen = new Set<string>();
/** Only between interfaces, of which crossing.test.ts tells. */
const INLINE = new Set<string>(['crossed', 'flooded', 'dropNoPort', 'dropLoop', 'dropSameSide', 'dropTooLong']);
const routed = verdictNames.filter((name) => !INLINE.has(name));
// The port pools begin at their first port.
beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

describe('frames', () => {
  test.each(rows.map((row) => [row.description, row] as const))('%s', (_, row) => {
    run(row);
    // In a table that no cache holds, which is read ahead (pipeline.ts: CACHED), and with room for no more connections than before.
    run({ ...row, world: { connections: 64, ...row.world, capacity: 65_536 } });
  });

  afterAll(() => expect(routed.filter((name) => !seen.has(name))).toEqual([]));
});

test('every verdict has a row', () => {
  const told = new Set(rows.flatMap((row) => row.steps.map((step) => step.verdict)));
  expect(routed.filter((name) => !told.has(name))).toEqual([]);
});

function run({ world: options, steps }: Row): void {
  const world = new World(options);
  for (const [i, step] of steps.entries()) {
    step.first?.(world);
    const result = world.send(step.in, step.arrival);
    expect(result.verdict, `step ${i}`).toBe(step.verdict);
    seen.add(result.verdict);
    if (!step.out) expect(result.out, `step ${i}`).toBe('drop');
    else leaves(step, result, `step ${i}`);
  }
}

/** The frame is the expected one to the byte, its checksums are right, and it goes out where it must. */
function leaves(step: Step, result: ReturnType<World['send']>, message: string): void {
  const expected = buildFrame(step.out!);
  const from = step.routed ? 14 : 0;
  expect(result.out, message).toBe(step.routed ? 'route' : 'send');
  expect(hex(result.frame.subarray(from)), message).toBe(hex(expected.subarray(from)));
  const partial = (result.flags & FLAG_PARTIAL) !== 0;
  // A quoted segment of a partial checksum was never finished.
  if (!(step.in.tcp?.partial && step.out!.icmp)) expect(wrongChecksums(result.frame.subarray(14), partial), message).toEqual([]);
  expect(partial, message).toBe((step.out!.tcp ?? step.out!.udp)?.partial ?? false);
  expect((result.flags & FLAG_GSO) !== 0, message).toBe(step.out!.gso !== undefined);
  expect(result.cut, message).toBe(step.cut);
  if (!partial) expect([...result.vnet], message).toEqual(Array.from({ length: 10 }, () => 0));
  if (step.routed) return;
  const answered = step.out!.ethernet![0] === step.in.ethernet![1];
  const arrived = step.arrival?.interface ?? FRONT;
  const towardsServers = step.out!.ethernet![1] === MAC.back;
  expect(result.interface, message).toBe(answered ? arrived : towardsServers ? BACK : FRONT);
}

/** Short frames in full, long ones so that a difference can still be read. */
function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex').replaceAll(/.{64}/g, '$&\n');
}
