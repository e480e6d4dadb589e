import { expect, test } from 'vitest';
import { answersOf, drops, parseDropRules } from '../../src/doctor/drop-rule.ts';

test.each([
  ['0.0.0.0/0', true],
  ['192.0.0.0/8', true],
  ['192.0.2.128/25', true],
  ['192.0.2.129/32', true],
  ['192.0.2.129', true],
  ['192.0.2.0/25', false],
  ['193.0.0.0/8', false],
  ['192.0.2.128/32', false],
])('a rule for %s drops what a server answers to 192.0.2.129: %s', (network, is) => {
  const [rule] = parseDropRules(`-A PREROUTING -s 10.0.0.0/8 -d ${network} -p tcp -m tcp --sport 80 -j DROP`);
  const { checks, connections } = answersOf('10.255.0.1', 80, '192.0.2.129');
  expect([checks, connections].map((awaited) => rule !== undefined && drops(rule, awaited))).toEqual([is, is]);
});
