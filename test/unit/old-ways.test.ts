/** Ways that nobody asks for any more go when no connection names them, and not before. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { prepare } from '../../src/balance/index.ts';
import { OldWays, type Tables } from '../../src/engine/old-ways.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import { Ways } from '../../src/forward/ways.ts';
import * as C from '../../src/layout/connection.ts';
import { SERVER_HOPS, WAY } from '../../src/layout/hops.ts';
import { TCP } from '../../src/packet/fields.ts';
import { fromClient } from '../fixtures/frames.ts';
import { connectionsIn, World } from '../lab/world.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A server that comes back on other ports. */
function set(...ports: readonly number[]): ServiceSet {
  const servers = ports.map((port, index) => ({ index, address: 11, port, protocol: TCP }));
  return {
    frontends: [{ index: 0, address: 1, port: 80, protocol: TCP, backend: 'a', maxconn: 0, draining: false }],
    backends: [{ name: 'a', mode: 'passthrough', servers, choice: prepare('roundrobin', []) }],
  };
}

/** Places are given out from 1 on: a world's first server has the first, its second one the second. */
class Scene {
  readonly places = new Int32Array(SERVER_HOPS * WAY);
  readonly ways = new Ways(this.places);
  readonly dropped = vi.fn();
  readonly old: OldWays;

  constructor(...memories: Tables[]) {
    this.old = new OldWays(this.ways, memories, this.dropped);
  }

  apply(...ports: readonly number[]): this {
    this.ways.apply(set(...ports));
    this.old.watch();
    return this;
  }

  hops(): number[] {
    return [...this.ways.all()].map(({ hop }) => hop);
  }
}

/** With so many connections half-open, to the first server alone. */
function worldWith(connections: number): World {
  const world = new World({ up: [true, false] });
  for (let i = 0; i < connections; i++) world.send(fromClient({ from: 5000 + i, flags: 'S' }));
  return world;
}

const MINUTE = 60_000;
const LOOK = 1000;

test('a way goes a minute after nobody asks for it, unless a connection of any worker names it; then after its end', () => {
  const [idle, busy] = [worldWith(0), worldWith(4)];
  // Those before it are free again.
  for (const { first } of connectionsIn(busy).slice(0, 3)) busy.connections.remove(first >> 4, 0);
  const scene = new Scene(idle.memory, busy.memory).apply(80, 81, 82).apply(82);
  vi.advanceTimersByTime(MINUTE - 1);
  expect([scene.hops(), scene.dropped.mock.calls.length]).toEqual([[1, 2, 3], 0]);
  vi.advanceTimersByTime(LOOK);
  expect([scene.hops(), scene.dropped.mock.calls.length]).toEqual([[1, 3], 1]);
  vi.advanceTimersByTime(10 * MINUTE);
  expect([scene.hops(), scene.dropped.mock.calls.length]).toEqual([[1, 3], 1]);
  busy.connections.remove(connectionsIn(busy)[0].first >> 4, 0);
  vi.advanceTimersByTime(MINUTE + LOOK);
  expect(scene.hops()).toEqual([3]);
  // The next process knows nothing of it, and nobody looks any more.
  expect([...new Ways(scene.places).all()].map(({ hop }) => hop)).toEqual([3]);
  expect(vi.getTimerCount()).toBe(0);
});

test('one that was asked for again meanwhile has another minute', () => {
  const scene = new Scene(worldWith(0).memory).apply(80, 81).apply(81);
  vi.advanceTimersByTime(MINUTE / 2);
  scene.apply(80, 81).apply(81);
  vi.advanceTimersByTime(MINUTE / 2 + LOOK);
  expect(scene.hops()).toEqual([1, 2]);
  vi.advanceTimersByTime(MINUTE + LOOK);
  expect(scene.hops()).toEqual([2]);
});

test('records that were never given out are not read: reading makes memory of them', () => {
  const { memory } = worldWith(2);
  let last = -1;
  const connections = new Proxy(memory.connections, {
    get: (target, name) => {
      if (typeof name === 'string') last = Math.max(last, Number(name) || 0);
      return Reflect.get(target, name, target) as unknown;
    },
  });
  const scene = new Scene({ ...memory, connections }).apply(80, 81).apply(81);
  vi.advanceTimersByTime(MINUTE + LOOK);
  expect([last > 0, last < 4 * C.RECORD, scene.hops()]).toEqual([true, true, [1, 2]]);
});

test('nothing is looked at once it is closed', () => {
  const scene = new Scene(worldWith(0).memory).apply(80, 81).apply(81);
  scene.old.close();
  expect(vi.getTimerCount()).toBe(0);
});
