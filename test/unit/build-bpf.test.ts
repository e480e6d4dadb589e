/** What scripts/build-bpf.sh does where there is no clang: nothing silently. */
import { execFile, execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { ROOT } from '../lab/lab.ts';

const SOURCES = ['native/bpf/lb4.bpf.c', 'native/bpf/server.bpf.c'];
const OBJECTS = SOURCES.map((source) => source.replace(/c$/, 'o'));
const TOOLS = ['sh', 'dirname', 'find', 'rm'];

/** A checkout of the kernel's programs alone, and beside it a path on which no compiler is. */
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), `lb4-${process.pid}-bpf-`));
  for (const name of ['native/bpf', 'scripts', 'bin']) mkdirSync(join(directory, name), { recursive: true });
  for (const name of [...SOURCES, 'native/layout.h', 'scripts/build-bpf.sh']) cpSync(join(ROOT, name), join(directory, name));
  for (const name of TOOLS) symlinkSync(execFileSync('which', [name], { encoding: 'utf8' }).trim(), join(directory, 'bin', name));
  return () => rmSync(directory, { recursive: true });
});

/** Leaves objects there, of the sources; or the last of them is of earlier ones. */
function compiled(when: 'since' | 'before'): void {
  for (const name of [...SOURCES, 'native/layout.h']) utimesSync(join(directory, name), 1000, 1000);
  for (const object of OBJECTS) {
    writeFileSync(join(directory, object), '');
    const time = when === 'before' && object === OBJECTS.at(-1) ? 500 : 2000;
    utimesSync(join(directory, object), time, time);
  }
}

/** `there`: how many objects are, afterwards. */
function build(options: string[] = [], env: Record<string, string> = {}): Promise<{ code: number; said: string; there: number }> {
  return new Promise((resolve) => {
    const PATH = join(directory, 'bin');
    execFile(join(directory, 'scripts/build-bpf.sh'), options, { env: { PATH, ...env } }, (error, _stdout, said) =>
      resolve({ code: Number(error?.code ?? 0), said, there: OBJECTS.filter((object) => existsSync(join(directory, object))).length }),
    );
  });
}

test('objects of these sources stay, and are good enough for a package', async () => {
  compiled('since');
  expect(await build(['--package'])).toEqual({ code: 0, said: '', there: 2 });
});

test('where one is of other sources they go, and lb4 is built without, which is told', async () => {
  compiled('before');
  expect(await build()).toEqual({
    code: 0,
    said: expect.stringMatching(/^without the fast path .*\(packages clang, libbpf-dev\)\n$/),
    there: 0,
  });
});

test('no package without it, unless that is wanted', async () => {
  expect(readFileSync(join(ROOT, 'scripts/package.sh'), 'utf8')).toMatch(/^scripts\/build-bpf\.sh --package$/m);
  expect(await build(['--package'])).toEqual({ code: 1, said: expect.stringContaining('LB4_WITHOUT_FAST_PATH=1'), there: 0 });
  expect(await build(['--package'], { LB4_WITHOUT_FAST_PATH: '1' })).toMatchObject({ code: 0, there: 0 });
});
