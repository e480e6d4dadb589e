/** Checks of a real server that expects the PROXY protocol: HAProxy with accept-proxy. */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import type { SendProxy } from '../../src/config/model.ts';
import { checkFor } from '../../src/health/check-for.ts';
import { closedPort, closers, target } from '../lab/health-lab.ts';

const hasHaproxy = spawnSync('haproxy', ['-v']).status === 0;

/** Answers 204, and to nobody who does not begin with a header. */
async function haproxy(): Promise<number> {
  const port = await closedPort();
  const directory = mkdtempSync(join(tmpdir(), 'lb4-haproxy-'));
  const file = join(directory, 'haproxy.cfg');
  writeFileSync(
    file,
    `defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n` +
      `frontend web\n  bind 127.0.0.1:${port} accept-proxy\n  http-request return status 204\n`,
  );
  const child = spawn('haproxy', ['-db', '-q', '-f', file], { stdio: 'ignore' });
  closers.push(async () => {
    child.kill('SIGKILL');
    await once(child, 'exit');
    rmSync(directory, { recursive: true });
  });
  await vi.waitFor(async () => expect((await checkFor(target(port)).run(new AbortController().signal)).outcome).toBe('pass'));
  return port;
}

function check(port: number, sendProxy: SendProxy | undefined) {
  const settings = { type: 'http', path: '/', status: [[200, 399]], host: undefined, sendProxy } as const;
  return checkFor(target(port, { check: settings, timeoutMs: 5000 })).run(new AbortController().signal);
}

describe.skipIf(!hasHaproxy)(`HAProxy${hasHaproxy ? '' : ' is not installed'}`, () => {
  test('takes the header of a check, in both versions, and nothing without one', async () => {
    const port = await haproxy();
    expect((await check(port, 'v1')).reason).toMatch(/^HTTP 204 in /);
    expect((await check(port, 'v2')).reason).toMatch(/^HTTP 204 in /);
    expect(await check(port, undefined)).toMatchObject({ outcome: 'fail' });
  });
});
