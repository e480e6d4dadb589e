/** How many connections a source may have and open, where workers are several, and where one goes on with what another has left. */
import { beforeEach, expect, test, vi } from 'vitest';
import type { Access } from '../../src/access/guard.ts';
import { sourceMemory } from '../../src/access/source-table.ts';
import { portSlice } from '../../src/packet/steering.ts';
import { fromClient, fromServer, PORT } from '../fixtures/frames.ts';
import { World, type WorldOptions } from '../lab/world.ts';

beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

const limits = (more: Partial<Access>): Access => ({
  sourceRate: 0,
  sourceMaxconn: 0,
  sourceBits: 32,
  resets: false,
  dryRun: false,
  ...more,
});
const world = (access: Access, more: WorldOptions = {}) => new World({ up: [true, false], access, ...more });

/** The verdict of a SYN from the client's port 5000 + i. */
const syn = (on: World, i: number, source?: string) =>
  on.send({ ...fromClient({ from: 5000 + i, flags: 'S' }), ...(source !== undefined && { source }) }).verdict;

function establish(on: World, i: number): void {
  expect(syn(on, i)).toBe('opened');
  on.send(fromServer({ to: PORT + i, flags: 'SA' }));
  on.send(fromClient({ from: 5000 + i }));
}

test('after a kill what goes on counts, and makes room when it ends', () => {
  const first = world(limits({ sourceMaxconn: 2 }));
  establish(first, 0);
  establish(first, 1);
  expect(syn(first, 2)).toBe('limited');
  const next = first.next();
  expect([next.recovered, syn(next, 2)]).toEqual([2, 'limited']);
  next.send(fromClient({ from: 5000, flags: 'R', sequence: 1001 }));
  expect([syn(next, 3), syn(next, 4)]).toEqual(['opened', 'limited']);
});

test('after a kill the file as it is by then holds: another limit, another size of a source, none', () => {
  const first = world(limits({ sourceMaxconn: 2 }));
  establish(first, 0);
  establish(first, 1);
  const more = first.next({ access: limits({ sourceMaxconn: 3 }) });
  expect([syn(more, 2), syn(more, 3)]).toEqual(['opened', 'limited']);
  const wider = first.next({ access: limits({ sourceMaxconn: 2, sourceBits: 24 }) });
  expect([syn(wider, 2, '10.0.0.77'), syn(wider, 3, '10.0.1.77')]).toEqual(['limited', 'opened']);
  const none = first.next({ access: limits({ sourceRate: 100 }) });
  expect(syn(none, 2)).toBe('opened');
});

test('a reload that limits, widens a source, or takes the limit away counts what is there, once the sweep has been by', () => {
  const one = world(limits({}));
  for (let i = 0; i < 2; i++) establish(one, i);
  const reload = (more: Partial<Access>) => {
    one.apply({ up: [true, false], access: limits(more) });
    one.sweepAll(one.now);
  };
  reload({ sourceMaxconn: 2 });
  expect(syn(one, 2)).toBe('limited');
  reload({ sourceMaxconn: 2, sourceBits: 24 });
  expect([syn(one, 2, '10.0.0.77'), syn(one, 2)]).toEqual(['limited', 'limited']);
  reload({});
  expect(syn(one, 2)).toBe('opened');
  reload({ sourceMaxconn: 2 });
  one.send(fromClient({ from: 5000, flags: 'R', sequence: 1001 }));
  expect(syn(one, 3)).toBe('limited');
  one.send(fromClient({ from: 5001, flags: 'R', sequence: 1001 }));
  expect(syn(one, 3)).toBe('opened');
});

test('workers have one count and one rate: a limit is not one for each of them', () => {
  const known = sourceMemory(64);
  const access = limits({ sourceMaxconn: 2, sourceRate: 3 });
  const [a, b] = [0, 1].map((worker) => world(access, { known, slice: portSlice(worker, 2) }));
  expect([syn(a, 0), syn(b, 1), syn(a, 2), syn(b, 3)]).toEqual(['opened', 'opened', 'limited', 'limited']);
  a.send(fromClient({ from: 5000, flags: 'R', sequence: 1001 }));
  expect([syn(b, 4), syn(a, 5)]).toEqual(['opened', 'limited']);
  // Three in a second, by whichever.
  b.send(fromClient({ from: 5004, flags: 'R', sequence: 1001 }));
  b.send(fromClient({ from: 5001, flags: 'R', sequence: 1001 }));
  expect([syn(a, 6), syn(b, 7)]).toEqual(['limited', 'limited']);
  a.now += 1000;
  expect(syn(a, 8)).toBe('opened');
});

test('a new process knows no rates: each source has its burst anew', () => {
  const first = world(limits({ sourceRate: 0.001 }));
  expect([syn(first, 0), syn(first, 1)]).toEqual(['opened', 'limited']);
  const next = first.next();
  expect([syn(next, 1), syn(next, 2)]).toEqual(['opened', 'limited']);
});
