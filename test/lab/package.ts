/** lb4 as npm installs it: a copy of what this checkout has built. */
import { cpSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from './lab.ts';

const PARTS = ['bin', 'dist/bundle', 'iptables', 'package.json', 'build/Release/lb4.node'] as const;

/** Makes the directory, with `more` parts beside those that serving needs. Returns the path of its lb4. */
export function copyPackage(directory: string, more: readonly string[] = []): string {
  for (const part of [...PARTS, ...more]) {
    mkdirSync(dirname(join(directory, part)), { recursive: true });
    cpSync(join(ROOT, part), join(directory, part), { recursive: true });
  }
  return join(directory, 'bin/lb4');
}
