/** What a configuration is read from: a file, also a pipe at the start, never one that would keep a running lb4. */
import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig, parseConfig } from '../../src/config/load.ts';
import { GOOD, linesOf } from '../lab/config-lines.ts';

const directory = mkdtempSync(join(tmpdir(), 'lb4-file-'));
const at = (name: string) => join(directory, name);
const MIB = 2 ** 20;

beforeAll(() => {
  writeFileSync(at('good.toml'), GOOD);
  spawnSync('mkfifo', [at('pipe')]);
});
afterAll(() => rmSync(directory, { recursive: true }));

describe('a reload', () => {
  // Without O_NONBLOCK this would wait for a writer for ever, and the test with it.
  test('refuses a pipe at once', () => {
    expect(linesOf(() => loadConfig(at('pipe'), { reload: true }))).toEqual([`${at('pipe')}: cannot be read: it is not a regular file`]);
  });

  test.each(['/dev/zero', '/dev/stdin', tmpdir()])('refuses %s', (path) => {
    expect(linesOf(() => loadConfig(path, { reload: true }))).toEqual([
      expect.stringMatching(/: cannot be read: (it is not a regular file|.*\(E[A-Z]+\))$/),
    ]);
  });

  test('reads a file', () => {
    expect(loadConfig(at('good.toml'), { reload: true }).config.frontends).toHaveLength(1);
  });
});

describe('a start', () => {
  test('reads a pipe to its end, however it comes', async () => {
    const writer = spawn('sh', ['-c', `{ cat '${at('good.toml')}'; sleep 0.1; echo '[stats]'; } > '${at('pipe')}'`]);
    const { config } = loadConfig(at('pipe'));
    writer.kill();
    expect(config.frontends).toHaveLength(1);
    expect(config.stats?.listen.port).toBe(7000);
  });

  test('refuses what has no end', () => {
    expect(linesOf(() => loadConfig('/dev/zero'))).toEqual(['/dev/zero: cannot be read: it is larger than 4 MiB']);
  });
});

test.each([{ reload: true }, { reload: false }])('4 MiB are the most, reload: $reload', ({ reload }) => {
  const file = at('large.toml');
  writeFileSync(file, `${GOOD}#${'x'.repeat(4 * MIB - GOOD.length - 2)}\n`);
  expect(linesOf(() => loadConfig(file, { reload }))).toEqual([]);
  appendFileSync(file, '\n');
  expect(linesOf(() => loadConfig(file, { reload }))).toEqual([`${file}: cannot be read: it is larger than 4 MiB`]);
});

describe('a file that costs more than a configuration is worth', () => {
  test.each([
    ['tables', '[u]\n', 900_000],
    ['inline tables', 'a={b={c={}}}\n', 250_000],
    ['an array', '1,', 500_000],
  ])('millions of %s are refused before they are parsed', (_, part, times) => {
    const text = `x=[\n${part.repeat(times)}`;
    expect(linesOf(() => parseConfig(text, 'f'))).toEqual([
      'f: it has more keys, tables and values than any configuration needs; allowed: at most 400,000 of = [ { and ,',
    ]);
  });

  test('of thousands of mistakes the first are told, errors before warnings, and how many more there are', () => {
    const warnings = Array.from({ length: 1500 }, (_, i) => `[u${i}]\n`).join('');
    const lines = linesOf(() => parseConfig(`${GOOD}${warnings}`, 'f'));
    expect(lines).toHaveLength(201);
    const errors = Array.from({ length: 5 }, (_, i) => `[frontends.f${i}]\nlisten_addr="nonsense"\nbackend="b"\n`).join('');
    const both = linesOf(() => parseConfig(`${warnings}${errors}[backends.b.servers.s]\naddr="192.0.2.2:80"\n`, 'f'));
    expect(both).toHaveLength(201);
    expect(both.filter((line) => line.includes('listen_addr'))).toHaveLength(5);
    expect(both.at(-1)).toBe('f: warning: … and 1,305 more');
  });
});
