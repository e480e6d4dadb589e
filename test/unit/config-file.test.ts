/** What a configuration is read from: a file, also a pipe at the start, never one that would keep a running lb4. */
import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { GOOD, linesOf } from './config-lines.ts';

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
    expect(linesOf(() => loadConfig('/dev/zero'))).toEqual(['/dev/zero: cannot be read: it is larger than 16 MiB']);
  });
});

test.each([{ reload: true }, { reload: false }])('16 MiB are the most, reload: $reload', ({ reload }) => {
  const file = at('large.toml');
  writeFileSync(file, `${GOOD}#${'x'.repeat(16 * MIB - GOOD.length - 2)}\n`);
  expect(linesOf(() => loadConfig(file, { reload }))).toEqual([]);
  appendFileSync(file, '\n');
  expect(linesOf(() => loadConfig(file, { reload }))).toEqual([`${file}: cannot be read: it is larger than 16 MiB`]);
});
