/** What is made of a set as nft prints it: addresses, prefixes and intervals, with or without a timeout. */
import { expect, test } from 'vitest';
import { PrefixList } from '../../src/access/prefix-list.ts';
import { prefixTable, ruleOf } from '../../src/access/prefix-table.ts';
import { addressNumber } from '../../src/packet/address.ts';
import { addressesIn } from '../../src/rules/firewall-set.ts';

const printed = (elem: readonly unknown[], type: unknown = 'ipv4_addr') =>
  JSON.stringify({ nftables: [{ metainfo: { json_schema_version: 1 } }, { set: { family: 'inet', name: 'b', table: 'f', type, elem } }] });

const prefixes = (elem: readonly unknown[]) => {
  const { firsts, bits } = addressesIn(printed(elem), 'inet f b').of(4);
  return firsts.map((first, i) => `${[24, 16, 8, 0].map((shift) => (first >>> shift) & 255).join('.')}/${bits[i]}`);
};

test('addresses, prefixes, intervals, and what has a timeout', () => {
  expect(prefixes(['10.0.0.1', { prefix: { addr: '10.1.0.0', len: 16 } }, { range: ['10.2.0.5', '10.2.0.9'] }])).toEqual([
    '10.0.0.1/32',
    '10.1.0.0/16',
    '10.2.0.5/32',
    '10.2.0.6/31',
    '10.2.0.8/31',
  ]);
  expect(
    prefixes([{ elem: { val: '1.2.3.4', timeout: 300, expires: 299 } }, { elem: { val: { range: ['0.0.0.0', '255.255.255.255'] } } }]),
  ).toEqual(['1.2.3.4/32', '0.0.0.0/0']);
  expect(prefixes([{ range: ['255.255.255.254', '255.255.255.255'] }])).toEqual(['255.255.255.254/31']);
});

test('a set that is empty, of another type, or of too much', () => {
  expect(addressesIn('{"nftables":[{"set":{"type":"ipv4_addr"}}]}', 'inet f b').size).toBe(0);
  expect(() => addressesIn(printed([], ['ipv4_addr', 'inet_service']), 'inet f b')).toThrow(
    'the set inet f b is of type ["ipv4_addr","inet_service"]; needed: ipv4_addr',
  );
  expect(() => addressesIn(printed(['::1']), 'inet f b')).toThrow('the set inet f b has "::1", which is no IPv4 address');
  expect(() => addressesIn(printed(Array.from({ length: 200_001 }, () => '10.0.0.1')), 'inet f b')).toThrow('more than 200000 prefixes');
});

test('a hundred thousand of them are a table that knows each', () => {
  const all = Array.from({ length: 100_000 }, (_, i) => `10.${i >> 15}.${(i >> 7) & 255}.${(i & 127) * 2}`);
  const table = prefixTable({ allow: undefined, deny: [new PrefixList(), addressesIn(printed(all), 'inet f b')] }, 4);
  expect([all[0], all[99_999], '10.0.0.1'].map((text) => ruleOf(table!, addressNumber(text ?? '')))).toEqual([3, 3, 0]);
});
