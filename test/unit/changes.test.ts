/** What a reload says that it changes. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { changesBetween, tellChanges } from '../../src/service/changes.ts';
import { tellOuterPackets } from '../../src/service/outer-packets.ts';

const FILE = `
[frontends.web]
listen_addr = "192.0.2.1:80"
backend = "app"
[backends.app]
health_check = "http"
[backends.app.servers.a]
addr = "10.0.0.1:80"
[backends.app.servers.b]
addr = "10.0.0.2:80"
weight = 2
[stats]
address = "127.0.0.1"
`;
const load = (text: string) => parseConfig(text, 'lb4.toml', { processors: 2 }).config;
const changes = (after: string, before = FILE) => changesBetween(load(before), load(after)).map(({ message, fields }) => [message, fields]);

const DSR = FILE.replace('"http"', '"http"\nbalance = "maglev"\ndsr = "gue"');
const GLB = DSR.replace('weight = 2\n', '').replace('"maglev"', `"glb"\nhash_key = "${'12'.repeat(16)}"\nseed = "${'34'.repeat(16)}"`);
const [STAYS, FOLLOWS] = [expect.stringMatching(/servers must take both meanwhile$/), expect.stringMatching(/from the next one on$/)];

test.each([
  [
    'another port',
    DSR,
    DSR.replace('"gue"', '"gue"\ngue_port = 6080'),
    'gue to port 19523, 36 bytes more → gue to port 6080, 36 bytes more',
    STAYS,
  ],
  [
    'another source',
    DSR,
    DSR.replace('"gue"', '"gue"\nsource_addr = "10.0.0.9"'),
    'gue to port 19523, 36 bytes more → gue to port 19523 from 10.0.0.9, 36 bytes more',
    STAYS,
  ],
  ['another dsr', DSR, DSR.replace('"gue"', '"l2"'), 'gue to port 19523, 36 bytes more → l2', STAYS],
  [
    'GLB’s table, another port',
    GLB,
    GLB.replace('"gue"', '"gue"\ngue_port = 6080'),
    'gue to port 19523, 40 bytes more → gue to port 6080, 40 bytes more',
    FOLLOWS,
  ],
  [
    'GLB’s table, a longer list',
    GLB,
    GLB.replace('"gue"', '"gue"\nalt_hash_fields = ["source", "source_port"]'),
    'gue to port 19523, 40 bytes more → gue to port 19523, 48 bytes more',
    FOLLOWS,
  ],
  ['GLB’s table, no list', GLB, GLB.replace('"gue"', '"ipip"'), 'gue to port 19523, 40 bytes more → ipip, 20 bytes more', STAYS],
])('in DSR what connections that run have of it is told: %s', (_, before, after, sent, message) => {
  const lines: unknown[][] = [];
  const note = (...line: unknown[]) => void lines.push(line);
  for (const mode of ['dsr', 'passthrough'] as const) tellOuterPackets(load(before), load(after), mode, { info: note, warn: note });
  tellOuterPackets(load(after), load(after), 'dsr', { info: note, warn: note });
  expect(lines).toEqual([[{ backend: 'app', sent }, message]]);
});

test('in DSR it is told that the others’ scripts do not know a server which is new in a table', () => {
  const more = '\n[backends.app.servers.c]\naddr = "10.0.0.3:80"\n[stats]';
  const lines = [DSR, GLB, GLB.replace('"gue"', '"ipip"')].map((text) => {
    const told: unknown[][] = [];
    const note = (...line: unknown[]) => void told.push(line);
    tellOuterPackets(load(text), load(text.replace('[stats]', more)), 'dsr', { info: note, warn: note });
    tellOuterPackets(load(text.replace('[stats]', more)), load(text), 'dsr', { info: note, warn: note });
    return told;
  });
  const fields = { backend: 'app', servers: '10.0.0.3', others: '10.0.0.1, and 1 more' };
  expect(lines).toEqual([[], [[fields, expect.stringMatching(/the scripts of the others anew before .* lb4 rules --dsr .*--for S/)]], []]);
});

test('the keys of a tunnel are as the file has them', () => {
  const after = DSR.replace('"gue"', '"gue"\ngue_port = 6080\nsource_addr = "10.0.0.9"');
  expect(changes(after, DSR)).toEqual([['backend changed', { backend: 'app', gue_port: '19523 → 6080', source_addr: 'unset → 10.0.0.9' }]]);
});

test('nothing, where only the text has changed', () => {
  expect(changes(`# a comment\n${FILE}`)).toEqual([]);
});

test.each([
  [
    'a server goes',
    FILE.replace(/\[backends\.app\.servers\.b\][^[]*/, ''),
    'server leaves the file: it drains',
    { server: 'app / b / 10.0.0.2:80' },
  ],
  ['a server comes', `${FILE}[backends.app.servers.c]\naddr = "10.0.0.3:80"`, 'server added', { server: 'app / c / 10.0.0.3:80' }],
  ['a weight', FILE.replace('weight = 2', 'weight = 0'), 'server changed', { server: 'app / b / 10.0.0.2:80', weight: '2 → 0' }],
  [
    'keys of a backend, as the file has them',
    FILE.replace('"http"', '"http"\nbalance = "leastconn"\nconnect_timeout = 0.5\nhealth_check_path = "/up"\nhealth_check_interval = 1'),
    'backend changed',
    {
      backend: 'app',
      balance: 'unset → leastconn',
      connect_timeout: '5 s → 0.5 s',
      health_check_path: '/ → /up',
      health_check_interval: '5 s → 1 s',
    },
  ],
  ['a list of checks', FILE.replace('"http"', '["tcp", "http"]'), 'backend changed', { backend: 'app', health_check: 'http → tcp, http' }],
  ['the type of a check', FILE.replace('"http"', '"tcp"'), 'backend changed', { backend: 'app', health_check: 'http → tcp' }],
  [
    'a frontend',
    FILE.replace('backend = "app"', 'backend = "app"\nmaxconn = 5'),
    'frontend changed',
    { frontend: 'web 192.0.2.1:80', maxconn: '0 → 5' },
  ],
  ['the statistics', FILE.replace('127.0.0.1', '0.0.0.0'), 'settings changed', { stats: '127.0.0.1:7000 → 0.0.0.0:7000' }],
  ['other tables', `${FILE}[proxy]\ngrace_period = 5`, 'settings changed', { 'proxy.grace_period': '30 s → 5 s' }],
  [
    'who gives orders, and by which token, which is not told',
    `${FILE}[control]\ngroup = "4"\npath = "/run/b"\naddress = "127.0.0.1:9000"\ntoken = "0123456789abcdef-2"`,
    'settings changed',
    {
      'control.path': 'unset → /run/b',
      'control.group': 'unset → 4',
      'control.mode': '0600 → 0660',
      'control.address': 'unset → 127.0.0.1:9000',
      'control.token': 'unset → …',
    },
  ],
  [
    'no orders',
    `${FILE}[control]\nenabled = false`,
    'settings changed',
    { 'control.enabled': 'true → false', 'control.mode': '0600 → unset' },
  ],
  [
    'a connection log',
    `${FILE}[connection_log]\nto = "file"\nfile = "/var/log/c"`,
    'settings changed',
    {
      'connection_log.to': 'unset → file',
      'connection_log.file': 'unset → /var/log/c',
      'connection_log.format': 'unset → text',
      'connection_log.sample': 'unset → 1',
      'connection_log.rate': 'unset → 1000',
      'connection_log.attempts': 'unset → false',
    },
  ],
  ['tables in tables', `${FILE}[passthrough.timeouts]\nsyn = 5`, 'settings changed', { 'passthrough.timeouts.syn': '30 s → 5 s' }],
])('%s', (_, after, message, fields) => expect(changes(after)).toEqual([[message, fields]]));

test.each([
  [
    'a token, of which only the end is another',
    'control',
    'dashboard = "write"\ntoken = "0123456789abcdef-1"',
    ['-1', '-2'],
    'token',
    '… → …',
  ],
  [
    'where the log goes',
    'connection_log',
    'to = "syslog"\nsyslog = "192.0.2.1:514"',
    [':514', ':515'],
    'syslog',
    '192.0.2.1:514 → 192.0.2.1:515',
  ],
  ['between which interfaces', 'inline', 'backend = "b"\nfrontends = ["e1"]', ['"e1"', '"e1", "e2"'], 'frontends', 'e1 → e1, e2'],
  [
    'and with which clients',
    'inline',
    'backend = "b"\n[inline.frontends.e1]\naddress = "10.1.0.0/16"',
    ['/16', '/24'],
    'frontends',
    'e1: 10.1.0.0/16 → e1: 10.1.0.0/24',
  ],
])('%s', (_, table, keys, [was, is], key, change) => {
  const file = `${FILE}[${table}]\n${keys}\n`;
  expect(changes(file.replace(was, is), file)).toEqual([['settings changed', { [`${table}.${key}`]: change }]]);
});

test('a server at another address is another one', () => {
  expect(changes(FILE.replace('10.0.0.2', '10.0.0.9')).map(([message]) => message)).toEqual([
    'server leaves the file: it drains',
    'server added',
  ]);
});

test('what only a restart changes is told elsewhere', () => {
  expect(changes(`${FILE}[passthrough]\nworkers = 2\nring_slots = 64`)).toEqual([]);
});

test('of many changes a hundred, and how many more', () => {
  const many = Array.from({ length: 150 }, (_, i) => `[backends.app.servers.s${i}]\naddr = "10.1.0.${i}:80"\n`).join('');
  const lines: unknown[][] = [];
  expect(tellChanges(load(FILE), load(FILE + many), { info: (...line: unknown[]) => void lines.push(line) })).toHaveLength(150);
  expect([lines.length, lines.at(-1)]).toEqual([101, [{ changes: 50 }, 'and more changes']]);
});
