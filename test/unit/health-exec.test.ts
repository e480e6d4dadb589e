import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import type { Target } from '../../src/health/check.ts';
import { checkFor } from '../../src/health/check-for.ts';
import { LastLine } from '../../src/health/last-line.ts';
import { beBusy, checker, closers, handles, sleep, target } from '../lab/health-lab.ts';
import { PATIENCE } from '../lab/wait.ts';

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'lb4-exec-'));
  closers.push(() => rmSync(path, { recursive: true }));
  return path;
}

/** A real script in a directory of its own. */
function script(body: string, mode = 0o755): string {
  const path = join(directory(), 'check');
  writeFileSync(path, `#!/bin/sh\n${body}\n`, { mode });
  return path;
}

const exec = (...command: string[]) => ({ type: 'exec', command, env: { LB4_BACKEND: 'web', LB4_SERVER: 'one' } }) as const;

function run(command: string[], more: Partial<Target> = {}, signal = new AbortController().signal) {
  return checkFor(target(8080, { check: exec(...command), timeoutMs: 10_000, ...more })).run(signal);
}

/** Whether a process lives; a zombie counts as alive. */
const isAlive = (pid: number) => existsSync(`/proc/${pid}`);

const zombies = () =>
  execFileSync('ps', ['--ppid', String(process.pid), '-o', 'stat='], { encoding: 'utf8' })
    .split('\n')
    .filter((stat) => stat.startsWith('Z'));

/** A script that writes its own process id and that of a child which hangs, then does `more`; and how to read them. */
function withChild(more: string) {
  const file = join(directory(), 'pids');
  const path = script(`sleep 300 & echo $$ $! > ${file}.new; mv ${file}.new ${file}; ${more}`);
  const pids = async () => {
    await vi.waitFor(() => expect(existsSync(file)).toBe(true));
    return readFileSync(file, 'utf8').trim().split(' ').map(Number);
  };
  return { path, pids, hasBegun: () => existsSync(file) };
}

const expectGone = (pids: number[]) => vi.waitFor(() => expect(pids.filter(isAliveAndNoOrphanedZombie)).toEqual([]));

/** A killed grandchild belongs to init, which may be slow to reap it, or absent: a zombie of init's is not ours. */
function isAliveAndNoOrphanedZombie(pid: number): boolean {
  if (!isAlive(pid)) return false;
  try {
    const [state, parent] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    return state !== 'Z' || Number(parent) === process.pid;
  } catch {
    return false;
  }
}

describe('a command check', () => {
  test('passes on exit 0, fails on another with the last line of what was said', async () => {
    expect(await run([script('exit 0')])).toEqual({ outcome: 'pass', reason: 'exit 0' });
    expect(await run([script('echo one; echo two; exit 3')])).toEqual({ outcome: 'fail', reason: 'exit 3: two' });
    expect(await run([script('echo out; echo err >&2; echo; exit 1')])).toEqual({ outcome: 'fail', reason: 'exit 1: err' });
  });

  test('passes where the command ended in time, though lb4 itself had no time to look until it was over', async () => {
    const checked = run(['/bin/true'], { timeoutMs: 100 });
    do beBusy(150);
    while (zombies().length === 0);
    expect(await checked).toEqual({ outcome: 'pass', reason: 'exit 0' });
  });

  test('keeps 200 characters of a flood', async () => {
    const { reason } = await run([script('head -c 3000000 /dev/zero | tr "\\0" x; exit 1')]);
    expect(reason).toBe(`exit 1: ${'x'.repeat(200)}`);
  });

  test('fails when a signal kills it', async () => {
    expect(await run([script('kill -TERM $$')])).toEqual({ outcome: 'fail', reason: 'killed by SIGTERM' });
  });

  test('knows PATH, the server and nothing else; no shell reads its arguments', async () => {
    process.env['LB4_TEST_SECRET'] = 'x';
    closers.push(() => delete process.env['LB4_TEST_SECRET']);
    const out = join(directory(), 'env');
    await run(
      [process.execPath, '-e', `require('fs').writeFileSync('${out}', JSON.stringify([process.env, process.argv[1]]))`, '$HOME;*'],
      {
        timeoutMs: 10_000,
      },
    );
    expect(JSON.parse(readFileSync(out, 'utf8'))).toEqual([
      {
        PATH: process.env['PATH'],
        LB4_SERVER_ADDR: '127.0.0.1',
        LB4_SERVER_PORT: '8080',
        LB4_BACKEND: 'web',
        LB4_SERVER: 'one',
      },
      '$HOME;*',
    ]);
  });

  test('has an empty standard input and a process group of its own', async () => {
    expect((await run([script('test "$(ps -o pgid= -p $$ | tr -d " ")" = $$')])).outcome).toBe('pass');
    expect((await run([script('! read line')])).outcome).toBe('pass');
  });

  test('knows nothing when the command cannot be run', async () => {
    expect(await run(['/no/such/check'])).toEqual({ outcome: 'unknown', reason: 'spawn /no/such/check ENOENT: there is no such command' });
    const closed = script('exit 0', 0o644);
    expect(await run([closed])).toEqual({ outcome: 'unknown', reason: `spawn ${closed} EACCES: the command may not be run` });
    expect((await run(['/tmp'])).outcome).toBe('unknown');
    expect((await run(['true\0'])).outcome).toBe('unknown');
  });

  test('a command that could not be run is told once and changes nothing', async () => {
    const { health, warn, changes } = checker();
    health.set([target(1, { intervalMs: 5, check: exec('/no/such/check') })]);
    await vi.waitFor(() => expect(warn).toHaveBeenCalled());
    await sleep(100);
    expect(changes).toEqual([]);
    expect(warn.mock.calls).toEqual([
      [
        { server: 'a', address: '127.0.0.1:1', reason: 'spawn /no/such/check ENOENT: there is no such command' },
        'health check could not be made',
      ],
    ]);
  });

  test('that is late is killed with all its children', async () => {
    const { path, pids, hasBegun } = withChild('trap "" TERM; wait');
    // On a very busy machine it had not begun.
    do expect(await run([path], { timeoutMs: 1000 })).toEqual({ outcome: 'fail', reason: 'still running after 1000 ms' });
    while (!hasBegun());
    await expectGone(await pids());
    expect(zombies()).toEqual([]);
  });

  test('that exits leaves no child behind, and need not wait for one that holds its output', async () => {
    const { path, pids } = withChild('exit 0');
    expect((await run([path])).outcome).toBe('pass');
    await expectGone(await pids());
  });

  test('whose daemon holds the output is judged by its exit all the same', async () => {
    const file = join(directory(), 'pid');
    const path = script(`setsid sh -c 'echo $$ > ${file}; exec sleep 300' & while ! test -s ${file}; do sleep 0.01; done; exit 4`);
    const result = await run([path], { timeoutMs: 3000 });
    process.kill(Number(readFileSync(file, 'utf8')), 'SIGKILL');
    expect(result).toEqual({ outcome: 'fail', reason: 'exit 4' });
  });

  test('leaves no process, zombie or handle when the checker stops', async () => {
    const before = handles();
    const { path, pids } = withChild('wait');
    const { health, changes } = checker();
    health.set([target(1, { check: exec(path), timeoutMs: 60_000 })]);
    const both = await pids();
    expect(both.every(isAlive)).toBe(true);
    health.stop();
    // Before this process does anything else, which may be to end.
    const end = performance.now() + PATIENCE;
    while (both.slice(1).some(isAliveAndNoOrphanedZombie) && performance.now() < end)
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    expect(both.slice(1).filter(isAliveAndNoOrphanedZombie)).toEqual([]);
    await expectGone(both);
    // Fewer: an earlier test's may go meanwhile.
    await vi.waitFor(() => expect(handles().length).toBeLessThanOrEqual(before.length));
    expect(zombies()).toEqual([]);
    expect(changes).toEqual([]);
    expect((await run([path], {}, AbortSignal.abort())).reason).toBe('stopped');
  });
});

describe('the last line', () => {
  test.each([
    [['a\nb\n'], 'b'],
    [['a\nb'], 'b'],
    [['a', 'b\n', '\n', '  \n'], 'ab'],
    [['disk full\n', '\u001b[31mred\u0007\n'], '[31mred'],
    [[], ''],
  ])('of %j is %j', (pieces, line) => {
    const last = new LastLine();
    for (const piece of pieces) last.add(piece);
    expect(last.text).toBe(line);
  });
});
