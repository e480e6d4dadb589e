/** What the kernel has dropped is entered for whom it was dropped, and when; the map's rows are the test's own. */
import { expect, test } from 'vitest';
import { prefixTable } from '../../src/access/prefix-table.ts';
import { EarlyDrops } from '../../src/engine/early-drops.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import { Verdict } from '../../src/forward/verdict.ts';
import { refusalRow } from '../../src/layout/counters.ts';
import { COLUMNS, DENIED, FIRST_SYNS } from '../../src/layout/early-drop.ts';
import { ownMemory } from '../../src/layout/memory.ts';
import { TCP } from '../../src/packet/fields.ts';

const RULE = 2;
const access = {
  table: prefixTable({ allow: [], deny: [] }, 4),
  sourceRate: 0,
  sourceMaxconn: 0,
  sourceBits: 32,
  resets: false,
  dryRun: false,
};

/** @param ports of frontends with lists, by index; 0: without */
function setOf(ports: readonly number[]): ServiceSet {
  const common = { address: 1, protocol: TCP, backend: 'web', maxconn: 0, draining: false };
  const frontends = ports.map((port, index) => ({ ...common, index, port: port || 80, access: port === 0 ? undefined : access }));
  return { frontends, backends: [] };
}

/** Of the first worker; every row of `count` frontends has come to `index` + 1 under RULE. */
function dropsOf(count: number) {
  const { counters } = ownMemory({ capacity: 256, connections: 64 });
  const own = Array.from({ length: COLUMNS }, () => 0);
  const looked: number[] = [];
  const ofFrontend = (index: number) => {
    looked.push(index);
    return own.map((_, column) => (column === RULE ? index + 1 : 0));
  };
  let missed = 0;
  const guard = { missed: (syns: number) => void (missed += syns) };
  const drops = new EarlyDrops({ ofWorker: () => [...own], ofFrontend, isFirst: true, guard, counters });
  const ports = Array.from({ length: count }, (_, index) => 1000 + index);
  drops.follow(setOf(ports));
  const refused = () => ports.map((_, index) => counters.refusals[refusalRow(index) + RULE]);
  return { drops, ports, own, counters, refused, missed: () => missed, takeLooked: () => looked.splice(0).sort((a, b) => a - b) };
}

test('a tick looks at some of many frontends; at its end the worker enters all, each once', () => {
  const { drops, ports, own, counters, refused, missed, takeLooked } = dropsOf(50);
  drops.collect();
  expect(takeLooked()).toHaveLength(16);
  [own[FIRST_SYNS], own[DENIED]] = [3, 4];
  drops.finish();
  expect(refused()).toEqual(ports.map((_, index) => index + 1));
  expect([missed(), counters.verdicts[Verdict.dropFirstSyn], counters.verdicts[Verdict.denied]]).toEqual([3, 3, 4]);
});

test('a round looks at each once, and is followed by the next one at the tick after it; until it is over ticks are not to wait', () => {
  const { drops, ports, refused, takeLooked } = dropsOf(40);
  const rounds = [1, 2].map(() => {
    const behind = [1, 2, 3].map(() => (drops.collect(), drops.isBehind));
    expect(takeLooked()).toEqual(ports.map((_, index) => index));
    return behind;
  });
  expect(rounds).toEqual([
    [true, true, false],
    [true, true, false],
  ]);
  expect(refused()).toEqual(ports.map((_, index) => index + 1));
});

test('a plan has those alone looked at whose rows are to be other frontends’, or have no lists any more', () => {
  const { drops, ports, refused, takeLooked } = dropsOf(50);
  drops.settle(setOf(ports));
  expect(takeLooked()).toEqual([]);
  drops.settle(setOf([ports[0], 99, 0, ...ports.slice(3, 48)]));
  expect(takeLooked()).toEqual([1, 2, 48, 49]);
  expect(refused().filter((count) => count > 0)).toEqual([2, 3, 49, 50]);
});
