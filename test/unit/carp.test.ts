/** CARP's hashes and factors, against figures of others, and what a choice by them is like. */
import { expect, test } from 'vitest';
import { carp, keyHash, memberHash, multipliers } from '../../src/balance/carp.ts';
import type { Candidate } from '../../src/balance/scheduler.ts';
import { parseAddress } from '../../src/packet/address.ts';

const candidates = (weights: readonly number[]): Candidate[] =>
  weights.map((weight, index) => ({ name: `10.0.0.${index + 1}:80`, weight, index, maxconn: 0 }));

/** 100,000 clients. */
const clients = Array.from({ length: 100_000 }, (_, i) => Math.imul(i + 1, 0x9e3779b1));

const picks = (weights: readonly number[]) => {
  const scheduler = carp(candidates(weights));
  return clients.map((address) => scheduler.pick(address, 0));
};

const shares = (weights: readonly number[]) => {
  const given = weights.map(() => 0);
  for (const position of picks(weights)) given[position]++;
  return given.map((count) => count / clients.length);
};

test('hashes and factors are those of the draft', () => {
  expect(keyHash('http://www.example.com/').toString(16)).toBe('a31b69fa');
  expect(memberHash('a.example:3128').toString(16)).toBe('74dcdf16');
  expect([...multipliers([1, 2, 3, 4])].map((factor) => factor.toFixed(6))).toEqual(['0.795271', '0.958358', '1.086676', '1.207417']);
  expect([...multipliers([7, 7, 7])]).toEqual([1, 1, 1]);
  // In whichever order, and those of less than a thousandth get nothing.
  expect([...multipliers([4, 1, 3, 2])].map((factor) => factor.toFixed(6))).toEqual(['1.207417', '0.795271', '1.086676', '0.958358']);
  expect([...multipliers([1, 65_535])]).toEqual([0, 65_535 / 65_536]);
});

test('the key is the address as text', () => {
  // By hand: the score of each for the text.
  const rotate = (hash: number, bits: number) => ((hash << bits) | (hash >>> (32 - bits))) >>> 0;
  const score = (text: string, name: string) => {
    const combined = keyHash(text) ^ memberHash(name);
    return rotate((combined + Math.imul(combined, 0x62531965)) | 0, 21);
  };
  const all = candidates([1, 1, 1, 1, 1]);
  const scheduler = carp(all);
  for (const text of ['0.0.0.0', '255.255.255.255', '192.0.2.1', '10.100.9.99', '203.0.113.250']) {
    const scores = all.map(({ name }) => score(text, name));
    expect(scheduler.pick(parseAddress(text), 4711), text).toBe(scores.indexOf(Math.max(...scores)));
  }
});

test('shares are near the weights', () => {
  // The hash is no good one: equal servers get 20 to 31 % where a quarter is due.
  for (const share of shares([1, 1, 1, 1])) expect(share).toSatisfy((one: number) => one > 0.19 && one < 0.32);
  shares([1, 2, 3, 4]).forEach((share, i) => expect(Math.abs(share - (i + 1) / 10)).toBeLessThan(0.07));
});

test('who leaves moves its own clients alone', () => {
  const before = picks([1, 1, 1, 1]);
  const scheduler = carp(candidates([1, 1, 1, 1]).slice(0, 3));
  const moved = clients.filter((address, i) => before[i] !== 3 && scheduler.pick(address, 0) !== before[i]);
  expect(moved).toEqual([]);
});
