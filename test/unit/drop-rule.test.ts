import { expect, test } from 'vitest';
import { answersOf, drops, parseDropRules, requestsTo } from '../../src/doctor/drop-rule.ts';
import { tcp } from '../../src/flow/tcp.ts';

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
  const { checks, connections } = answersOf('10.255.0.1', 80, '192.0.2.129', tcp);
  expect([checks, connections].map((awaited) => rule !== undefined && drops(rule, awaited))).toEqual([is, is]);
});

test('a rule drops what is of its protocol, or of any', () => {
  const awaited = [tcp, { name: 'udp', number: 17 }].map((protocol) => requestsTo('192.0.2.1', 53, protocol));
  const dropped = ['-p udp -m udp --dport 53', '-d 192.0.2.1/32', '-p icmp'].map((match) => {
    const [rule] = parseDropRules(`-A PREROUTING ${match} -j DROP`);
    return awaited.map((packets) => rule !== undefined && drops(rule, packets));
  });
  expect(dropped).toEqual([
    [false, true],
    [true, true],
    [false, false],
  ]);
});
