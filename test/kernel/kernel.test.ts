/** A stock Debian kernel in QEMU: what this host's kernel may lack (act_nat), and that lb4 runs on it at all. */
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { Image } from './run.ts';

const image = new Image();
afterAll(() => image[Symbol.dispose]());
if (image.lacking !== undefined) process.stdout.write(`kernel tests skipped: ${image.lacking}\n`);

describe.skipIf(image.lacking !== undefined)('on a stock kernel', () => {
  test.each([
    [
      'tc action nat rewrites a connection, and lb4 starts',
      new URL('./guest/act-nat.sh', import.meta.url),
      ['ok    act_nat: kernel 6.1.0-', 'the connection was rewritten both ways'],
    ],
    ['lb4 --passthrough forwards', new URL('./guest/passthrough.ts', import.meta.url), ['forwarded 2']],
    [
      "lb4 --dsr, with a server that uses the tc dialect, and one that unwraps IP in IP and GUE by the kernel's tunl0 and fou",
      new URL('./guest/dsr.ts', import.meta.url),
      ['tunl0 unwrapped for the frontends alone', 'tunl0 and fou were checked by their tunnels', 'servers answered the client themselves'],
    ],
    [
      "a server behind GUE unwraps: the kernel's fou, and the program of lb4's script with a second chance",
      new URL('./guest/gue-server.ts', import.meta.url),
      ['fou: 5 echo replies', 'fou: for the VIPs alone', 'bpf: 6 echo replies', 'the second server was asked', 'left nothing'],
    ],
    [
      'the fast path by cls_bpf: ten transfers live on while nobody runs for 30 s, and nothing of it stays',
      new URL('./guest/fast-path.ts', import.meta.url),
      ['the kernel forwarded', 'transfers unspoilt', 'left nothing'],
    ],
    [
      'the fast path on network cards: `auto` is XDP where their driver knows it',
      new URL('./guest/network-card.ts', import.meta.url),
      ['in the drivers: '],
    ],
    [
      'Convey: VLAN unsupported',
      new URL('./guest/vlan.ts', import.meta.url),
      ['all of it with its tag', 'a service between interfaces, in a VLAN'],
    ],
  ])('%s', async (_, script, said) => {
    const { code, output } = await image.run(fileURLToPath(script));
    expect(code, output).toBe(0);
    for (const line of said) expect(output).toContain(line);
  });
});
