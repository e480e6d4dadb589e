/** Directories that an lb4 of another network namespace takes away as soon as it finds them empty. */
import { mkdtempSync, readdirSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { inPrivate } from '../../src/io/private-directory.ts';

const home = mkdtempSync(join(tmpdir(), 'lb4-private-'));
const directory = join(home, 'lb4');
afterAll(() => rmSync(home, { recursive: true }));

test('one that went in between is made anew, with what was to be done in it', () => {
  let left = 3;
  inPrivate(directory, () => {
    if (left-- > 0) rmdirSync(directory);
    writeFileSync(join(directory, 'note'), '');
  });
  expect([readdirSync(directory), statSync(directory).mode & 0o777]).toEqual([['note'], 0o700]);
});

test('what fails otherwise fails at once, and where it never stays that is told', () => {
  let times = 0;
  const failing = (code: string) => () => {
    times++;
    throw Object.assign(new Error(code), { code });
  };
  expect(() => inPrivate(directory, failing('ENOSPC'))).toThrow('ENOSPC');
  expect(times).toBe(1);
  expect(() => inPrivate(directory, failing('ENOENT'))).toThrow('ENOENT');
});
