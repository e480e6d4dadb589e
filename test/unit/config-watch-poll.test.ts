import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it, vi } from 'vitest';
import { watchConfig } from '../../src/config/watch.ts';
import { PATIENCE } from '../lab/wait.ts';

// The limits of inotify are a user's: taking them away for real would take them from every other process here.
vi.mock('node:fs', async (original) => ({
  ...(await original<typeof import('node:fs')>()),
  watch: () => {
    throw Object.assign(new Error('System limit for number of file watchers reached'), { code: 'ENOSPC' });
  },
}));

const directory = mkdtempSync(join(tmpdir(), 'lb4-poll-'));
afterAll(() => rmSync(directory, { recursive: true }));

it('without inotify the file is polled, and that is said once', async () => {
  const file = join(directory, 'lb4.toml');
  writeFileSync(file, 'v0');
  const log = vi.fn();
  const changed = vi.fn();
  const watching = watchConfig(file, changed, { log, stillMs: 100 });
  for (const [times, content] of ['one', 'two'].entries()) {
    writeFileSync(file, content);
    await vi.waitFor(() => expect(changed).toHaveBeenCalledTimes(times + 1), { timeout: PATIENCE, interval: 50 });
  }
  expect(log.mock.calls).toEqual([[`${file} cannot be watched (ENOSPC); it is looked at every 2 s instead`]]);
  watching.close();
});
