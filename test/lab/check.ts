/** Health checks by themselves: `check.js`, in a namespace. Each line on its standard input is a Target, checked at once; each result is a line. */
import { createInterface } from 'node:readline';
import type { Target } from '../../src/health/check.ts';
import { checkFor } from '../../src/health/check-for.ts';
import { echoThrough } from '../../src/io/tunnel-echo.ts';

process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const check = checkFor(JSON.parse(line) as Target, echoThrough);
  void check.run(new AbortController().signal).then((result) => process.stdout.write(`${JSON.stringify(result)}\n`));
}
