/** What becomes of the file when an engine stops. */
import { closeSync } from 'node:fs';
import { beforeEach, expect, test, vi } from 'vitest';
import { acquireMemory } from '../../src/engine/acquire.ts';
import { native } from '../../src/io/native.ts';
import type { Room } from '../../src/layout/memory.ts';

const place = { lost: undefined as string | undefined, removed: 0 };

vi.mock('../../src/io/kept-files.ts', async (original) => ({
  ...(await original<typeof import('../../src/io/kept-files.ts')>()),
  openKept: () => undefined,
  createKept: (name: string, bytes: number) => native().createSharedMemory(name, bytes).fd,
  lostKept: () => place.lost,
  removeKept: () => place.removed++,
}));

beforeEach(() => void Object.assign(place, { lost: undefined, removed: 0 }));

const ROOM: Room = { capacity: 256, connections: 64, workers: 1 };

test.each([
  ['it goes with the engine', false, undefined, 1],
  ['it stays for the next one', true, undefined, 0],
  ['what stands there by now is another lb4’s', false, '/run/lb4/kept-1/table', 0],
])('%s', (_, keep, lost, removed) => {
  const acquired = acquireMemory(ROOM, 2, [1, 3, 5, 7], true);
  expect([acquired.mortal, acquired.isFound]).toEqual([undefined, false]);
  place.lost = lost;
  acquired.close(keep);
  expect(place.removed).toBe(removed);
  // Whoever asks later gets no descriptor that is somebody else's by then.
  place.lost = '/run/lb4/kept-1/table';
  expect(acquired.lost()).toBeUndefined();
  expect(() => closeSync(acquired.fd)).toThrow('EBADF');
});
