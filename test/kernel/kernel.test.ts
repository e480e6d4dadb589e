/** A stock Debian kernel in QEMU: what this host's kernel may lack (act_nat), and that lb4 runs on it at all. */
import { afterAll, describe, expect, test } from 'vitest';
import { Image } from './run.ts';

const image = new Image();
afterAll(() => image[Symbol.dispose]());
if (image.lacking !== undefined) process.stdout.write(`kernel tests skipped: ${image.lacking}\n`);

describe.skipIf(image.lacking !== undefined)('on a stock kernel', () => {
  test.each([
    ['tc action nat rewrites a connection, and lb4 starts', 'act-nat.sh', 'the connection was rewritten both ways'],
    ['lb4 --passthrough forwards', 'passthrough.ts', 'forwarded 2'],
  ])('%s', async (_, script, said) => {
    const { code, output } = await image.run(`test/kernel/guest/${script}`);
    expect(code, output).toBe(0);
    expect(output).toContain(said);
  });
});
