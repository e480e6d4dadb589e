import { expect, test } from 'vitest';
import { iptablesBans, nftBans } from '../../src/doctor/bans.ts';
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

const WEB = [{ ip: '192.0.2.1', port: 443, protocol: 'tcp' }];

test.each([
  ['-A INPUT -s 203.0.113.7/32 -j DROP', true],
  ['-A f2b-web -s 203.0.113.7/32 -j REJECT --reject-with icmp-port-unreachable', true],
  ['-A INPUT -p tcp -m set --match-set block src -m tcp --dport 443 -j DROP', true],
  ['-A FORWARD -s 203.0.113.0/24 -d 192.0.2.0/24 -i eth0 -m comment --comment "two words" -j DROP', true],
  ['-A INPUT -s 203.0.113.7/32 -d 198.51.100.1/32 -j DROP', false],
  ['-A INPUT -s 203.0.113.7/32 -p tcp -m tcp --dport 22 -j DROP', false],
  ['-A INPUT -s 203.0.113.7/32 -p udp -j DROP', false],
  ['-A INPUT -m set --match-set ours dst -j DROP', false],
  ['-A INPUT -m conntrack --ctstate INVALID -j DROP', false],
  ['-A INPUT ! -s 10.0.0.0/8 -j DROP', false],
  ['-A INPUT -s 203.0.113.7/32 -j ACCEPT', false],
  ['-A PREROUTING -s 10.0.0.1/32 -d 192.0.2.1/32 -p tcp -m tcp --sport 80 -m comment --comment lb4 -j DROP', false],
])('%s is meant for a client of a frontend, and without effect: %s', (rule, is) => {
  expect(iptablesBans(`*filter\n:INPUT ACCEPT [0:0]\n${rule}\nCOMMIT\n`, WEB)).toEqual(is ? [rule] : []);
});

test.each([
  ['lets in by source what is dropped else', 'DROP', '-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 443 -j ACCEPT', [], true],
  ['in a chain of its own, as ufw has it', 'DROP', '-A ufw-user-input -s 10.0.0.0/8 -p tcp -m tcp --dport 443 -j ACCEPT', [], true],
  ['but not beside one for everybody', 'DROP', '-A INPUT -s 10.0.0.0/8 -j ACCEPT', ['-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT'], false],
  [
    'loopback, and what is known already, open nothing',
    'DROP',
    '-A INPUT -s 10.0.0.0/8 -j ACCEPT',
    ['-A INPUT -i lo -j ACCEPT', '-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT'],
    true,
  ],
  ['nor where all the rest is let in', 'ACCEPT', '-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 443 -j ACCEPT', [], false],
  ['nor for another port', 'DROP', '-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -j ACCEPT', [], false],
])('a rule that %s', (_name, policy, rule, others, is) => {
  const saved = `*filter\n:INPUT ${policy} [0:0]\n:ufw-user-input - [0:0]\n${[...others, rule].join('\n')}\nCOMMIT\n`;
  expect(iptablesBans(saved, WEB)).toEqual(is ? [rule] : []);
});

test('of nft as well: by address, prefix or set; not what is for others, of lb4, or let in', () => {
  const match = (field: string, right: unknown, protocol = 'ip') => ({
    match: { op: '==', left: { payload: { protocol, field } }, right },
  });
  const rule = (expr: object[], more: object = {}) => ({ rule: { family: 'inet', table: 'mine', chain: 'input', expr, ...more } });
  const client = match('saddr', '203.0.113.7');
  const json = JSON.stringify({
    nftables: [
      { metainfo: {} },
      rule([client, { drop: null }]),
      rule([match('saddr', { prefix: { addr: '203.0.113.0', len: 24 } }), match('dport', 443, 'tcp'), { counter: {} }, { reject: {} }]),
      rule([match('saddr', '@block'), match('daddr', '192.0.2.1'), { drop: null }]),
      rule([client, { accept: null }]),
      rule([client, match('dport', 22, 'tcp'), { drop: null }]),
      rule([client, match('daddr', '198.51.100.1'), { drop: null }]),
      rule([client, { drop: null }], { table: 'lb4' }),
      rule([client, { drop: null }], { family: 'ip', table: 'filter' }),
    ],
  });
  expect(nftBans(json, WEB)).toEqual(['203.0.113.7', '203.0.113.0/24', '@block'].map((source) => `inet mine input: ip saddr ${source}`));
  expect(nftBans(json, WEB, ['inet mine block'])).toEqual(
    ['203.0.113.7', '203.0.113.0/24'].map((source) => `inet mine input: ip saddr ${source}`),
  );
  expect(nftBans(json, WEB, ['inet other block', 'ip mine block', 'inet mine blocked'])).toHaveLength(3);
  expect(nftBans('', WEB)).toEqual([]);
  // The table lets in by source what it drops else: the fourth rule.
  const closed = {
    nftables: [
      ...(JSON.parse(json) as { nftables: object[] }).nftables,
      { chain: { family: 'inet', table: 'mine', name: 'input', policy: 'drop' } },
    ],
  };
  expect(nftBans(JSON.stringify(closed), WEB)).toContain('inet mine input: lets in ip saddr 203.0.113.7');
});
