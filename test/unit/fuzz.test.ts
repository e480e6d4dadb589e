/** The native side over hostile packets, in short: what was found once, and a little more (test/fuzz/README.md). */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { ROOT } from '../lab/lab.ts';

const FUZZ = join(ROOT, 'test/fuzz');
const targets = readdirSync(FUZZ).flatMap((name) => /^(\w+)\.cc?$/.exec(name)?.[1] ?? []);

test('each target has a corpus, and a row in the README', () => {
  expect(targets.toSorted()).toEqual(readdirSync(join(FUZZ, 'corpus')).toSorted());
  const rows = [...readFileSync(join(FUZZ, 'README.md'), 'utf8').matchAll(/^\| `(\w+)\.cc?` \|/gm)];
  expect(rows.map(([, name]) => name).toSorted()).toEqual(targets.toSorted());
});

test('a second of each finds no fault', { timeout: 300_000 }, async () => {
  const { stdout } = await promisify(execFile)(join(ROOT, 'scripts/fuzz.sh'), ['1']);
  const clean = [...stdout.matchAll(/^(\w+): (\d+) inputs, no fault$/gm)];
  expect(clean.map(([, name]) => name).toSorted()).toEqual(targets.toSorted());
  for (const [, name, inputs] of clean) expect(Number(inputs), name).toBeGreaterThan(readdirSync(join(FUZZ, 'corpus', name)).length);
});
