/** Worker threads load JavaScript, and Node 20 strips no types: the proxy is compiled to dist/ before its tests run. */
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

export function setup(): void {
  const tsc = createRequire(import.meta.url)
    .resolve('typescript/package.json')
    .replace('package.json', 'bin/tsc');
  execFileSync(process.execPath, [tsc, '-p', fileURLToPath(new URL('proxy-tsconfig.json', import.meta.url))], { stdio: 'inherit' });
}
