/** What is done now and then beside the packets: how much at most, and what is told. */
import { expect, test, vi } from 'vitest';
import { Duties } from '../../src/engine/duties.ts';
import type { EarlyDrops } from '../../src/engine/early-drops.ts';
import type { SynFlood } from '../../src/forward/syn-guard.ts';
import type { Driver } from '../../src/io/driver.ts';
import { DROPPED, RECEIVED, serverRow, TX } from '../../src/layout/counters.ts';
import { BYTES, ENTRY_SHIFT, STATE, VERSION_SHIFT } from '../../src/layout/flow.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { UDP } from '../../src/packet/fields.ts';
import { fromClient } from '../fixtures/frames.ts';
import { CLIENT, connectionsIn, TIMEOUTS, VIP, World, type WorldOptions } from '../lab/world.ts';

/** @param drops what it asks of them stands in for the kernel's */
function dutiesOf(options: WorldOptions, drops?: EarlyDrops) {
  const world = new World(options);
  const told: (readonly number[])[] = [];
  const floods: SynFlood[] = [];
  // As many as come from one look to the next.
  const driver = { statistics: () => ({ received: 7, dropped: 2 }) } as Driver;
  const { core, memory } = world;
  const duties = new Duties({
    core,
    memory,
    driver,
    drops,
    signals: () => {},
    flood: (flood) => void floods.push(flood),
    sources: (addresses) => void told.push(addresses),
    ended: () => {},
  });
  return { world, duties, told, floods };
}

test('a tick visits a bounded number of connections, however many are due, and the next comes soon while some are left', () => {
  const { world, duties } = dutiesOf({ capacity: 131_072, connections: 50_000 });
  for (let i = 0; i < 12_000; i++) world.send(fromClient({ from: 1024 + i, flags: 'S' }));
  let now = TIMEOUTS.syn + 1;
  const ticks = Array.from({ length: 3 }, () => {
    const before = world.records.size;
    // As much is due as in 200 ms: 10,000 of 50,000 records.
    duties.tick((now += 1000));
    return [before - world.records.size, duties.idleTime()];
  });
  expect(ticks).toEqual([
    [4096, 10],
    [4096, 10],
    [3808, 1000],
  ]);
});

test('once a server is lost the next sweep visits all connections within a second, in slices as ever', () => {
  const { world, duties } = dutiesOf({ capacity: 131_072, connections: 50_000, protocol: UDP });
  // More than 4,096 for each of five ticks.
  for (let i = 0; i < 24_000; i++) world.send({ source: CLIENT, destination: VIP, udp: { from: 1024 + i, to: 80 } });
  const { set: services, hops } = world.apply({ up: [false, true], lost: [0] });
  duties.apply({ settings: { services, timeouts: TIMEOUTS }, hops, filter: new Uint32Array() });
  let now = 0;
  for (let i = 0; i < 5; i++) {
    duties.tick((now += 200), 128);
    while (duties.isSweeping) duties.goOn(now, 128);
  }
  expect([world.records.size, new Set(connectionsIn(world).map(({ server }) => server))]).toEqual([12_000, new Set([1])]);
  // And then as before.
  duties.tick((now += 200));
  expect([world.records.size, duties.isSweeping, duties.idleTime()]).toEqual([12_000, false, 10]);
});

test('in slices no more are visited, nor fewer, and nothing is waited for between two', () => {
  const { world, duties } = dutiesOf({ capacity: 131_072, connections: 50_000 });
  for (let i = 0; i < 5_000; i++) world.send(fromClient({ from: 1024 + i, flags: 'S' }));
  const now = TIMEOUTS.syn + 1000;
  const visited: number[] = [];
  const slice = (work: () => void) => {
    const before = world.records.size;
    work();
    visited.push(before - world.records.size);
  };
  slice(() => duties.tick(now, 1000));
  while (duties.isSweeping) {
    expect(duties.idleTime()).toBe(0);
    slice(() => duties.goOn(now, 1000));
  }
  expect(visited).toEqual([1000, 1000, 1000, 1000, 96]);
  expect(duties.idleTime()).toBe(10);
});

test.each(['end', 'takeBack'] as const)(
  'an order to %s thousands of connections is obeyed in slices, and nothing is waited for between two',
  (order) => {
    const { world, duties } = dutiesOf({ capacity: 32_768, connections: 8_000 });
    for (let i = 0; i < 2_000; i++) world.send(fromClient({ from: 1024 + i, flags: 'S' }));
    const { words } = world.table;
    const seen = connectionsIn(world);
    const versionAt = (at: number) => words[at + STATE] >>> VERSION_SHIFT;
    duties[order](Int32Array.from(seen.flatMap(({ record, first }) => [record, first >>> ENTRY_SHIFT, versionAt(first)])));
    const done = vi.spyOn(world.connections, order);
    const slices: number[] = [];
    while (duties.isOrdered) {
      expect(duties.idleTime()).toBe(0);
      done.mockClear();
      duties.obey(128);
      slices.push(done.mock.calls.length);
    }
    expect(slices).toEqual([...Array.from({ length: 15 }, () => 128), 80]);
    expect(world.records.size).toBe(order === 'end' ? 0 : 2_000);
  },
);

test('few connections are visited by and by, whatever the capacity', () => {
  const { world, duties } = dutiesOf({ capacity: 131_072, connections: 50_000 });
  for (let i = 0; i < 100; i++) world.send(fromClient({ from: 1024 + i, flags: 'S' }));
  duties.tick(1000);
  expect(duties.idleTime()).toBe(100);
});

test('in a flood of all the kernel is told of each half second in time', () => {
  const { world, duties } = dutiesOf({ capacity: 131_072, connections: 50_000, floodFrom: 50 });
  for (let i = 0; i < 100; i++) world.send(fromClient({ from: 1024 + i, flags: 'S' }));
  duties.tick(1000);
  expect([world.core.guard.isFlooded, duties.isSweeping, duties.idleTime()]).toEqual([true, false, 10]);
});

test('a flood of all is told with what it fills, and what it leaves behind goes in an eighth of its time', () => {
  const { world, duties, floods } = dutiesOf({ capacity: 131_072, connections: 50_000, floodFrom: 50, ports: [80, 81] });
  for (let i = 0; i < 120; i++) world.send(fromClient({ from: 1024 + i, to: i % 4 === 0 ? 80 : 81, flags: 'S' }));
  let now = 0;
  const until = (end: number) => {
    while (now < end) duties.tick((now += 200));
  };
  until(1000);
  expect(floods.splice(0)).toEqual([{ isOn: true, halfOpen: 120, most: 1 }]);
  // Those that were taken in before it was seen, too.
  until(TIMEOUTS.syn / 2);
  expect(world.halfOpen.size).toBe(0);
  // It must be over for five seconds.
  until(5000);
  expect(floods).toEqual([]);
  until(9000);
  expect(floods).toEqual([{ isOn: false }]);
});

test.each([
  [true, 10],
  [false, 1000],
])('while rows of drops are left to be looked at (%s) the next tick comes soon, without any connection, too', (isBehind, idle) => {
  const { duties } = dutiesOf({}, { collect: () => {}, isBehind } as EarlyDrops);
  duties.tick(1000);
  expect(duties.idleTime()).toBe(idle);
});

test('what has been received since the last tick is counted when the worker stops', () => {
  const { world, duties } = dutiesOf({});
  duties.tick(1000);
  duties.finish(1005);
  expect([RECEIVED, DROPPED].map((gauge) => world.memory.counters.gauges[gauge])).toEqual([14, 4]);
});

test('whoever carries more between two sweeps than 32 bits can count is counted', () => {
  const { world, duties } = dutiesOf({ capacity: 131_072, connections: 50_000 });
  for (let i = 0; i < 20; i++) world.send(fromClient({ from: 1024 + i, flags: 'S' }));
  // The sweep has visited them; it comes by again a second later.
  duties.tick(10);
  const [{ first, server }] = connectionsIn(world);
  const carried = [20, 30, 40].map((now) => {
    world.send(fromClient({ from: 1024, flags: 'S' }));
    world.table.words[first + BYTES] += 3e9;
    duties.tick(now);
    return world.statistics[serverRow(server) + TX];
  });
  expect(carried).toEqual([3e9, 6e9, 9e9]);
});

test('what connections leave from is told once, and again when it changes', () => {
  const { world, duties, told } = dutiesOf({});
  duties.tick(10);
  duties.tick(20);
  expect(told).toEqual([[parseAddress(VIP)]]);
  world.apply({ sources: ['172.16.0.101'] });
  duties.tick(30);
  expect(told.slice(1)).toEqual([[parseAddress(VIP), parseAddress('172.16.0.101')]]);
});
