/** `allow` and `deny` in a file: what they may hold, and files of prefixes. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { formatMistake } from '../../src/errors.ts';
import { changesBetween } from '../../src/service/changes.ts';
import { BACKEND, linesOf } from '../lab/config-lines.ts';

const directory = mkdtempSync(join(tmpdir(), 'lb4-lists-'));
const path = join(directory, 'block');
const write = (text: string) => writeFileSync(path, text);
const frontend = (line: string) => `frontends.a.listen_addr = "192.0.2.1:80"\nfrontends.a.backend = "b"\n${BACKEND}\nfrontends.a.${line}\n`;

beforeAll(() => write(''));
afterAll(() => rmSync(directory, { recursive: true }));

test.each([
  ['deny = ["10.0.0.0/33"]', /deny\.0: "10\.0\.0\.0\/33" has a length that is not 0–32, "33"; allowed: .*prefixes/],
  ['deny = ["10.0.0.1/24"]', /deny\.0: "10\.0\.0\.1\/24" has bits of its own beyond the first 24; allowed: /],
  ['allow = ["2001:db8::1/64"]', /allow\.0: "2001:db8::1\/64" has bits of its own beyond the first 64; allowed: /],
  ['deny = ["::ffff:203.0.113.0/120"]', /deny\.0: "::ffff:203\.0\.113\.0\/120" is IPv4 in IPv6 form: write 203\.0\.113\.0\/24; allowed: /],
  ['deny = ["::FFFF:cb00:7107"]', /deny\.0: "::FFFF:cb00:7107" is IPv4 in IPv6 form: write 203\.0\.113\.7; allowed: /],
  ['allow = ["client.example"]', /allow\.0: "client\.example" is no IP address or prefix; allowed: /],
  ['deny = ["@block"]', /deny\.0: "@block" is no absolute path of a file behind its @; allowed: /],
  ['deny = ["@/a", "@/b", "@/c", "@/d", "@/e"]', /deny: is an array; allowed: .*at most 4 files/],
  ['source_rate = -1', /source_rate: .*allowed: 0, or a number, 0\.001–100000/],
  ['source_maxconn = 70000', /source_maxconn: 70000 is too large; allowed: a whole number, 0–65535/],
  [
    'respect_firewall = ["ip a b"]',
    /: frontends\.a\.respect_firewall: unknown here; needed: a key of \[passthrough\]; ignored, it would keep nobody out$/,
  ],
  ['denny = ["10.0.0.1"]', /: frontends\.a\.denny: unknown key; did you mean "deny"\? \(ignored, it would keep nobody out\)$/],
  ['source_rate = 1\nfrontends.a.deny_action = "tarpit"', /deny_action: "tarpit" is unknown; allowed: "drop" or "reset"/],
])('%s', (line, says) => {
  expect(linesOf(() => parseConfig(frontend(line), 'f'))).toEqual([expect.stringMatching(says)]);
});

const ACCESS = { allow: '["10.0.0.1"]', deny: '["10.0.0.1"]', source_rate: '1', source_maxconn: '1', source_prefix: '24' };
const RULES = Object.entries({ ...ACCESS, dry_run: 'true', deny_action: '"reset"', respect_firewall: '["ip a b"]' });

test.each([
  ['backends.b', true],
  ['backends.b.servers.s', true],
  ['fan_out.f', true],
  ['passthrough', false],
  ['access.frontends.a', true],
  ['frontends.a.acl', true],
  ['stats', true],
])('rules of access in [%s] are refused, with where they belong', (table, isNone) => {
  const own = { fan_out: 'fan_out.f.listen = "1"\nfan_out.f.ports = [2]\n' }[table.split('.')[0] ?? ''] ?? '';
  for (const [key, value] of RULES.filter(([name]) => isNone || name !== 'respect_firewall')) {
    const home = key === 'respect_firewall' ? 'passthrough' : 'frontends.NAME';
    const says = `${table}.${key}: unknown here; needed: a key of [${home}]; ignored, it would keep nobody out`;
    const errors = linesOf(() => parseConfig(`${frontend('maxconn = 1')}${own}${table}.${key} = ${value}\n`, 'f')).filter(
      (line) => !line.includes(': warning: '),
    );
    expect(errors).toEqual([expect.stringContaining(`: ${says}`)]);
  }
});

test.each([
  ['allow = []', 'frontends.a.allow: an empty list lets nobody connect; without the key everybody may'],
  [
    'dry_run = true',
    'frontends.a.dry_run: has no effect without allow, deny, source_rate, source_maxconn, or [passthrough] respect_firewall',
  ],
  [
    'deny_action = "reset"',
    'frontends.a.deny_action: has no effect without allow, deny, source_rate, source_maxconn, or [passthrough] respect_firewall',
  ],
])('%s is warned of', (line, says) => {
  const { warnings } = parseConfig(frontend(line), 'f');
  expect(warnings.map(({ path, message }) => `${path}: ${message}`)).toEqual([says]);
});

test('a set of the firewall is a rule of each frontend, whose dry_run and deny_action hold for it', () => {
  const settings = frontend('dry_run = true\nfrontends.a.deny_action = "reset"\npassthrough.respect_firewall = ["inet filter blocked"]');
  expect(parseConfig(settings, 'f').warnings).toEqual([]);
});

test('a file of prefixes: comments, both families; a mistake is told with its line, and a file that is not there', () => {
  write('# feed\n\n192.0.2.0/24 ; SBL1\n 2001:db8::/32\r\n198.51.100.7 # one\n');
  const { config } = parseConfig(frontend(`deny = ["203.0.113.0/24", "@${path}"]`), 'f');
  const [web] = config.frontends;
  expect(web?.deny?.lists.map(({ size }) => size)).toEqual([1, 3]);
  expect(config.files).toEqual([path]);
  expect(JSON.parse(JSON.stringify(web))).not.toHaveProperty('deny');
  write('192.0.2.0/24\n192.0.2.1/24\nfoo');
  expect(linesOf(() => parseConfig(frontend(`deny = ["@${path}"]`), 'f'))).toEqual([
    expect.stringMatching(/block:2:1: "192\.0\.2\.1\/24" has bits of its own beyond the first 24; allowed: an IP address or prefix a line/),
    expect.stringMatching(/block:3:1: "foo" is no IP address or prefix; allowed: /),
  ]);
  expect(linesOf(() => parseConfig(frontend('allow = ["@/nowhere/list"]'), 'f'))).toEqual([
    expect.stringMatching(/^f:\d+:21: frontends\.a\.allow: \/nowhere\/list: cannot be read: .*ENOENT/),
  ]);
});

test('files without an address behind allow let nobody connect, which is told', () => {
  write('# being written\n');
  const warned = (keys: string) => parseConfig(frontend(keys), 'f').warnings.map(formatMistake);
  expect(warned(`allow = ["@${path}"]`)).toEqual([
    expect.stringMatching(/^f:\d+:\d+: warning: frontends\.a\.allow: its files have no address: nobody may connect$/),
  ]);
  expect(warned(`allow = ["@${path}", "192.0.2.1"]`)).toEqual([]);
  expect(warned(`deny = ["@${path}"]`)).toEqual([]);
});

test('a list that is no file is refused at the start as well, and nobody waits for whoever writes into a pipe', () => {
  const pipe = join(directory, 'pipe');
  execFileSync('mkfifo', [pipe]);
  for (const [place, reason] of [
    [pipe, 'it is not a regular file'],
    [directory, 'it is not a regular file'],
  ])
    expect(linesOf(() => parseConfig(frontend(`deny = ["@${place}"]`), 'f'))).toEqual([
      expect.stringMatching(`frontends\\.a\\.deny: ${place}: cannot be read: ${reason}`),
    ]);
});

test('a reload tells of a list that has other entries, or as many as before no longer', () => {
  const read = (text: string) => {
    write(text);
    return parseConfig(frontend(`deny = ["@${path}"]`), 'f').config;
  };
  const [before, after] = [read('192.0.2.1\n'), read('192.0.2.1\n192.0.2.2\n')];
  expect(changesBetween(before, after)).toEqual([
    { message: 'frontend changed', fields: { frontend: expect.any(String), deny: `@${path} (1) → @${path} (2)` } },
  ]);
});
