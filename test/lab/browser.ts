/** A real browser in a namespace: Debian's Chromium, without a screen. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';
import { type Lab, type Namespace } from './lab.ts';
import { PATIENCE } from './wait.ts';

/** Sees the network as the namespace does. To be closed; it ends with the test's process otherwise. */
export function startBrowser(lab: Lab, namespace: Namespace): Promise<Browser> {
  const program = join(lab.directory, 'chromium');
  writeFileSync(program, `#!/bin/sh\nexec nsenter --net=/run/netns/${namespace.name} chromium "$@"\n`);
  chmodSync(program, 0o755);
  // Root has no sandbox of Chromium's; its memory is not in /dev/shm, which containers have little of.
  const args = ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'];
  return chromium.launch({ executablePath: program, args, timeout: PATIENCE });
}
