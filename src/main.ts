/** Where lb4 begins. Its version is often asked for by scripts, and needs nothing else of lb4 loaded. */
import { readFileSync } from 'node:fs';
import { ownFile } from './own-files.ts';

const { version } = JSON.parse(readFileSync(ownFile('package.json'), 'utf8')) as { version: string };
const [first = '', ...others] = process.argv.slice(2);

if (others.length === 0 && ['-v', '--version'].includes(first)) process.stdout.write(`${version}\n`);
else {
  // Before anything large is loaded, since the process begins anew there.
  if (process.geteuid?.() === 0 && startsBalancer(process.argv.slice(2)))
    await (await import('./cli/confine.ts')).confineBalancer(process.argv.slice(2));
  const { commandLine } = await import('./cli/command-line.ts');
  await commandLine(version);
}

/** Whether no command is named, but for the words that only tell of lb4. */
function startsBalancer(args: readonly string[]): boolean {
  // The value of `--config` may be a word of its own.
  const words = args.filter((arg, at) => args[at - 1] !== '--config' && !arg.startsWith('-'));
  return words.length === 0 && !args.some((arg) => ['-h', '--help', '-v', '--version'].includes(arg));
}
