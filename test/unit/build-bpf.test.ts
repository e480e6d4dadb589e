/** What scripts/build-bpf.sh does where there is no clang: nothing silently. */
import { execFile, execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { ROOT } from '../lab/lab.ts';

const SOURCE = 'native/bpf/lb4.bpf.c';
const OBJECT = 'native/bpf/lb4.bpf.o';
const TOOLS = ['sh', 'dirname', 'find', 'rm'];

/** A checkout of the fast path alone, and beside it a path on which no compiler is. */
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), `lb4-${process.pid}-bpf-`));
  for (const name of ['native/bpf', 'scripts', 'bin']) mkdirSync(join(directory, name), { recursive: true });
  for (const name of [SOURCE, 'native/layout.h', 'scripts/build-bpf.sh']) cpSync(join(ROOT, name), join(directory, name));
  for (const name of TOOLS) symlinkSync(execFileSync('which', [name], { encoding: 'utf8' }).trim(), join(directory, 'bin', name));
  return () => rmSync(directory, { recursive: true });
});

/** Leaves an object there, of the sources or of earlier ones. */
function compiled(when: 'since' | 'before'): void {
  writeFileSync(join(directory, OBJECT), '');
  for (const name of [SOURCE, 'native/layout.h']) utimesSync(join(directory, name), 1000, 1000);
  const time = when === 'since' ? 2000 : 500;
  utimesSync(join(directory, OBJECT), time, time);
}

function build(options: string[] = [], env: Record<string, string> = {}): Promise<{ code: number; said: string; isThere: boolean }> {
  return new Promise((resolve) => {
    const PATH = join(directory, 'bin');
    execFile(join(directory, 'scripts/build-bpf.sh'), options, { env: { PATH, ...env } }, (error, _stdout, said) =>
      resolve({ code: Number(error?.code ?? 0), said, isThere: existsSync(join(directory, OBJECT)) }),
    );
  });
}

test('an object of these sources stays, and is good enough for a package', async () => {
  compiled('since');
  expect(await build(['--package'])).toEqual({ code: 0, said: '', isThere: true });
});

test('one of other sources goes, and lb4 is built without, which is told', async () => {
  compiled('before');
  expect(await build()).toEqual({
    code: 0,
    said: expect.stringMatching(/^without the fast path .*\(packages clang, libbpf-dev\)\n$/),
    isThere: false,
  });
});

test('no package without it, unless that is wanted', async () => {
  expect(readFileSync(join(ROOT, 'scripts/package.sh'), 'utf8')).toMatch(/^scripts\/build-bpf\.sh --package$/m);
  expect(await build(['--package'])).toEqual({ code: 1, said: expect.stringContaining('LB4_WITHOUT_FAST_PATH=1'), isThere: false });
  expect(await build(['--package'], { LB4_WITHOUT_FAST_PATH: '1' })).toMatchObject({ code: 0, isThere: false });
});
