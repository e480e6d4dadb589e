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
  mkdirSync(join(directory, 'dist', 'src', 'bundle'), { recursive: true });
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
});
afterEach(() => rmSync(directory, { recursive: true }));

function lb4(): { status: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string } {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [join(directory, 'bin', 'lb4')], { encoding: 'utf8' });
  return { status, signal, stdout, stderr };
}

test('a reload that comes while modules load does not kill', () => {
  const slow = `process.kill(process.pid, 'SIGHUP'); await new Promise((resolve) => setTimeout(resolve, 50)); console.log('loaded');`;
  writeFileSync(join(directory, 'dist', 'src', 'bundle', 'slow.js'), slow);
  writeFileSync(join(directory, 'dist', 'src', 'bundle', 'main.js'), `import './slow.js';`);
  expect(lb4()).toEqual({ status: 0, signal: null, stdout: 'loaded\n', stderr: '' });
});

test('without a build it says what to do', () => {
  expect(lb4()).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(/^lb4: not built yet; run `make build` \(/) });
});

test.each([
  ['--nofile', [6, 10, 11, 16, 17, 18, 20, 24, 32, 40, 48, 64, 100, 159]],
  ['--as', [1_000_000_000, 4_000_000_000]],
])('under a %s that is too low for Node or for lb4: one line that says how to raise it, and status 71', (limit, values) => {
  writeFileSync(join(directory, 'dist', 'src', 'bundle', 'main.js'), `console.log('runs');`);
  for (const value of values) {
    const args = [`${limit}=${value}`, join(directory, 'bin', 'lb4'), 'check', 'x.toml'];
    const { status, stdout, stderr } = spawnSync('prlimit', args, { encoding: 'utf8' });
    expect({ status, stdout, stderr }, String(value)).toEqual({
      status: 71,
      stdout: '',
      stderr: expect.stringMatching(/^lb4: needs .*ulimit -H[nv].*Limit(NOFILE|AS)=\w+ in the systemd unit\n$/) as string,
    });
  }
});

test('arguments and the exit status pass through', () => {
  writeFileSync(join(directory, 'dist', 'src', 'bundle', 'main.js'), 'console.log(process.argv.slice(2)); process.exitCode = 5;');
  const { status, stdout } = spawnSync(join(directory, 'bin', 'lb4'), ['a b', '*', ''], { encoding: 'utf8' });
  expect({ status, stdout }).toEqual({ status: 5, stdout: "[ 'a b', '*', '' ]\n" });
});
