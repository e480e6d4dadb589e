/** Where the table that outlives lb4 is put. */
import { chmodSync, closeSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { removeKeptExcept } from '../../src/io/kept-abandoned.ts';
import { createKept, hasKept, readKept, writeKept } from '../../src/io/kept-files.ts';
import { directoryIn, rootFor } from '../../src/io/kept-places.ts';

/** In place of /run and /dev/shm. */
const ROOTS = vi.hoisted((): string[] => []);
vi.mock(import('../../src/io/kept-places.ts'), async (original) => ({
  ...(await original()),
  ROOTS: ROOTS as unknown as readonly ['/run', '/dev/shm'],
  tmpfs: () => ROOTS,
}));

const MB = 1e6;
const place = (root: string, free: number) => ({ root, free: free * MB });

test.each([
  ['in the first place with room', [place('/run', 400), place('/dev/shm', 400)], '/run'],
  ['in the next one where it would take half of the first', [place('/run', 98), place('/dev/shm', 400)], '/dev/shm'],
])('%s', (_, places, root) => {
  expect(rootFor(70 * MB, places, 1000 * MB)).toBe(root);
});

test.each([
  ['without any tmpfs', [], 1000, 'there is no tmpfs at /run or /dev/shm'],
  [
    'where all are small',
    [place('/run', 98), place('/dev/shm', 64)],
    1000,
    'the table takes 70 MB, half or more of what is free (/run 98 MB, /dev/shm 64 MB)',
  ],
  [
    'in a small control group',
    [place('/run', 1000)],
    128,
    'the table takes 70 MB, half or more of the 128 MB that this control group may have',
  ],
])('nowhere %s', (_, places, limit, reason) => {
  expect(() => rootFor(70 * MB, places, limit * MB)).toThrow(reason);
});

test('maps of the kernel count to what a control group may have, and to no tmpfs', () => {
  const places = [place('/run', 100)];
  expect(rootFor(10 * MB, places, 141 * MB, 60 * MB)).toBe('/run');
  const reason = 'the table takes 10 MB and 60 MB in maps of the kernel, half or more of the 140 MB that this control group may have';
  expect(() => rootFor(10 * MB, places, 140 * MB, 60 * MB)).toThrow(reason);
});

describe('where somebody else made a link of the directory', () => {
  let directory: string;
  let theirs: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'lb4-kept-'));
    theirs = join(directory, 'theirs');
    const [foreign, own] = ['shared', 'run'].map((name) => join(directory, name));
    for (const path of [theirs, foreign, own]) mkdirSync(path);
    // As in /dev/shm, where anybody may be the first to make it.
    mkdirSync(join(foreign, 'lb4'), 0o777);
    symlinkSync(theirs, directoryIn(foreign));
    writeFileSync(join(theirs, 'table'), 'theirs');
    ROOTS.splice(0, ROOTS.length, foreign, own);
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  test('what it leads to counts for nothing', () => {
    expect([hasKept(), readKept('table')]).toEqual([false, undefined]);
  });

  test('no file behind it is removed when a new one is made', () => {
    try {
      closeSync(createKept('table', 4096));
    } catch {
      // The link is in the way, or there is too little room here: both leave what is not ours alone.
    }
    expect(existsSync(join(theirs, 'table'))).toBe(true);
  });

  test('nothing in it is held to be left by namespaces that are gone', () => {
    const [foreign, own] = ROOTS;
    for (const root of [foreign, own]) mkdirSync(join(root, 'lb4/kept-1'), { recursive: true });
    chmodSync(join(own, 'lb4'), 0o700);
    for (const root of [foreign, own]) removeKeptExcept(root, new Set());
    expect([foreign, own].map((root) => existsSync(join(root, 'lb4/kept-1')))).toEqual([true, false]);
    rmSync(join(own, 'lb4'), { recursive: true });
    symlinkSync(join(foreign, 'lb4'), join(own, 'lb4'));
    removeKeptExcept(own, new Set());
    expect(existsSync(join(foreign, 'lb4/kept-1'))).toBe(true);
  });

  test('a note goes where another place is ours', () => {
    const own = ROOTS[1];
    for (const path of [join(own, 'lb4'), directoryIn(own)]) mkdirSync(path, 0o700);
    writeKept('note', 'text');
    expect([readKept('note'), readdirSync(directoryIn(own)), readdirSync(theirs), hasKept()]).toEqual(['text', ['note'], ['table'], true]);
  });
});
