/** Health checks by themselves: `check.js`, in a namespace. Each line on its standard input is a Target; each result is a line. */
import { createInterface } from 'node:readline';
import type { Target } from '../../src/health/check.ts';
import { checkFor } from '../../src/health/check-for.ts';

process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const result = await checkFor(JSON.parse(line) as Target).run(new AbortController().signal);
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
