/** The first command of a newcomer, where nothing is prepared. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ROOT } from '../lab/lab.ts';

/** demo.sh: this host cannot have such a root. */
const LACKING = 75;

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Its process and all below it end with this one, and every mount and network namespace with them. */
const ALONE = ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
const running = new Set<() => void>();
afterAll(() => running.forEach((end) => end()));

function run(script: string, ...args: string[]): Promise<Ended> {
  const [program = '', ...rest] = [...ALONE, 'sh', join(ROOT, 'test/bare', script), ...args];
  const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
  const end = () => void child.kill('SIGKILL');
  running.add(end);
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (piece: string) => (stdout += piece));
  child.stderr.setEncoding('utf8').on('data', (piece: string) => (stderr += piece));
  return new Promise((resolve, reject) => {
    child.once('error', reject).once('close', (code) => {
      running.delete(end);
      resolve({ code, stdout, stderr });
    });
  });
}

test('make demo on a Debian on which nothing is installed but make, Node.js and npm', async () => {
  let ended = await run('demo.sh');
  const isDebian = ended.code !== LACKING;
  if (!isDebian) {
    process.stdout.write(`bare: ${ended.stdout.trim().split('\n').at(-1)}; so on this host, with every wanted command hidden\n`);
    ended = await run('hidden.sh');
  } else process.stdout.write('bare: in a Debian made by debootstrap\n');
  const { code, stdout, stderr } = ended;
  const all = `${stdout}\n${stderr}`;
  expect(code, all).toBe(0);
  // A line a step, and then the demo's own first.
  const lines = stdout.split('\n');
  const steps = lines.slice(
    0,
    lines.findIndex((line) => line.startsWith('lb4 in passthrough')),
  );
  expect(steps.length, all).toBeGreaterThan(3);
  for (const line of steps) expect(line).toMatch(/^\S+==>\S+ (asking for|installing|building) /);
  expect(stdout).toMatch(/\d+ requests, each on a connection of its own; \d{3,} answered/);
  expect(stdout).toMatch(/fast path: the kernel forwards|no fast path|without the fast path/);
  expect(stdout).toContain('lb4 took its firewall rules back and ended');
  expect(stderr).toBe('');
  if (isDebian) expect(stdout).toMatch(/==>\S+ installing Debian packages:.* haproxy.*\n(.*\n)*asked again for what the tests need\n$/);
  // All its file systems have this name.
  expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain('lb4-bare');
});
