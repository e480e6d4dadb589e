/** bin/lb4 itself, before it has loaded anything. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

let directory = '';

/** A copy, with a package of its own around it. */
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lb4-bin-'));
  cpSync(fileURLToPath(new URL('../../bin/lb4', import.meta.url)), join(directory, 'bin', 'lb4'));
  mkdirSync(join(directory, 'dist', 'src'), { recursive: true });
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
});
afterEach(() => rmSync(directory, { recursive: true }));

function lb4(): { status: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string } {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [join(directory, 'bin', 'lb4')], { encoding: 'utf8' });
  return { status, signal, stdout, stderr };
}

test('a reload that comes while modules load does not kill', () => {
  const slow = `process.kill(process.pid, 'SIGHUP'); await new Promise((resolve) => setTimeout(resolve, 50)); console.log('loaded');`;
  writeFileSync(join(directory, 'dist', 'src', 'slow.js'), slow);
  writeFileSync(join(directory, 'dist', 'src', 'main.js'), `import './slow.js';`);
  expect(lb4()).toEqual({ status: 0, signal: null, stdout: 'loaded\n', stderr: '' });
});

test('without a build it says what to do', () => {
  expect(lb4()).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(/^lb4: not built yet; run `make build` \(/) });
});
