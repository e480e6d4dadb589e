/** What is left of an lb4 that was killed, where another one would be met. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { forgetDead } from '../../src/io/meeting-point.ts';

const home = mkdtempSync(join(tmpdir(), 'lb4-point-'));
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(home, { recursive: true });
});

test('sockets that nobody has go, also those of network namespaces that are gone; whatever else is there stays', async () => {
  vi.spyOn(process, 'geteuid').mockReturnValue(1);
  vi.stubEnv('XDG_RUNTIME_DIR', home);
  const directory = join(home, 'lb4');
  mkdirSync(directory);
  const { ino } = statSync('/proc/self/ns/net');
  const at = (name: string) => join(directory, name);
  const names = [`takeover-${ino}-dead`, 'takeover-1-packets', `takeover-${ino}-alive`, 'kept-1'].map(at);
  for (const name of names) writeFileSync(name, '');
  // As lb4 has it: bound beside the point, then moved there.
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(at(`takeover-${ino}-alive.7`), resolve));
  forgetDead();
  expect(names.map((name) => existsSync(name))).toEqual([false, false, true, true]);
  expect(existsSync(at(`takeover-${ino}-alive.7`))).toBe(true);
  server.close();
});
