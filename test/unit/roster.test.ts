/** Indexes, from a name's first appearance until its last counter is collected. */

import { expect, test } from 'vitest';
import { NOTHING } from '../../src/control/source.ts';
import { settledTime } from '../../src/service/members.ts';
import { type Member, Roster, type RosterState } from '../../src/service/roster.ts';

const member = (key: string, drainMs = 10_000): Member<string> => ({ key, group: 'web', item: key, drainMs });
const counters = new Map<number, number>();
const roster = () => new Roster<string>(3000);
/** So many connections, whatever the index. */
const open = (load: number) => (index: number) => ({ ...NOTHING, total: counters.get(index) ?? 0, load });
const keys = (of: Roster<string>) => of.entries().map(({ key, index, leaving }) => `${key}${index}${leaving ? ' leaving' : ''}`);

test('an index stays with its key, whatever comes and goes beside it', () => {
  const r = roster();
  r.set([member('a'), member('b')], 0);
  r.set([member('b'), member('c')], 0);
  r.set([member('c'), member('b'), member('a')], 0);
  expect(keys(r)).toEqual(['a0', 'b1', 'c2']);
});

test('who leaves stays while it has connections, and is gone when the last has ended', () => {
  const r = roster();
  r.set([member('a'), member('b')], 0);
  r.set([member('b')], 100);
  expect(keys(r)).toEqual(['a0 leaving', 'b1']);
  expect(r.expire(5_000, open(1))).toBe(false);
  expect(r.expire(5_001, open(0))).toBe(true);
  expect(keys(r)).toEqual(['b1']);
});

test('an idle one is waited for a moment: a connection may just be opening', () => {
  const r = roster();
  r.set([member('a')], 0);
  r.set([], 0);
  expect(r.expire(900, open(0))).toBe(false);
  expect(r.expire(1_000, open(0))).toBe(true);
});

test('out of time it goes, connections or not', () => {
  const r = roster();
  r.set([member('a', 2_000), member('b', 0)], 0);
  r.set([], 0);
  expect(r.expire(1, open(9))).toBe(true);
  expect(keys(r)).toEqual(['a0 leaving']);
  expect(r.expire(2_000, open(9))).toBe(true);
  expect(keys(r)).toEqual([]);
});

test('an index is not given out again before its last owner has settled', () => {
  const r = roster();
  r.set([member('a', 0)], 0);
  r.set([], 0);
  r.expire(0, open(0));
  r.set([member('b')], 1);
  expect(keys(r)).toEqual(['b1']);
  expect(r.isSettling).toBe(true);
  r.expire(3_000, open(0));
  expect(r.isSettling).toBe(false);
  r.set([member('b'), member('c')], 3_001);
  expect(keys(r)).toEqual(['b1', 'c0']);
});

// A tick, every 10 ms, visits 4,096 connections at most: bytes and connections of who is gone may be found as late as that.
test.each([
  [1, 3_000],
  [262_144, 3_000],
  [1_048_576, 6_120],
  [4_194_304, 21_480],
])('with room for %d connections who is gone has settled after two sweeps and a second: %d ms', (connections, milliseconds) => {
  expect(settledTime(connections)).toBe(milliseconds);
});

test('who comes back while leaving was never away; who comes back later is new', () => {
  const r = roster();
  r.set([member('a')], 0);
  r.set([], 0);
  r.set([member('a')], 500);
  expect(keys(r)).toEqual(['a0']);
  r.set([], 600);
  r.expire(2_000, open(0));
  r.set([member('a')], 2_100);
  expect(keys(r)).toEqual(['a1']);
});

test('what the gone counted is kept for their group', () => {
  counters.set(0, 7);
  const r = roster();
  r.set([member('a', 0), member('b', 0)], 0);
  r.set([member('b', 0)], 0);
  r.expire(0, open(0));
  expect(r.retired('web', open(0)).total).toBe(7);
  expect(r.retired('web', open(0), new Set([0])).total).toBe(0);
  counters.set(0, 8);
  expect(r.retired('web', open(0)).total).toBe(8);
  r.expire(3_000, open(0));
  counters.set(0, 0);
  expect(r.retired('web', open(0)).total).toBe(8);
  expect(r.retired('other', open(0)).total).toBe(0);
  // With its last member a group is forgotten.
  r.set([], 4_000);
  r.expire(4_000, open(0));
  r.expire(7_000, open(0));
  expect(r.retired('web', open(0)).total).toBe(0);
});

test('a change that failed is taken back whole', () => {
  const r = roster();
  r.set([member('a'), member('b')], 0);
  const takeBack = r.set([member('b'), member('c')], 10);
  takeBack();
  expect(keys(r)).toEqual(['a0', 'b1']);
  expect(r.isSettling).toBe(false);
  r.set([member('a'), member('b'), member('d')], 20);
  expect(keys(r)).toEqual(['a0', 'b1', 'd2']);
});

test('thousands of reloads with ever new names need few indexes', () => {
  const r = roster();
  for (let round = 0; round < 5_000; round++) {
    r.set([member(`a${round}`, 0), member(`b${round}`, 0)], round * 200);
    r.expire(round * 200, open(0));
  }
  expect(Math.max(...r.entries().map(({ index }) => index))).toBeLessThan(64);
});

test('who comes next has the same indexes, those who were leaving their whole time again, and the totals of who is gone', () => {
  const counters = () => ({ ...NOTHING, total: 7, load: 1 });
  const first = roster();
  const member = (key: string, group = 'g'): Member<string> => ({ key, group, item: key.toUpperCase(), drainMs: 1000 });
  first.set(
    ['a', 'b', 'c', 'd'].map((key) => member(key)),
    0,
  );
  first.set([member('a'), member('d')], 0);
  first.expire(1000, counters);
  first.expire(4000, counters);
  first.set([member('d'), member('e')], 5000);
  const state = JSON.parse(JSON.stringify(first.state((item) => item.toLowerCase()))) as RosterState<string>;
  const next = roster();
  next.restore(state, (item) => item.toUpperCase(), 100_000);
  const now = (one: Roster<string>) => one.entries().map(({ key, index, item, leaving }) => ({ key, index, item, leaving }));
  expect(now(next)).toEqual(now(first));
  expect(next.retired('g', counters)).toEqual(first.retired('g', counters));
  // Nobody gets an index that somebody has.
  next.set(
    ['d', 'e', 'f', 'g', 'h'].map((key) => member(key)),
    100_000,
  );
  const indexes = next.entries().map(({ index }) => index);
  expect(new Set(indexes).size).toBe(indexes.length);
  expect(next.expire(100_999, counters)).toBe(false);
  expect(next.expire(101_000, counters)).toBe(true);
});

test('the version tells that there is something to write down', () => {
  const one = roster();
  const versions = [one.version];
  one.set([{ key: 'a', group: '', item: 'a', drainMs: 10 }], 0);
  versions.push(one.version);
  one.set([], 0);
  versions.push(one.version);
  one.expire(5000, () => ({ ...NOTHING, load: 0 }));
  versions.push(one.version);
  expect(new Set(versions).size).toBe(4);
  one.expire(5001, () => ({ ...NOTHING, load: 0 }));
  expect(one.version).toBe(versions[3]);
});
