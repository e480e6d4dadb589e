import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { ADDRESS, BACKEND, check, FRONTEND, GOOD, linesOf, type Row, SERVER_ADDRESS, WEIGHT } from '../lab/config-lines.ts';

const COMMAND = 'a program and its arguments, ["/usr/local/bin/check", "-q"]';
const BALANCE = '"carp", "first", "glb", "leastconn", "maglev", "random", "roundrobin" or "source"';

const VALUES: Row[] = [
  {
    name: 'a number for a string',
    toml: `${GOOD}stats.address = 1`,
    lines: ['f:3:17: stats.address: 1 is a number; allowed: an IPv4 or IPv6 address, "127.0.0.1" or "::1"'],
  },
  {
    name: 'a string for a number',
    toml: `${GOOD}backends.b.servers.s.weight = "1"`,
    lines: [`f:3:31: backends.b.servers.s.weight: "1" is a string; ${WEIGHT}`],
  },
  {
    name: 'a fraction',
    toml: `${GOOD}backends.b.servers.s.weight = 1.5`,
    lines: [`f:3:31: backends.b.servers.s.weight: 1.5 is not a whole number; ${WEIGHT}`],
  },
  {
    name: 'below the range',
    toml: `${GOOD}backends.b.servers.s.weight = -1`,
    lines: [`f:3:31: backends.b.servers.s.weight: -1 is too small; ${WEIGHT}`],
  },
  {
    name: 'above the range',
    toml: `${GOOD}backends.b.servers.s.weight = 65536`,
    lines: [`f:3:31: backends.b.servers.s.weight: 65536 is too large; ${WEIGHT}`],
  },
  {
    name: 'a boolean',
    toml: `${GOOD}backends.b.servers.s.weight = true`,
    lines: [`f:3:31: backends.b.servers.s.weight: true is a boolean; ${WEIGHT}`],
  },
  {
    name: 'an array',
    toml: `${GOOD}backends.b.servers.s.weight = [1]`,
    lines: [`f:3:31: backends.b.servers.s.weight: is an array; ${WEIGHT}`],
  },
  {
    name: 'a table',
    toml: `${GOOD}backends.b.servers.s.weight = {}`,
    lines: [`f:3:31: backends.b.servers.s.weight: is a table; ${WEIGHT}`],
  },
  {
    name: 'a date',
    toml: `${GOOD}backends.b.servers.s.weight = 2026-01-01`,
    lines: [`f:3:31: backends.b.servers.s.weight: is a date or time; ${WEIGHT}`],
  },
  {
    name: 'a date for a table',
    toml: `${GOOD}passthrough = 2026-01-01`,
    lines: ['f:3:15: passthrough: is a date or time; allowed: a table, [passthrough]'],
  },
  {
    name: 'nan',
    toml: `${GOOD}backends.b.health_check_timeout = nan`,
    lines: ['f:3:35: backends.b.health_check_timeout: NaN is not a finite number; allowed: seconds, 0.05–300'],
  },
  {
    name: 'inf',
    toml: `${GOOD}backends.b.health_check_timeout = inf`,
    lines: ['f:3:35: backends.b.health_check_timeout: Infinity is not a finite number; allowed: seconds, 0.05–300'],
  },
  {
    name: 'an interval that would spin',
    toml: `${GOOD}backends.b.health_check_interval = 0.01`,
    lines: ['f:3:36: backends.b.health_check_interval: 0.01 is too small; allowed: seconds, 0.1–86400, or 0'],
  },
  {
    name: 'a great number',
    toml: `${GOOD}passthrough.connection_tracker_capacity = 16777217`,
    lines: ['f:3:43: passthrough.connection_tracker_capacity: 16777217 is too large; allowed: a whole number, 1–16,777,216'],
  },
  {
    name: 'more than 64 bits',
    toml: `${GOOD}passthrough.workers = 99999999999999999999`,
    lines: ['f:3:23: passthrough.workers: 100000000000000000000 is too large; allowed: a whole number, 0–64'],
  },
  {
    name: 'no power of two',
    toml: `${GOOD}passthrough.ring_slots = 1000`,
    lines: ['f:3:26: passthrough.ring_slots: 1000 is not a power of two; allowed: a power of two, 64–8192'],
  },
  {
    name: 'an unknown word',
    toml: `${GOOD}backends.b.balance = "maglve"`,
    lines: [`f:3:22: backends.b.balance: "maglve" is unknown; allowed: ${BALANCE}; did you mean "maglev"?`],
  },
  {
    name: 'an unknown kind of DSR',
    toml: `${GOOD}backends.b.dsr = "tunnel"`,
    lines: ['f:3:18: backends.b.dsr: "tunnel" is unknown; allowed: "nat", "l2", "gue" or "ipip"'],
  },
  {
    name: 'a word of no kin',
    toml: `${GOOD}backends.b.balance = "fair"`,
    lines: [`f:3:22: backends.b.balance: "fair" is unknown; allowed: ${BALANCE}`],
  },
  {
    name: 'a stats port in words',
    toml: `${GOOD}stats.port = "http"\nstats.address="0.0.0.0"`,
    lines: ['f:3:14: stats.port: "http" is not a port; allowed: a port, 1–65535, as a string or a number'],
  },
  {
    name: 'stats port 0',
    toml: `${GOOD}stats.port = 0\nstats.address="0.0.0.0"`,
    lines: ['f:3:14: stats.port: 0 is not a port; allowed: a port, 1–65535, as a string or a number'],
  },
  {
    name: 'stats port of a wrong type',
    toml: `${GOOD}stats.port = true\nstats.address="0.0.0.0"`,
    lines: ['f:3:14: stats.port: true is a boolean; allowed: a port, 1–65535, as a string or a number'],
  },
  {
    name: 'an empty array',
    toml: `${GOOD}backends.b.health_check = "exec"\nbackends.b.health_check_command = []`,
    lines: [`f:4:35: backends.b.health_check_command: is an empty array; allowed: ${COMMAND}`],
  },
  {
    name: 'a command in one string',
    toml: `${GOOD}backends.b.health_check = "exec"\nbackends.b.health_check_command = "check -q"`,
    lines: [`f:4:35: backends.b.health_check_command: "check -q" is a string; allowed: ${COMMAND}`],
  },
  {
    name: 'an argument that is no string',
    toml: `${GOOD}backends.b.health_check = "exec"\nbackends.b.health_check_command = ["check", 1]`,
    lines: ['f:4:45: backends.b.health_check_command.1: 1 is a number; allowed: strings without NUL'],
  },
  {
    name: 'an argument that would end early',
    toml: `${GOOD}backends.b.health_check = "exec"\nbackends.b.health_check_command = ["check", "a\\u0000b"]`,
    lines: ['f:4:45: backends.b.health_check_command.1: "a\\u0000b" has a NUL in it; allowed: strings without NUL'],
  },
  {
    name: 'a path without its slash',
    toml: `${GOOD}backends.b.health_check = "http"\nbackends.b.health_check_path = "health"`,
    lines: [
      'f:4:32: backends.b.health_check_path: "health" is not a path: it must begin with a slash and have no spaces; ' +
        'allowed: a path, "/health"',
    ],
  },
  ...['600', '200-', '300-200', '2xx', '200,', ''].map((status) => ({
    name: `status codes "${status}"`,
    toml: `${GOOD}backends.b.health_check = "http"\nbackends.b.health_check_status = "${status}"`,
    lines: [
      `f:4:34: backends.b.health_check_status: "${status}" is not a list of status codes; ` +
        'allowed: status codes and ranges, 200 or "200-299,401"',
    ],
  })),
  ...['a b', '', 'a\\r\\nX: y', 'http://a/'].map((host) => ({
    name: `a host "${host}"`,
    toml: `${GOOD}backends.b.health_check = "http"\nbackends.b.health_check_host = "${host}"`,
    lines: [`f:4:32: backends.b.health_check_host: "${host}" is not a host; allowed: a host, "www.example.com" or "www.example.com:8080"`],
  })),
  {
    name: 'a share above a half',
    toml: `${GOOD}backends.b.health_check_jitter = 0.6`,
    lines: ['f:3:34: backends.b.health_check_jitter: 0.6 is too large; allowed: a share, 0–0.5'],
  },
  {
    name: 'a number for a flag',
    toml: `${GOOD}backends.b.servers.s.backup = 1`,
    lines: ['f:3:31: backends.b.servers.s.backup: 1 is a number; allowed: true or false'],
  },
  {
    name: 'an unknown PROXY protocol version',
    toml: `${GOOD}backends.b.send_proxy = "v3"`,
    lines: ['f:3:25: backends.b.send_proxy: "v3" is unknown; allowed: "v1" or "v2"; did you mean "v1"?'],
  },
  {
    name: 'a long string is cut',
    toml: `${GOOD}backends.b.balance = "${'x'.repeat(99)}"`,
    lines: [`f:3:22: backends.b.balance: "${'x'.repeat(60)}…" is unknown; allowed: ${BALANCE}`],
  },
];

const TABLES: Row[] = [
  {
    name: 'an empty file',
    toml: '',
    lines: [
      'f:1:1: frontends: missing; needed: tables, [frontends.NAME], at least one',
      'f:1:1: backends: missing; needed: tables, [backends.NAME], at least one',
    ],
  },
  {
    name: 'no frontend',
    toml: `[frontends]\n[backends]`,
    lines: ['f:1:1: frontends: empty; needed: at least one table, [frontends.NAME]'],
  },
  {
    name: 'a missing key',
    toml: `[frontends.a]\nbackend = "b"\n[backends]\n[backends.b.servers.s]\n`,
    lines: [
      `f:1:1: frontends.a.listen_addr: missing; needed: ${ADDRESS}`,
      `f:4:1: backends.b.servers.s.addr: missing; needed: ${SERVER_ADDRESS}; or srv, or exec`,
    ],
  },
  {
    name: 'a frontend that is no table',
    toml: `frontends.a = 80\nbackends = {}`,
    lines: ['f:1:15: frontends.a: 80 is a number; allowed: a table'],
  },
  {
    name: 'frontends as an array of tables',
    toml: `[[frontends]]\nlisten_addr = "192.0.2.1:80"\n[backends]`,
    lines: ['f:1:3: frontends: is an array; allowed: tables, [frontends.NAME], at least one'],
  },
  {
    name: 'a bad name',
    toml: `${GOOD}backends.b.servers."$(x)" = { addr = "192.0.2.3:1" }`,
    lines: ['f:3:20: backends.b.servers."$(x)": not usable as a name; allowed: 1–64 letters, digits, spaces and _ . : / @ -'],
  },
  {
    name: '__proto__',
    toml: `${GOOD}[backends.b.servers.__proto__]\naddr = "192.0.2.3:1"`,
    lines: ['f:3:21: backends.b.servers.__proto__: not usable as a name; allowed: 1–64 letters, digits, spaces and _ . : / @ -'],
  },
];

const frontendOn = (listen: string, name = 'c') => `frontends.${name}={listen_addr="${listen}",backend="b"}`;

const CROSS: Row[] = [
  {
    name: 'a backend that is missing',
    toml: `frontends.a={listen_addr="192.0.2.1:80",backend="bb"}\n${BACKEND}`,
    lines: [
      'f:1:49: frontends.a.backend: there is no backend "bb"; allowed: "b"; did you mean "b"?',
      'f:2:10: warning: backends.b: no frontend uses this backend',
    ],
  },
  {
    name: 'a backend where there is none',
    toml: `${FRONTEND}\n[backends]`,
    lines: ['f:1:49: frontends.a.backend: there is no backend "b"; allowed: none, since the file has no backend'],
  },
  {
    name: 'a server address twice',
    toml: `${GOOD}backends.b.servers.t.addr="192.0.2.2:80"`,
    lines: ['f:3:27: backends.b.servers.t.addr: "192.0.2.2:80" is taken by server "s", line 2'],
  },
  {
    name: 'a listen address twice',
    toml: `${GOOD}frontends.c={listen_addr="192.0.2.1:80",backend="b"}`,
    lines: ['f:3:26: frontends.c.listen_addr: "192.0.2.1:80" is taken by frontend "a", line 1'],
  },
  {
    name: 'a listen address under 0.0.0.0',
    toml: `${GOOD}frontends.c={listen_addr="0.0.0.0:80",backend="b"}`,
    lines: ['f:3:26: frontends.c.listen_addr: "0.0.0.0:80" is taken by frontend "a", line 1'],
  },
  {
    name: 'the statistics on a frontend',
    toml: `${GOOD}stats.port="80"\nstats.address="0.0.0.0"`,
    lines: ['f:3:12: stats.port: "0.0.0.0:80" is taken by frontend "a", line 1'],
  },
  {
    name: 'the default statistics port on a frontend',
    toml: `frontends.a={listen_addr="192.0.2.1:7000",backend="b"}\n${BACKEND}\n[stats]\naddress="0.0.0.0"`,
    lines: ['f:3:1: stats.port: "0.0.0.0:7000" is taken by frontend "a", line 1'],
  },
  {
    name: 'an IPv6 address in two spellings',
    toml: `${GOOD}${frontendOn('[2001:db8::1]:80')}\n${frontendOn('[2001:0DB8:0::0:1]:80', 'd')}`,
    lines: ['f:4:26: frontends.d.listen_addr: "[2001:db8::1]:80" is taken by frontend "c", line 3'],
  },
  {
    name: 'an IPv6 server in two spellings',
    toml: `${GOOD}backends.b.servers.t.addr="[::a]:80"\nbackends.b.servers.u.addr="[::000A]:80"`,
    lines: ['f:4:27: backends.b.servers.u.addr: "[::a]:80" is taken by server "t", line 3'],
  },
  {
    name: 'an IPv6 address under [::]',
    toml: `${GOOD}${frontendOn('[::]:80')}\n${frontendOn('[2001:db8::1]:80', 'd')}`,
    lines: ['f:4:26: frontends.d.listen_addr: "[2001:db8::1]:80" is taken by frontend "c", line 3'],
  },
  {
    name: 'the statistics on an IPv6 frontend',
    toml: `${GOOD}${frontendOn('[::1]:7000')}\nstats.address="0::1"`,
    lines: ['f:4:1: stats.port: "[::1]:7000" is taken by frontend "c", line 3'],
  },
  { name: '[::] beside 0.0.0.0', toml: `${GOOD.replace('192.0.2.1', '0.0.0.0')}${frontendOn('[::]:80')}`, lines: [] },
  { name: 'the statistics on [::] beside a frontend', toml: `${GOOD}stats={port=80,address="::"}`, lines: [] },
  {
    name: 'backups alone',
    toml: `${FRONTEND}\n[backends.b.servers]\ns={addr="192.0.2.2:80",backup=true}\nt={addr="192.0.2.3:80",backup=true}`,
    lines: ['f:2:11: warning: backends.b: all its servers are backups: they are used as if none were'],
  },
  { name: 'a backup beside a server', toml: `${GOOD}backends.b.servers.t={addr="192.0.2.3:80",backup=true}`, lines: [] },
  { name: 'the statistics beside a frontend', toml: `${GOOD}stats={port=80,address="127.0.0.1"}`, lines: [] },
  {
    name: 'one server in two backends',
    toml: `${GOOD}${FRONTEND.replace('s.a', 's.c').replace(':80', ':81').replace('"b"', '"c"')}\n${BACKEND.replace('s.b', 's.c')}`,
    lines: [],
  },
  {
    name: 'a backend without servers',
    toml: `${FRONTEND}\n[backends.b]`,
    lines: ['f:2:1: warning: backends.b: has no servers: every connection will be refused'],
  },
];

const CONTROL: Row[] = [
  {
    name: 'an address without a token',
    toml: `${GOOD}[control]\naddress="127.0.0.1:7001"`,
    lines: ['f:4:9: control.address: without a token anybody could give orders there; needed: token, or token_file'],
  },
  {
    name: 'a dashboard without a token',
    toml: `${GOOD}[control]\ndashboard="write"\n[stats]`,
    lines: ['f:4:11: control.dashboard: without a token anybody could give orders from there; needed: token, or token_file'],
  },
  {
    name: 'a dashboard that is something else',
    toml: `${GOOD}[control]\ndashboard="readonly"\n[stats]`,
    lines: ['f:4:11: control.dashboard: "readonly" is unknown; allowed: "read" or "write"'],
  },
  {
    name: 'a dashboard that nobody serves',
    toml: `${GOOD}[control]\ndashboard="write"\ntoken_file="/a/b"`,
    lines: ['f:4:1: warning: control.dashboard: has no effect without [stats], where the dashboard is'],
  },
  {
    name: 'a dashboard whose token goes over the network',
    toml: `${GOOD}[control]\ndashboard="write"\ntoken_file="/a/b"\n[stats]\naddress="10.0.0.1"`,
    lines: [
      'f:4:1: warning: control.dashboard: the token goes over the wire in the clear, to 10.0.0.1: whoever reads along can give orders; ' +
        'needed: [stats] address = "127.0.0.1", and ssh -L or a proxy with TLS before it',
    ],
  },
  {
    name: 'a dashboard without orders',
    toml: `${GOOD}[control]\nenabled=false\ndashboard="write"\ntoken_file="/a/b"\n[stats]`,
    lines: ['f:5:1: warning: control.dashboard: has no effect with enabled = false'],
  },
  {
    name: 'a token for nobody',
    toml: `${GOOD}[control]\ndashboard="read"\ntoken="0123456789abcdef"`,
    lines: ['f:5:1: warning: control.token: has no effect without address, or dashboard = "write"'],
  },
];

const UNKNOWN: Row[] = [
  {
    name: 'a slip',
    toml: `${GOOD}backends.b.helth_check_intervall = 3`,
    lines: ['f:3:12: warning: backends.b.helth_check_intervall: unknown key, ignored; did you mean "health_check_interval"?'],
  },
  {
    name: 'swapped letters',
    toml: `${GOOD}backends.b.servers.s.wieght = 3`,
    lines: ['f:3:22: warning: backends.b.servers.s.wieght: unknown key, ignored; did you mean "weight"?'],
  },
  {
    name: 'dashes and capitals',
    toml: `${GOOD}passthrough.Ring-Slots = 64`,
    lines: ['f:3:13: warning: passthrough.Ring-Slots: unknown key, ignored; did you mean "ring_slots"?'],
  },
  {
    name: 'half of the key',
    toml: `${GOOD}backends.b.interval = 3`,
    lines: ['f:3:12: warning: backends.b.interval: unknown key, ignored; did you mean "health_check_interval"?'],
  },
  {
    name: 'nothing like it',
    toml: `${GOOD}stats.colour = "red"\nstats.address="0.0.0.0"`,
    lines: ['f:3:7: warning: stats.colour: unknown key, ignored; known here: address, port'],
  },
  {
    name: 'a table',
    toml: `${GOOD}[passthru.timeouts]\nsyn = 3`,
    lines: [
      'f:3:2: warning: passthru: unknown key, ignored; known here: frontends, backends, fan_out, stats, control, connection_log, passthrough, inline, discovery, glb, proxy',
    ],
  },
  {
    name: 'a key that is no port',
    toml: `${GOOD}[fan_out.f]\nlisten = "3128"\nports = { 70000 = 1 }`,
    lines: [
      'f:5:11: fan_out.f.ports.70000: not usable as a key here; allowed: ports, 1–65535, each once and 1–64 of them, [3128, 3129]; or with their weights, { 3128 = 1, 3129 = 2 }',
    ],
  },
  {
    name: 'a key of another table',
    toml: `${GOOD}backends.b.syn = 3`,
    lines: ['f:3:12: warning: backends.b.syn: unknown here, ignored; it is a key of [passthrough.timeouts]'],
  },
  {
    name: 'a key of several others',
    toml: `${GOOD}backends.b.servers.s.health_check = "tcp"`,
    lines: ['f:3:22: warning: backends.b.servers.s.health_check: unknown here, ignored; it is a key of [backends.NAME] or [fan_out.NAME]'],
  },
  {
    name: 'a table in another one',
    toml: `${GOOD}[proxy.timeouts]\nsyn = 3\n[passthrough.servers.a]`,
    lines: [
      'f:3:8: warning: proxy.timeouts: unknown here, ignored; it is [passthrough.timeouts]',
      'f:5:14: warning: passthrough.servers: unknown here, ignored; it is [backends.NAME.servers.NAME]',
    ],
  },
  {
    name: 'an inherited name',
    toml: `${GOOD}stats.toString = 3\nstats.address="0.0.0.0"`,
    lines: ['f:3:7: warning: stats.toString: unknown key, ignored; known here: address, port'],
  },
];

const SYNTAX: Row[] = [
  { name: 'no value', toml: 'a = ', lines: ['f:1:5: not valid TOML: unspecified values are invalid'] },
  {
    name: 'an address without quotes',
    toml: '[a]\nb = 10.0.0.1:80 # x\n',
    lines: ['f:2:9: not valid TOML: must be a newline (text stands in quotes: "…")'],
  },
  { name: 'a name without quotes', toml: 'b = web\n', lines: ['f:1:5: not valid TOML: unexpected character (text stands in quotes: "…")'] },
  { name: 'two values', toml: 'a = 1 2\n', lines: ['f:1:7: not valid TOML: must be a newline'] },
  { name: 'an open string', toml: '[a]\nb = "x\n', lines: ['f:2:7: not valid TOML: unterminated string constant'] },
  { name: 'a key twice', toml: 'abc = 1\nabc = 2', lines: ['f:2:1: abc is defined a second time'] },
  { name: 'a table twice', toml: '[a]\n[a]', lines: ['f:2:2: a is defined a second time'] },
  ...[
    { name: 'arrays 40 deep', toml: `a = ${'['.repeat(40)}${']'.repeat(40)}` },
    { name: 'arrays 20,000 deep', toml: `a = ${'['.repeat(20_000)}${']'.repeat(20_000)}` },
    { name: 'inline tables 40 deep', toml: `a = ${'{a='.repeat(40)}1${'}'.repeat(40)}` },
    { name: 'a key of 20,000 parts', toml: `a${'.a'.repeat(20_000)} = 1` },
    { name: 'a table of 20,000 parts', toml: `[a${'.a'.repeat(20_000)}]` },
  ].map((row) => ({ ...row, lines: ['f:1:1: arrays or tables are nested too deeply'] })),
];

describe.each(Object.entries({ VALUES, TABLES, CROSS, CONTROL, UNKNOWN, SYNTAX }))('%s', (_, rows) => {
  it.each(rows)('$name', ({ toml, lines }) => expect(check(toml)).toEqual(lines));
});

describe('limits', () => {
  const many = (count: number, line: (i: number) => string) => Array.from({ length: count }, (_, i) => line(i)).join('\n');

  it('allow 1024 frontends and 4096 servers, and no more', () => {
    const frontends = (n: number) => many(n, (i) => `frontends.f${i}={listen_addr="192.0.2.1:${i + 1}",backend="b"}`);
    const servers = (n: number) => many(n, (i) => `backends.b.servers.s${i}.addr="192.0.2.2:${i + 1}"`);
    expect(check(`${frontends(1024)}\n${servers(4096)}`)).toEqual([]);
    expect(check(`${frontends(1025)}\n${servers(4097)}`)).toEqual([
      'f:1025:17: frontends.f1024: this is one too many: the file has 1025 frontends; allowed: at most 1024',
      'f:5122:20: backends.b.servers.s4096: this is one too many: the file has 4097 servers; allowed: at most 4096',
    ]);
  });

  it('allow 4096 backends, and no more', () => {
    const errorsOf = (n: number) =>
      check(`${FRONTEND}\n${BACKEND}\n${many(n - 1, (i) => `backends.c${i}={}`)}`).filter((line) => !/: warning: /.test(line));
    expect(errorsOf(4096)).toEqual([]);
    expect(errorsOf(4097)).toEqual(['f:4098:16: backends.c4095: this is one too many: the file has 4097 backends; allowed: at most 4096']);
  });

  it('name ten backends at most', () => {
    const backends = many(12, (i) => `backends.other${i}={}`);
    expect(check(`${FRONTEND}\n${backends}`)[0]).toMatch(/there is no backend "b"; allowed: "other0", .*"other9" and 2 more$/);
  });
});

describe('files', () => {
  const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/config/${name}`, import.meta.url));

  it.each([
    { name: 'missing.toml', reason: 'no such file or directory (ENOENT)' },
    { name: '', reason: 'illegal operation on a directory (EISDIR)' },
    { name: 'not-utf8.toml', reason: 'it is not UTF-8 text' },
  ])('"$name" cannot be read: $reason', ({ name, reason }) => {
    expect(linesOf(() => loadConfig(fixture(name)))).toEqual([`${fixture(name)}: cannot be read: ${reason}`]);
  });

  it('all mistakes of a file come at once, in its order', () => {
    const file = fixture('many-mistakes.toml');
    const lines = linesOf(() => loadConfig(file)).map((line) => line.slice(file.length + 1));
    expect(lines).toMatchSnapshot();
  });
});
