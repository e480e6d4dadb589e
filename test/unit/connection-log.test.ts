/** The connection log's lines, and where they go: files that are moved away, full disks, sockets that nobody has. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { ConnectionLog, type ConnectionLogOptions, type Target } from '../../src/connlog/connection-log.ts';
import { type Ended, fieldsOf, journalEntry, render, timed } from '../../src/connlog/line.ts';
import { NAMES } from '../../src/engine/ended.ts';
import { native } from '../../src/io/native.ts';
import { ENDS } from '../../src/proxy/endings.ts';
import { waitUntil } from '../lab/wait.ts';

const AT = Date.UTC(2026, 10, 29, 7, 45, 12, 345);
const ENDED: Ended = {
  at: AT,
  protocol: 'tcp',
  client: '192.0.2.7:51234',
  frontend: 'web',
  to: '198.51.100.1:80',
  server: 'app/web1',
  via: '10.0.0.1:33771',
  address: '10.0.0.2:8080',
  beganAt: AT - 2345,
  seconds: 2.3,
  tx: 512,
  rx: 104_857,
  end: 'fin',
};
const NONE = { overRate: 0, noRoom: 0 };
const nothing = { overRate: 0, noRoom: 0, lost: 0 };

const closers: (() => void)[] = [];
let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lb4-connlog-'));
});
afterEach(() => {
  for (const close of closers.splice(0).toReversed()) close();
  rmSync(directory, { recursive: true });
  vi.useRealTimers();
});

function open(target: Target, more: Partial<ConnectionLogOptions> = {}, journal?: string) {
  const said: [string, object][] = [];
  const say = (fields: object, message: string) => void said.push([message, fields]);
  const log = new ConnectionLog({ info: say, warn: say, error: say } as never, journal);
  closers.push(() => log.close());
  const options = { target, format: 'text', rate: 1000, ...more } as const;
  log.apply(options);
  return { log, said, options, words: () => said.map(([message]) => message) };
}

describe('in the file', () => {
  const FILE = '[frontends.web]\nlisten_addr = "192.0.2.1:80"\nbackend = "app"\n[backends.app.servers]\na = { addr = "10.0.0.1:80" }\n';
  const warnings = (keys: string) =>
    parseConfig(`${FILE}[connection_log]\n${keys}`, 'f').warnings.map(({ path, message }) => `${path}: ${message}`);

  test.each([
    ['to = "file"\nfile = "/a"\nsyslog = "/dev/log"', ['syslog']],
    ['to = "journal"\nfile = "/a"\nsyslog = "/dev/log"\nformat = "json"', ['file', 'syslog', 'format']],
    ['to = "syslog"\nfile = "/a"\nsyslog = "/dev/log"\nformat = "json"', ['file']],
  ])('%s: what does nothing is told', (keys, idle) => {
    const [, to] = /^to = (.*)$/m.exec(keys) ?? [];
    expect(warnings(keys)).toEqual(idle.map((key) => `connection_log.${key}: has no effect with to = ${to}`));
  });

  test('to a file that is not named it is refused', () => {
    expect(() => warnings('to = "file"')).toThrow('nowhere to write to');
  });
});

test('docs/operations.md has each word for an end, and no other', () => {
  const docs = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const [, table = ''] = /^\| `end` \| \|\n\|---\|---\|\n((?:\|.*\n)+)/m.exec(docs) ?? [];
  const words = table.split('\n').flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map(([, word]) => word));
  expect(words.toSorted()).toEqual([...new Set([...Object.values(NAMES), ...ENDS])].toSorted());
});

describe('a line', () => {
  test('as text and as JSON, with what is not known', () => {
    const { beganAt: _, ...rest } = ENDED;
    expect(render(timed(AT, fieldsOf(ENDED)), 'text')).toBe(
      'time=2026-11-29T07:45:12.345Z protocol=tcp client=192.0.2.7:51234 frontend=web to=198.51.100.1:80 server=app/web1 ' +
        'via=10.0.0.1:33771 address=10.0.0.2:8080 began=2026-11-29T07:45:10.000Z seconds=2.3 tx=512 rx=104857 end=fin',
    );
    const unknown = fieldsOf({ ...rest, beganAt: undefined, seconds: undefined, rx: undefined });
    expect(render(unknown, 'text')).toMatch(/ began=- seconds=- tx=512 rx=- end=fin$/);
    expect(JSON.parse(render(unknown, 'json'))).toMatchObject({ began: null, seconds: null, tx: 512, rx: null, frontend: 'web' });
  });

  test.each([
    ['a line end', 'a\nb'],
    ['others', 'a\r\u0085\u2028b'],
    ['a NUL', 'a\0b'],
    ['an escape sequence', '\u001B[31m'],
    ['another field', 'a end=killed'],
    ['quotes', 'a"b\\'],
    ['what stands for nothing', '-'],
    ['nothing', ''],
    ['half of a character', '\uD800'],
    ['more than a line holds', 'x'.repeat(70_000)],
  ])('is one line, whatever a name holds: %s', (_, name) => {
    const fields = fieldsOf({ ...ENDED, frontend: name, server: `${name}/s` });
    for (const line of [render(fields, 'text'), render(fields, 'json')]) {
      expect(line).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
      expect(line.length).toBeLessThan(3000);
    }
    const text = render(fields, 'text');
    expect(text.match(/(?<= )end=/g)?.length).toBe(name.includes('end=') ? 3 : 1);
    expect(text).toMatch(/^protocol=tcp client=192\.0\.2\.7:51234 frontend=("(?:[^"\\]|\\.)*"|[^" ]+) to=198\.51\.100\.1:80 server=/);
    if (name.length < 100) expect((JSON.parse(render(fields, 'json')) as { frontend: string }).frontend).toBe(name);
    const entry = journalEntry(fields);
    // A line each, all of which have a name.
    expect(
      entry
        .split('\n')
        .slice(0, -1)
        .filter((line) => !/^[A-Z0-9_]+=\P{Cc}*$/u.test(line)),
    ).toEqual([]);
  });
});

describe('a file', () => {
  test('is made for its owner alone, moved away, and begun anew: by itself, and at once when somebody asks', async () => {
    const path = join(directory, 'log');
    const { log } = open({ to: 'file', path });
    log.take([ENDED], NONE);
    await waitUntil(() => readFileSync(path, 'utf8').endsWith('end=fin\n'), { what: 'the line' });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    renameSync(path, `${path}.1`);
    log.reopen();
    log.take([{ ...ENDED, end: 'idle' }], NONE);
    await waitUntil(() => readFileSync(path, 'utf8').endsWith('end=idle\n'), { what: 'the next line' });
    expect(readFileSync(`${path}.1`, 'utf8').match(/\n/g)).toHaveLength(1);
    rmSync(path);
    await waitUntil(() => existsSync(path), { what: 'another file in its place' });
    expect(log.counters).toEqual({ ...nothing, lines: 2 });
  });

  test('takes lines in the first second of the process as well', async () => {
    vi.spyOn(performance, 'now').mockReturnValue(500);
    const path = join(directory, 'log');
    const { log } = open({ to: 'file', path });
    log.take([ENDED], NONE);
    vi.restoreAllMocks();
    expect(log.counters).toEqual({ ...nothing, lines: 1 });
  });

  test('that cannot be had is told once, and again when it can; lines meanwhile are counted', async () => {
    const path = join(directory, 'missing', 'log');
    const { log, said, words } = open({ to: 'file', path });
    expect(said).toEqual([
      ['the connection log cannot be written: its lines are lost', { to: path, reason: expect.stringContaining('ENOENT') as string }],
    ]);
    log.take([ENDED, ENDED], NONE);
    expect(log.counters).toEqual({ ...nothing, lines: 2, lost: 2 });
    mkdirSync(join(directory, 'missing'));
    await waitUntil(() => words().length === 2, { what: 'a word of it' });
    expect(said[1]).toEqual(['the connection log is written again', { to: path, lost: 2 }]);
  });

  test('is none that somebody else has put there, or could: the reason says what is needed', async () => {
    const reasonOf = (path: string) => open({ to: 'file', path }).said[0]?.[1];
    const target = join(directory, 'target');
    writeFileSync(target, 'precious');
    symlinkSync(target, join(directory, 'link'));
    expect(reasonOf(join(directory, 'link'))).toMatchObject({ reason: expect.stringContaining('is a symbolic link') as string });
    linkSync(target, join(directory, 'second'));
    expect(reasonOf(join(directory, 'second'))).toMatchObject({ reason: expect.stringContaining('has other names') as string });
    const open777 = join(directory, 'open');
    mkdirSync(open777);
    chmodSync(open777, 0o777);
    const { said, words, log } = open({ to: 'file', path: join(open777, 'log') });
    expect(said[0]?.[1]).toMatchObject({ reason: expect.stringContaining('chmod o-w') as string });
    chmodSync(open777, 0o700);
    await waitUntil(() => words().length === 2, { what: 'the log in a directory that is good' });
    log.tellStopped(3);
    log.close();
    expect(readFileSync(join(open777, 'log'), 'utf8')).toMatch(/^time=\S+ not_logged=3 end=stopped\n$/);
    expect(readFileSync(target, 'utf8')).toBe('precious');
  });

  test('on a device without room: why, once, and traffic waits for nothing', async () => {
    // A link: /dev/full is no regular file, and is refused as such.
    const { said } = open({ to: 'file', path: '/dev/full' });
    expect(said).toEqual([[expect.any(String), { to: '/dev/full', reason: '/dev/full is no regular file' }]]);
  });
});

describe('datagrams', () => {
  function inbox(name: string) {
    const path = join(directory, name);
    const fd = native().openDatagram(path);
    closers.push(() => closeSync(fd));
    return { path, next: () => native().receiveDatagram(fd).text };
  }

  test('to this host’s syslog (RFC 3164); one that is not there, or does not read, is told of once', () => {
    const { path, next } = inbox('log');
    const { log, said } = open({ to: 'syslog', path });
    log.take([ENDED], NONE);
    expect(next()).toMatch(/^<30>Nov [ 1-3]\d \d\d:\d\d:12 lb4\[\d+\]: protocol=tcp client=.* end=fin$/);
    log.take(
      Array.from({ length: 900 }, () => ENDED),
      NONE,
    );
    expect(log.counters?.lost).toBeGreaterThan(0);
    rmSync(path);
    log.take([ENDED], NONE);
    log.close();
    expect(said).toEqual([[expect.stringContaining('lost'), { to: path, reason: expect.stringContaining('No such file') as string }]]);
  });

  test('to the journal, a field for each value', () => {
    const { path, next } = inbox('journal');
    const { log } = open({ to: 'journal' }, {}, path);
    log.take([{ ...ENDED, frontend: 'a\nLB4_END=killed' }], NONE);
    const lines = next().split('\n');
    expect(lines).toEqual(
      expect.arrayContaining(['PRIORITY=6', 'SYSLOG_IDENTIFIER=lb4', 'LB4_CLIENT=192.0.2.7:51234', 'LB4_TX=512', 'LB4_END=fin']),
    );
    expect(lines).toContain('LB4_FRONTEND=a\\u000aLB4_END=killed');
    expect(lines.filter((line) => line.startsWith('LB4_END='))).toHaveLength(1);
  });

  test('to another host’s syslog (RFC 5424), by UDP', async () => {
    const receiver = createSocket('udp4');
    closers.push(() => receiver.close());
    receiver.bind(0, '127.0.0.1');
    await once(receiver, 'listening');
    const { port } = receiver.address();
    const { log } = open({ to: 'syslog', address: { ip: '127.0.0.1', port, text: `127.0.0.1:${port}` } }, { format: 'json' });
    const came = once(receiver, 'message');
    log.take([ENDED], NONE);
    const [message] = (await came) as [Buffer];
    const [, header, json] = /^(<30>1 2026-11-29T07:45:12\.345Z \S+ lb4 \d+ connection - )(.*)$/.exec(message.toString()) ?? [];
    expect(header).toBeDefined();
    expect(JSON.parse(json ?? '')).toMatchObject({ client: '192.0.2.7:51234', rx: 104_857 });
  });
});

describe('how many', () => {
  test('so many lines a second; how many connections have none is told once, and once a minute, in the log itself as well', () => {
    vi.useFakeTimers({ now: AT, toFake: ['setInterval', 'clearInterval', 'performance', 'Date'] });
    vi.advanceTimersByTime(10_000);
    const path = join(directory, 'log');
    const { log, said } = open({ to: 'file', path }, { rate: 3 });
    log.take(
      Array.from({ length: 10 }, () => ENDED),
      { overRate: 5, noRoom: 1 },
    );
    expect(log.counters).toEqual({ lines: 3, overRate: 12, noRoom: 1, lost: 0 });
    vi.advanceTimersByTime(1000);
    expect(said).toEqual([[expect.stringContaining('more have ended'), { connections: 13 }]]);
    log.take(
      Array.from({ length: 5 }, () => ENDED),
      NONE,
    );
    vi.advanceTimersByTime(50_000);
    expect(said).toHaveLength(1);
    vi.advanceTimersByTime(10_000);
    expect(said[1]?.[1]).toEqual({ connections: 2 });
    log.close();
    const lines = readFileSync(path, 'utf8').trim().split('\n');
    expect(lines.filter((line) => line.includes('not_logged')).map((line) => line.replace(/^time=\S+ /, ''))).toEqual([
      'not_logged=13',
      'not_logged=2',
    ]);
    expect(lines).toHaveLength(8);
  });

  test('off it has no counters, writes nothing, and goes on where another target is asked for', () => {
    const path = join(directory, 'log');
    const { log, options } = open({ to: 'file', path });
    log.take([ENDED], NONE);
    log.apply(undefined);
    log.take([ENDED], NONE);
    expect(log.counters).toEqual({ ...nothing, lines: 1 });
    log.apply({ ...options, target: { to: 'file', path: `${path}2` } });
    log.take([ENDED], NONE);
    log.close();
    expect([path, `${path}2`].map((file) => readFileSync(file, 'utf8').match(/\n/g)?.length)).toEqual([1, 1]);
    expect(new ConnectionLog({} as never).counters).toBeUndefined();
  });
});
