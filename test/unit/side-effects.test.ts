/** What lb4 only does beside a change (telling, starting a program) may fail without taking the change with it, or lb4. */

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { CheckResult } from '../../src/health/check.ts';
import { type Change, HealthChecker } from '../../src/health/checker.ts';
import { runRules } from '../../src/rules/run.ts';
import { target, withoutDescriptors } from '../lab/health-lab.ts';
import { waitUntil } from '../lab/wait.ts';

test('a firewall script that cannot be started rejects, and does not end lb4 by an error that nobody catches', async () => {
  await expect(withoutDescriptors(() => runRules('exit 0', 'install'))).rejects.toThrow(/EMFILE/);
  expect(await runRules('exit 0', 'install')).toMatchObject({ complete: true });
});

test('a firewall script that hangs is killed with all that it has started, and rejects', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'lb4-hang-'));
  const file = join(directory, 'pid');
  const script = `sleep 1000 & echo $! >${file}.new; mv ${file}.new ${file}; wait`;
  try {
    await expect(runRules(script, 'install', { limitMs: 2000 })).rejects.toThrow(/^rules: install: still running after 2 s, and killed/);
    // On a very busy machine it had not begun.
    const pid = existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
    await waitUntil(() => pid === undefined || !isRunning(pid), { what: 'what it has started to end' });
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('what a firewall script warns of is handed on, though it succeeds', async () => {
  const { warnings, complete } = await runRules('echo "lb4 rules: warning: nft: no" >&2', 'install');
  expect({ warnings, complete }).toEqual({ warnings: ['nft: no'], complete: true });
});

test('one that ends while what it has left behind holds its output is killed, too', async () => {
  await expect(runRules('sleep 1000 & exit 0', 'install', { limitMs: 300 })).rejects.toThrow(/still running/);
});

/** A zombie has no command line left. */
function isRunning(pid: string): boolean {
  return existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== '';
}

/** A checker of one server whose checks end as told, the last one for ever. */
function check(results: readonly (() => CheckResult)[], onChange: (change: Change) => void): HealthChecker {
  let n = 0;
  const run = async () => results[Math.min(n++, results.length - 1)]();
  return new HealthChecker({ onChange, check: () => ({ run }) });
}

const pass = (): CheckResult => ({ outcome: 'pass', reason: 'fine' });
const fail = (): CheckResult => ({ outcome: 'fail', reason: 'dead' });
const throws = (): never => {
  throw new Error('no memory');
};

test('a check that throws says nothing about the server, and the next one comes', async () => {
  const states: string[] = [];
  const checker = check([throws, throws, fail], ({ to }) => states.push(to));
  checker.set([target(1, { fall: 1 })]);
  await waitUntil(() => states.includes('down'), { what: 'the server to be down' });
  expect(states).toEqual(['down']);
  checker.stop();
});

test('whoever is told of a change may throw: checks go on, and the next change is told', async () => {
  const states: string[] = [];
  const checker = check([pass, fail, pass], ({ to }) => {
    states.push(to);
    throw new Error('disk full');
  });
  checker.set([target(1, { fall: 1, rise: 1 })]);
  await waitUntil(() => states.length === 3, { what: 'three changes' });
  expect(states).toEqual(['up', 'down', 'up']);
  checker.stop();
});
