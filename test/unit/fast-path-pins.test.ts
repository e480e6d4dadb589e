/** What the next lb4 finds of the fast path: its maps, and between interfaces the filter of the packet socket. */
import { beforeEach, expect, test, vi } from 'vitest';
import { FastPath } from '../../src/io/fast-path.ts';

const PROGRAMS = { flows: 11, hops: 12, counts: 13, links: 14, tc: 15, xdp: 16, tap: 17 };
const host = { pinned: new Map<string, number>(), closed: [] as number[], refused: '' };

vi.mock('../../src/io/native.ts', () => ({
  native: () => ({ loadFastPath: () => PROGRAMS, mapArray: () => new ArrayBuffer(0), mapId: (fd: number) => fd }),
}));
vi.mock('../../src/io/pins.ts', () => ({
  preparePins: () => {},
  removePins: () => host.pinned.clear(),
  pins: () => [...host.pinned.keys()],
  openPin: (name: string) => host.pinned.get(name),
  isMapPinned: (name: string, id: number) => host.pinned.get(name) === id,
  pin: (fd: number, name: string) => {
    if (name === host.refused) throw new Error('ENOSPC');
    host.pinned.set(name, fd);
  },
}));
vi.mock('node:fs', async (original) => ({
  ...(await original<typeof import('node:fs')>()),
  readFileSync: () => '',
  closeSync: (fd: number) => host.closed.push(fd),
}));

beforeEach(() => void Object.assign(host, { pinned: new Map(), closed: [], refused: '' }));

const room = (isInline: boolean) => ({ capacity: 256, connections: 64, workers: 1, isInKernel: true, isInline });

test.each([
  [true, ['flows', 'hops', 'counts', 'tap']],
  [false, ['flows', 'hops', 'counts']],
])('between interfaces (%s): what somebody has taken away is told, and pinned again', (isInline, all) => {
  const path = FastPath.create(room(isInline), [1, 3, 5, 7]);
  expect([[...host.pinned.keys()], path.unpinned()]).toEqual([all, []]);
  host.pinned.clear();
  expect(path.unpinned()).toEqual(all);
  path.pinAgain();
  expect([[...host.pinned.keys()], path.unpinned()]).toEqual([all, []]);
});

test('one that goes on with maps, and whose filter cannot be pinned, leaves nothing open', () => {
  FastPath.create(room(true), [1, 3, 5, 7]);
  host.refused = 'tap';
  expect(() => FastPath.adopt(room(true), [1, 3, 5, 7], PROGRAMS.flows)).toThrow('ENOSPC');
  expect(host.closed.toSorted()).toEqual([11, 11, 12, 12, 13, 13, 14, 15, 16, 17]);
});
