/** The fast path of new memory, and what another lb4 has left in the kernel. */
import { beforeEach, expect, test, vi } from 'vitest';
import { type FastPathOptions, makeFastPath } from '../../src/engine/fast-path.ts';
import { FastPathError } from '../../src/errors.ts';

const host = { create: (): unknown => made, pins: () => {}, strays: (_mustKnow: boolean) => {}, said: [] as string[], closed: 0 };
const made = { close: () => host.closed++ };
const nothing = { ...host };

vi.mock('../../src/io/fast-path.ts', () => ({ FastPath: { create: () => host.create() } }));
vi.mock('../../src/io/pins.ts', () => ({ removePins: () => host.pins() }));
vi.mock('../../src/io/strays.ts', () => ({ removeStrays: (mustKnow: boolean) => host.strays(mustKnow) }));

beforeEach(() => void Object.assign(host, nothing, { said: [], closed: 0 }));

const raise = (message: string) => () => {
  throw new Error(message);
};
const start = (options: Partial<FastPathOptions> = {}, isLost = false) =>
  makeFastPath({ capacity: 256, connections: 64, workers: 1 }, [1, 3, 5, 7], isLost, {
    fastPath: 'auto',
    takesMaps: true,
    told: (message) => host.said.push(message),
    ...options,
  });

test('auto says why there is none, whoever forwards', () => {
  expect(start()).toBe(made);
  expect(host.said).toEqual([]);
  expect(start({ takesMaps: false })).toBeUndefined();
  host.create = raise('no libbpf');
  expect(start()).toBeUndefined();
  expect(start({ fastPath: 'off' })).toBeUndefined();
  expect(host.said).toEqual(['no fast path in the kernel: io = "pcap" cannot use its maps', 'no fast path in the kernel: no libbpf']);
  expect(() => start({ fastPath: 'tc' })).toThrow('fast_path = "tc": no fast path in the kernel: no libbpf');
});

test.each(['auto', 'off', 'tc'] as const)('%s: it does not start beside programs that cannot be taken away', (fastPath) => {
  host.strays = raise('it stands at tc of eth0');
  expect(() => start({ fastPath })).toThrow(new FastPathError('it stands at tc of eth0'));
  expect(host.closed).toBe(fastPath === 'off' ? 0 : 1);
});

test.each([
  ['one with other settings', {}, false, false],
  ['one whose maps are gone', {}, true, true],
  ['one whose pins cannot be removed', { pins: raise('EROFS') }, false, true],
])('whether programs must be known of: after %s', (_, state, isLost, known) => {
  const asked: boolean[] = [];
  Object.assign(host, state, { strays: (mustKnow: boolean) => asked.push(mustKnow) });
  start({ fastPath: 'off' }, isLost);
  expect(asked).toEqual([known]);
  expect(host.said).toEqual('pins' in state ? ['what another lb4 has pinned cannot be removed: EROFS'] : []);
});
