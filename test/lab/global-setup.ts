/** Before and after the tests that need root: a clean machine. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { forgetDead } from '../../src/io/meeting-point.ts';
import { ROOT, sweep } from './lab.ts';

export function setup(): void {
  if (process.getuid?.() !== 0) throw new Error('these tests need root (namespaces, packet sockets): sudo make test-netns');
  if (!existsSync(join(ROOT, 'dist/test/lab/backend.js'))) throw new Error('not built yet: run `make build` first');
  process.env['LB4_LAB_RUN'] = String(process.pid);
  const left = sweep();
  if (left.length > 0) process.stderr.write(`removed what an earlier run left: ${left.join(' ')}\n`);
}

export function teardown(): void {
  // Of those that a test has killed.
  forgetDead();
  const left = sweep(String(process.pid));
  if (left.length > 0) process.stderr.write(`a test left ${left.join(' ')} behind\n`);
}
