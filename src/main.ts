/** Where lb4 begins. Its version is often asked for by scripts, and needs nothing else of lb4 loaded. */
import { readFileSync } from 'node:fs';
import { ownFile } from './own-files.ts';

const { version } = JSON.parse(readFileSync(ownFile('package.json'), 'utf8')) as { version: string };
const [first = '', ...others] = process.argv.slice(2);

if (others.length === 0 && ['-v', '--version'].includes(first)) process.stdout.write(`${version}\n`);
else {
  const { commandLine } = await import('./cli/command-line.ts');
  await commandLine(version);
}
