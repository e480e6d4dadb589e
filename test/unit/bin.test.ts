/** bin/lb4 itself, before it has loaded anything, and bin/lb4-service in front of it. */
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { PATIENCE } from '../lab/wait.ts';

let directory = '';

/** A copy, with a package of its own around it. */
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lb4-bin-'));
  cpSync(fileURLToPath(new URL('../../bin/lb4', import.meta.url)), join(directory, 'bin', 'lb4'));
  mkdirSync(join(directory, 'dist', 'bundle', 'main'), { recursive: true });
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
});
afterEach(() => rmSync(directory, { recursive: true }));

function lb4(): { status: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string } {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [join(directory, 'bin', 'lb4')], { encoding: 'utf8' });
  return { status, signal, stdout, stderr };
}

test('a reload that comes while modules load does not kill', () => {
  const slow = `process.kill(process.pid, 'SIGHUP'); await new Promise((resolve) => setTimeout(resolve, 50)); console.log('loaded');`;
  writeFileSync(join(directory, 'dist', 'bundle', 'main', 'slow.js'), slow);
  writeFileSync(join(directory, 'dist', 'bundle', 'main', 'main.js'), `import './slow.js';`);
  expect(lb4()).toEqual({ status: 0, signal: null, stdout: 'loaded\n', stderr: '' });
});

test('without a build it says what to do', () => {
  expect(lb4()).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(/^lb4: not built yet; run `make build` \(/) });
});

test.each([
  ['--nofile', [6, 10, 11, 16, 17, 18, 20, 24, 32, 40, 48, 64, 100, 159]],
  ['--as', [1_000_000_000, 4_000_000_000]],
])('under a %s that is too low for Node or for lb4: one line that says how to raise it, and status 71', (limit, values) => {
  writeFileSync(join(directory, 'dist', 'bundle', 'main', 'main.js'), `console.log('runs');`);
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
  writeFileSync(join(directory, 'dist', 'bundle', 'main', 'main.js'), 'console.log(process.argv.slice(2)); process.exitCode = 5;');
  const { status, stdout } = spawnSync(join(directory, 'bin', 'lb4'), ['a b', '*', ''], { encoding: 'utf8' });
  expect({ status, stdout }).toEqual({ status: 5, stdout: "[ 'a b', '*', '' ]\n" });
});

/** lb4-service with an lb4 that says what happens to it, and ends when it is told how. */
function service(...args: string[]) {
  cpSync(fileURLToPath(new URL('../../bin/lb4-service', import.meta.url)), join(directory, 'bin', 'lb4-service'));
  // Not a shell: a shell's children cannot trap what it ignores for them (SIGINT, SIGQUIT); Node's can.
  const fake = `#!${process.execPath}
    const say = (text) => console.log(process.pid, text);
    for (const signal of ['TERM', 'INT', 'HUP', 'QUIT']) process.on('SIG' + signal, () => say(signal));
    process.on('SIGUSR2', () => process.kill(Number(process.env.LB4_KEEPER), 'SIGUSR1'));
    process.on('SIGABRT', () => process.exit(5));
    process.on('SIGALRM', () => process.exit(0));
    say(['starts', ...process.argv.slice(2)].join(' '));
    setTimeout(() => process.exit(9), 300_000);`;
  rmSync(join(directory, 'bin', 'lb4'));
  writeFileSync(join(directory, 'bin', 'lb4'), fake, { mode: 0o755 });
  const child = spawn(join(directory, 'bin', 'lb4-service'), args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => (said += piece));
  const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  const found = (line: string, strangers: readonly number[]) =>
    said.split('\n').find((text) => text.endsWith(` ${line}`) && !strangers.includes(Number.parseInt(text, 10)));
  /** Waits for a line of none of `strangers`, and returns the pid in it. What may come too early is asked for again. */
  const heard = async (line: string, strangers: readonly number[] = [], again = () => {}): Promise<number> => {
    const ask = () => {
      if (found(line, strangers) === undefined) again();
      expect(found(line, strangers), `${line} in ${said}`).toBeDefined();
    };
    await vi.waitFor(ask, { timeout: PATIENCE, interval: 50 });
    return Number.parseInt(found(line, strangers) ?? '', 10);
  };
  return { child, ended, heard };
}

test('lb4-service passes signals on, and ends with the status of its lb4', async () => {
  const { child, ended, heard } = service('--passthrough', 'a b');
  const pid = await heard('starts --passthrough a b');
  for (const signal of ['HUP', 'INT', 'TERM']) {
    child.kill(`SIG${signal}` as NodeJS.Signals);
    expect(await heard(signal)).toBe(pid);
  }
  process.kill(pid, 'SIGABRT');
  expect(await ended).toBe(5);
});

test('at a restart it ends before its lb4 does', async () => {
  const { child, ended, heard } = service('--dsr');
  const pid = await heard('starts --dsr');
  child.kill('SIGQUIT');
  expect(await ended).toBe(0);
  expect(await heard('QUIT')).toBe(pid);
  process.kill(pid, 'SIGABRT');
});

test("the watchdog's signal kills an lb4 that hangs", async () => {
  const { child, ended, heard } = service();
  const pid = await heard('starts');
  process.kill(pid, 'SIGSTOP');
  child.kill('SIGABRT');
  expect(await ended).toBe(134);
  await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow('ESRCH'));
});

test('at an upgrade it goes by the lb4 that took over, once that serves, and ends when all have; a successor that fails changes nothing', async () => {
  const { child, ended, heard } = service('--dsr');
  const first = await heard('starts --dsr');
  child.kill('SIGUSR2');
  const failing = await heard('starts --dsr --takeover');
  process.kill(failing, 'SIGABRT');
  await vi.waitFor(() => expect(() => process.kill(failing, 0)).toThrow('ESRCH'));
  child.kill('SIGHUP');
  expect(await heard('HUP')).toBe(first);
  child.kill('SIGUSR2');
  const second = await heard('starts --dsr --takeover', [failing]);
  process.kill(second, 'SIGUSR2');
  expect(await heard('HUP', [first], () => child.kill('SIGHUP'))).toBe(second);
  child.kill('SIGTERM');
  expect(await heard('TERM')).toBe(second);
  process.kill(second, 'SIGABRT');
  await vi.waitFor(() => expect(() => process.kill(second, 0)).toThrow('ESRCH'));
  expect(child.exitCode).toBeNull();
  process.kill(first, 'SIGALRM');
  expect(await ended).toBe(5);
});

/** An lb4 whose event loop is held up while its keeper says SIGQUIT and goes, at the moment when it looks for its keeper. */
const HELD_UP = `
import { Keeper } from '${new URL('../../dist/src/cli/systemd.js', import.meta.url).href}';
process.on('SIGQUIT', () => console.log('QUIT'));
Keeper.find().whenGone(() => {
  console.log('gone');
  process.exit();
});
console.log('ready');
// After the loop has looked for signals, before it runs timers.
const holdUp = () => {
  for (const until = performance.now() + 600; performance.now() < until; );
};
setTimeout(() => setImmediate(holdUp), 200);
setInterval(() => {}, 1000);
`;

test('the SIGQUIT of a keeper that has gone is heard before that: they are one restart, not two', async () => {
  writeFileSync(join(directory, 'held-up.mjs'), HELD_UP);
  const keeper = `LB4_KEEPER=$$ "$0" held-up.mjs & read -r _; sleep 0.3; kill -s QUIT $!`;
  const child = spawn('bash', ['-c', keeper, process.execPath], { cwd: directory });
  const lines: string[] = [];
  createInterface(child.stdout).on('line', (line) => {
    lines.push(line);
    if (line === 'ready') child.stdin.write('\n');
  });
  await vi.waitFor(() => expect(lines).toContain('gone'));
  expect(lines).toEqual(['ready', 'QUIT', 'gone']);
});
