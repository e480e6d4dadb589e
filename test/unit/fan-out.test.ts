/** The rules of a fan-out as texts, what they come to, and what a file may ask for. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { ConfigError, formatMistake } from '../../src/errors.ts';
import { iptablesRules, nftRules, nftTable, renderFanOutScript } from '../../src/rules/fan-out.ts';
import { assertDialect, fanOutsFor } from '../../src/rules/fan-out-config.ts';
import { cascade, intervals, MOST_PLACES, reduced, turns } from '../../src/rules/fan-out-shares.ts';
import { FAN_OUT_DIALECTS, type FanOutInput } from '../../src/rules/types.ts';
import { ROOT } from '../lab/lab.ts';

const ports = (weights: readonly number[], down: readonly number[] = []) =>
  weights.map((weight, i) => ({ port: 3128 + i, weight, isUp: !down.includes(3128 + i) }));
const squid: FanOutInput = { listen: { port: 3128 }, ports: ports([1, 1, 1, 1]), protocol: 'tcp', balance: 'roundrobin', local: false };
const texts = (service: FanOutInput) => nftRules([service]).map(({ chain, text }) => `${chain} ${text}`);
const chains = (service: FanOutInput) => iptablesRules([service]).map(({ chain, text }) => `${chain} ${text}`);
const four = (service: FanOutInput) => chains(service).filter((text) => text.startsWith('4 '));

test('the template passes shellcheck, and so do the scripts', () => {
  const check =
    (...words: string[]) =>
    (input: string) =>
      spawnSync('shellcheck', ['-s', 'sh', ...words], { input, encoding: 'utf8' });
  const checks = [
    check(join(ROOT, 'iptables/fan-out.sh'))(''),
    ...FAN_OUT_DIALECTS.map((dialect) => check('-')(renderFanOutScript([squid], dialect))),
  ];
  if (checks.some(({ error }) => error !== undefined)) return; // not installed
  expect(checks.map(({ stdout }) => stdout)).toEqual(['', '', '']);
});

describe('shares', () => {
  test('a cascade takes 1/4, 1/3, 1/2 and the rest, as the kernel holds them', () => {
    expect(cascade([1, 1, 1, 1])).toEqual(['0.25000000000', '0.33333333349', '0.50000000000', undefined]);
    expect(cascade([1, 2, 3, 4])).toEqual(['0.10000000009', '0.22222222202', '0.42857142864', undefined]);
    expect(cascade([7])).toEqual([undefined]);
  });

  test('turns are as many as the weights say, and evenly', () => {
    expect(turns(ports([1, 1, 1]))).toEqual([3128, 3129, 3130]);
    expect(turns(ports([1, 2, 4]))).toEqual([3130, 3129, 3130, 3128, 3130, 3129, 3130]);
    expect(reduced(ports([1000, 2000])).map(({ weight }) => weight)).toEqual([1, 2]);
    const weights = fc.array(fc.integer({ min: 1, max: 65_535 }), { minLength: 1, maxLength: 64 });
    fc.assert(
      fc.property(weights, (some) => {
        const all = turns(reduced(ports(some)));
        // Rounding may add half a place each.
        expect(all.length).toBeLessThanOrEqual(MOST_PLACES + some.length);
        expect(new Set(all).size).toBe(some.length);
      }),
      { numRuns: 50 },
    );
  });

  test('intervals lie side by side', () => {
    expect(intervals([3, 1, 6])).toEqual({ size: 10, all: ['0-2', '3', '4-9'] });
  });
});

describe('nft', () => {
  test('both families by one rule; with a hash one each', () => {
    expect(texts(squid)).toEqual([
      'prerouting fib daddr type local tcp dport 3128 redirect to :numgen inc mod 4 map { 0 : 3128, 1 : 3129, 2 : 3130, 3 : 3131 }',
    ]);
    expect(texts({ ...squid, balance: 'source', ports: ports([2, 1]) })).toEqual([
      'prerouting meta nfproto ipv4 fib daddr type local tcp dport 3128 redirect to :jhash ip saddr mod 3 seed 0x6c6234 map { 0-1 : 3128, 2 : 3129 }',
      'prerouting meta nfproto ipv6 fib daddr type local tcp dport 3128 redirect to :jhash ip6 saddr mod 3 seed 0x6c6234 map { 0-1 : 3128, 2 : 3129 }',
    ]);
    expect(
      texts({
        ...squid,
        listen: { ip: '2001:db8::1', family: 6, port: 80 },
        protocol: 'udp',
        balance: 'random',
        ports: ports([1, 65_535]),
      }),
    ).toEqual(['prerouting ip6 daddr 2001:db8::1 udp dport 80 redirect to :numgen random mod 65536 map { 0 : 3128, 1-65535 : 3129 }']);
  });

  test('programs of this host, but for what lb4 checks', () => {
    expect(texts({ ...squid, local: true, ports: ports([1]) })).toEqual([
      'prerouting fib daddr type local tcp dport 3128 redirect to :3128',
      'output meta nfproto ipv4 fib daddr type local ip daddr != 127.76.66.52 tcp dport 3128 redirect to :3128',
      'output meta nfproto ipv6 fib daddr type local tcp dport 3128 redirect to :3128',
    ]);
  });

  test('who is down gets nothing: by hash only its own places go to others', () => {
    expect(texts({ ...squid, ports: ports([1, 1, 1, 1], [3129]) })[0]).toContain('mod 3 map { 0 : 3128, 1 : 3130, 2 : 3131 }');
    const places = (down: readonly number[]) =>
      /map (.*)/.exec(texts({ ...squid, balance: 'source', ports: ports([2, 2, 1], down) })[0] ?? '')?.[1];
    expect(places([])).toBe('{ 0-1 : 3128, 2-3 : 3129, 4 : 3130 }');
    expect(places([3129])).toBe('{ 0-2 : 3128, 3-4 : 3130 }');
  });

  test('where nobody is up a rule has conntrack at work for the connections that are there', () => {
    const idle = { ...squid, local: true, ports: ports([1, 1], [3128, 3129]) };
    expect(texts(idle)).toEqual([
      'prerouting fib daddr type local tcp dport 3128 ct state new',
      'output meta nfproto ipv4 fib daddr type local ip daddr != 127.76.66.52 tcp dport 3128 ct state new',
      'output meta nfproto ipv6 fib daddr type local tcp dport 3128 ct state new',
    ]);
    const match = '-p tcp -m tcp --dport 3128 -m addrtype --dst-type LOCAL -m conntrack --ctstate NEW -m comment --comment lb4';
    expect(four(idle)).toEqual([`4 PREROUTING ${match}`, `4 OUTPUT ! -d 127.76.66.52/32 ${match}`]);
  });

  test('a table in one transaction, each rule known by a mark of its own', () => {
    const table = nftTable(nftRules([squid, { ...squid, listen: { port: 3127 } }]));
    expect(table).toMatch(/^table inet lb4_fan_out\ndelete table inet lb4_fan_out\ntable inet lb4_fan_out \{\n {2}chain prerouting \{\n/);
    const marks = [...table.matchAll(/ comment "lb4 ([0-9a-f]{16})"$/gm)].map(([, mark]) => mark);
    expect(new Set(marks).size).toBe(2);
  });
});

describe('iptables', () => {
  const end = (port: number) => ` -m comment --comment lb4 -j REDIRECT --to-ports ${port}`;
  const match = '4 PREROUTING -p tcp -m tcp --dport 3128 -m addrtype --dst-type LOCAL';

  test('turns by nth, exact: weights as well', () => {
    expect(four(squid)).toEqual([
      `${match} -m statistic --mode nth --every 4 --packet 0${end(3128)}`,
      `${match} -m statistic --mode nth --every 3 --packet 0${end(3129)}`,
      `${match} -m statistic --mode nth --every 2 --packet 0${end(3130)}`,
      `${match}${end(3131)}`,
    ]);
    const every = four({ ...squid, ports: ports([1, 2]) }).map((text) => /every (\d)/.exec(text)?.[1] ?? '');
    expect(every).toEqual(['3', '2', '']);
  });

  test('by lot in a cascade, both families, chain by chain', () => {
    expect(four({ ...squid, balance: 'random', ports: ports([1, 1]) })).toEqual([
      `${match} -m statistic --mode random --probability 0.50000000000${end(3128)}`,
      `${match}${end(3129)}`,
    ]);
    expect(chains({ ...squid, local: true, ports: ports([1]) })).toEqual([
      `${match}${end(3128)}`,
      `4 OUTPUT ! -d 127.76.66.52/32 -p tcp -m tcp --dport 3128 -m addrtype --dst-type LOCAL${end(3128)}`,
      `6 PREROUTING -p tcp -m tcp --dport 3128 -m addrtype --dst-type LOCAL${end(3128)}`,
      `6 OUTPUT -p tcp -m tcp --dport 3128 -m addrtype --dst-type LOCAL${end(3128)}`,
    ]);
    expect(chains({ ...squid, listen: { ip: '192.0.2.1', family: 4, port: 80 }, ports: ports([1]) })).toEqual([
      `4 PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 80${end(3128)}`,
    ]);
  });
});

test('nothing that means something to a shell gets into a script', () => {
  expect(renderFanOutScript([squid], 'nft')).toContain("\nDIALECT='nft'\n");
  const evil = "192.0.2.1'; reboot; '";
  expect(() => renderFanOutScript([{ ...squid, listen: { ip: evil, port: 80 } }], 'nft')).toThrow(RangeError);
  expect(() => renderFanOutScript([{ ...squid, protocol: evil }], 'iptables')).toThrow(RangeError);
  expect(() => renderFanOutScript([{ ...squid, ports: ports([70_000]) }], 'nft')).toThrow(RangeError);
});

describe('a file', () => {
  const load = (text: string, mode?: 'fan-out' | 'proxy') => parseConfig(text, 'f', { mode });
  const lines = (text: string, mode?: 'fan-out' | 'proxy') => {
    try {
      return load(text, mode).warnings.map(formatMistake);
    } catch (error) {
      return error instanceof ConfigError ? error.mistakes.map(formatMistake) : [String(error)];
    }
  };
  const good = '[fan_out.squid]\nlisten = "3128"\nports = [3128, 3129]\n';

  test('of nothing else will do, for this mode and for all modes, and for no other', () => {
    expect(lines(good)).toEqual([]);
    expect(lines(good, 'fan-out')).toEqual([]);
    expect(lines(good, 'proxy')).toEqual([
      'f:1:1: frontends: missing; needed: tables, [frontends.NAME], at least one; [fan_out] is for --fan-out',
      'f:1:1: backends: missing; needed: tables, [backends.NAME], at least one; [fan_out] is for --fan-out',
    ]);
    expect(lines('', 'fan-out')).toEqual([
      'f:1:1: fan_out: missing; needed with --fan-out: at least one table, [fan_out.NAME], with its keys listen and ports',
    ]);
  });

  test('becomes a frontend and its servers, and rules', () => {
    const { config } = load(
      '[fan_out.a]\nlisten = "[::]:53"\nprotocol = "udp"\nports = { 5301 = 2, 5302 = 0 }\nhealth_check = "none"\n',
      'fan-out',
    );
    expect(
      config.frontends.map(({ name, listen, backend }) => [
        name,
        listen.text,
        backend.servers.map(({ addr, weight }) => [addr.text, weight]),
      ]),
    ).toEqual([
      [
        'a/udp',
        '[::]:53',
        [
          ['[::1]:5301', 2],
          ['[::1]:5302', 0],
        ],
      ],
    ]);
    expect(fanOutsFor(config)).toMatchObject([
      { listen: { ip: undefined, family: 6, port: 53 }, protocol: 'udp', ports: [{ port: 5301 }, { port: 5302 }] },
    ]);
  });

  test.each([
    [
      'ports = [3128, 3128]',
      'f:3:16: fan_out.squid.ports.1: 3128 is there twice; needed: a port of its own for each process, and weights as { 3128 = 2 }',
    ],
    ['ports = [0]', 'f:3:10: fan_out.squid.ports.0: 0 is too small; allowed: a port, 1–65535'],
    ['ports = { 70000 = 1 }', /^f:3:\d+: fan_out\.squid\.ports.*/],
    ['ports = { 3128 = 70000 }', 'f:3:18: fan_out.squid.ports.3128: 70000 is too large; allowed: a whole number, 0–65535'],
    ['ports = { 3128 = 0 }', 'f:3:9: fan_out.squid.ports: every weight is 0: no process gets a connection; needed: at least one above 0'],
    ['ports = {}', 'f:3:9: fan_out.squid.ports: has 0 ports; allowed: 1–64'],
    [
      `ports = [${Array.from({ length: 65 }, (_, i) => i + 1).join(', ')}]`,
      /^f:3:9: fan_out\.squid\.ports: is an array; allowed: ports, 1–65535, each once and 1–64 of them/,
    ],
    ['ports = [1]\nbalance = "hash"', 'f:4:11: fan_out.squid.balance: "hash" is unknown; allowed: "roundrobin", "random" or "source"'],
    ['ports = [1]\nhealth_check = "exec"', /^f:4:16: fan_out\.squid\.health_check_command: missing; needed with health_check = "exec"/],
    [
      'ports = [1]\n[fan_out.b]\nlisten = "192.0.2.1:3128"\nports = [2]',
      'f:5:10: fan_out.b.listen: "192.0.2.1:3128" is taken by fan_out "squid", line 2',
    ],
    ['ports = [1]\n[stats]\nport = 3128', 'f:2:10: fan_out.squid.listen: "0.0.0.0:3128" is taken by the statistics server, line 5'],
  ])('%s', (text, line) => {
    const found = lines(`[fan_out.squid]\nlisten = "3128"\n${text}\n`);
    expect(found).toHaveLength(1);
    expect(found[0]).toEqual(typeof line === 'string' ? line : expect.stringMatching(line));
  });

  test.each(['"0"', '"70000"', '"web:80"', '"224.0.0.1:80"', '3128'])('listens at no %s', (listen) => {
    expect(lines(good.replace('"3128"', listen))[0]).toMatch(
      /^f:2:10: fan_out\.squid\.listen: .*; allowed: a port, "3128", or an address of this host and a port/,
    );
  });

  test('iptables hashes nothing', () => {
    const { config } = load(`${good}balance = "source"`, 'fan-out');
    expect(() => assertDialect(config, 'nft')).not.toThrow();
    expect(() => assertDialect(config, 'iptables')).toThrow(/fan_out\.squid\.balance: "source": iptables has no match that hashes/);
  });
});
