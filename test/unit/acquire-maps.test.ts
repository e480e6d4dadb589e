/** What becomes of connections that the kernel forwards, where the fast path cannot be had just then. */
import { openSync } from 'node:fs';
import { beforeEach, expect, test, vi } from 'vitest';
import { acquireMemory, isFollowable, takeoverObstacleTo } from '../../src/engine/acquire.ts';
import { originOf, writeHeader } from '../../src/engine/origin.ts';
import { FastPathError, ResourceError } from '../../src/errors.ts';
import { native } from '../../src/io/native.ts';
import { HEADER_WORDS } from '../../src/layout/header.ts';
import { type HashKey, type Memory, memorySize, type Room } from '../../src/layout/memory.ts';

const ROOM: Room = { capacity: 256, connections: 64, workers: 1 };
const KEY: HashKey = [1, 3, 5, 7];
const MAP = 77;

const place = { fd: -1, created: 0, adopt: (): unknown => undefined };

vi.mock('../../src/io/kept-files.ts', async (original) => ({
  ...(await original<typeof import('../../src/io/kept-files.ts')>()),
  openKept: () => openSync(`/proc/self/fd/${place.fd}`, 'r+'),
  createKept: (name: string, bytes: number) => {
    place.created++;
    return native().createSharedMemory(name, bytes).fd;
  },
}));
vi.mock('../../src/io/fast-path.ts', () => ({
  FastPath: { adopt: () => place.adopt() },
  fastPathObstacle: () => 'no libbpf',
}));
vi.mock('../../src/io/pins.ts', async (original) => ({
  ...(await original<typeof import('../../src/io/pins.ts')>()),
  isMapPinned: (_: string, id: number) => id === MAP,
}));

beforeEach(() => {
  const { fd, buffer } = native().createSharedMemory('table', memorySize({ ...ROOM, isInKernel: true }));
  writeHeader({ header: new Int32Array(buffer, 0, HEADER_WORDS) } as Memory, originOf(ROOM, 2, true), KEY, MAP);
  Object.assign(place, { fd, created: 0 });
  return () => native().closeFd(fd);
});

test.each([
  ['EPERM', FastPathError],
  ['ENOMEM', ResourceError],
])('the start fails, and all stays as it is: %s', (code, expected) => {
  place.adopt = () => {
    throw Object.assign(new Error(`bpf(): ${code}`), { code });
  };
  const make = vi.fn(() => undefined);
  const start = () => acquireMemory(ROOM, 2, KEY, true, undefined, make);
  expect(start).toThrow(expected);
  expect(start).toThrow(new RegExp(`bpf\\(\\): ${code}; mend that, or end them: lb4 rules --remove`));
  expect([place.created, make.mock.calls]).toEqual([0, []]);
  // So the firewall rules stay, too; and nobody who runs hands over to such a one.
  expect(isFollowable(ROOM, 2, true)).toBe(true);
  expect(takeoverObstacleTo(ROOM, 2, true)).toBe('no libbpf');
});

test('maps that are gone are none to wait for: new memory, and whoever makes it knows', () => {
  place.adopt = () => undefined;
  const make = vi.fn(() => undefined);
  const acquired = acquireMemory(ROOM, 2, KEY, true, undefined, make);
  expect([acquired.refused, make.mock.calls]).toEqual([expect.stringContaining('which are gone'), [[ROOM, KEY, true]]]);
  acquired.close(true);
});
