/** Passive signals: what the packets of a handshake tell of a server. */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { Signal } from '../../src/forward/signals.ts';
import { fromClient, fromServer } from '../fixtures/frames.ts';
import { World, type WorldOptions } from '../lab/world.ts';

beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

function after(segments: string, options: WorldOptions = {}): readonly Signal[] {
  const world = new World({ up: [true, false], ...options });
  for (const [side, flags] of segments.split(' ').map((segment) => segment.split(':')))
    world.send(side === 'c' ? fromClient({ flags: flags }) : fromServer({ flags: flags }));
  return world.signals.take();
}

const SYN: Signal = { index: 0, reason: 'syn' };
const RST: Signal = { index: 0, reason: 'rst' };

describe('of a connection', () => {
  test.each<[string, string, readonly Signal[]]>([
    ['its SYN tells nothing', 'c:S', []],
    ['a SYN sent again does', 'c:S c:S', [SYN]],
    ['once, however often', 'c:S c:S c:S c:S', [SYN]],
    ['not when the server has answered', 'c:S s:SA c:S', []],
    ['a reset by the server in answer to a SYN', 'c:S s:RA', [RST]],
    ['a reset by the server after its answer', 'c:S s:SA s:R', [RST]],
    ['both', 'c:S c:S s:RA', [SYN, RST]],
    ['a reset by the client tells nothing of the server', 'c:S c:R', []],
    ['nor one after its answer', 'c:S s:SA c:R', []],
    ['a reset later is a matter of the application', 'c:S s:SA c:A s:R', []],
    ['the SYN of a new connection on an old path', 'c:S s:SA c:A s:R c:S', []],
    ['and that one sent again', 'c:S s:SA c:A s:R c:S c:S', [SYN]],
  ])('%s', (_, segments, signals) => expect(after(segments)).toEqual(signals));

  test('DSR: the client’s half', () => {
    expect(after('c:S c:S', { mode: 'dsr' })).toEqual([SYN]);
    expect(after('c:S c:A c:S', { mode: 'dsr' })).toEqual([]);
    expect(after('c:A', { mode: 'dsr', scheduler: 'maglev' })).toEqual([]);
  });
});

test('each server for itself, and nothing twice', () => {
  const world = new World();
  for (const from of [1, 2, 2, 1, 3]) world.send(fromClient({ from, flags: 'S' }));
  expect(world.signals.isNoted).toBe(true);
  expect(world.signals.take()).toEqual([
    { index: 1, reason: 'syn' },
    { index: 0, reason: 'syn' },
  ]);
  expect(world.signals.isNoted).toBe(false);
  expect(world.signals.take()).toEqual([]);
  world.send(fromClient({ from: 2, flags: 'S' }));
  expect(world.signals.take()).toEqual([{ index: 1, reason: 'syn' }]);
});

test('a server that left the set is blamed for nothing, nor is its successor', () => {
  const world = new World({ up: [true, false] });
  world.send(fromClient({ flags: 'S' }));
  world.apply({ gone: [0] });
  world.apply({ up: [true, false] });
  world.send(fromServer({ flags: 'RA' }));
  expect(world.signals.take()).toEqual([]);
});
