/**
 * Servers behind `dsr = "gue"`: lb4's program beside the kernel's own fou and tunl0, on a stock Debian kernel that has these (this host's may not).
 * An emulated machine: the figures are small, and the ratio of what is measured in one boot is what counts. `make bench` installs QEMU.
 */
import { join } from 'node:path';
import { Image } from '../test/kernel/run.ts';
import { SETTINGS, UNWRAPS } from './fou-rounds.ts';
import { median, root, spread, table } from './measure.ts';

using image = new Image();
if (image.lacking !== undefined) throw new Error(image.lacking);
const { code, output } = await image.run(join(root, 'bench/guest/fou.ts'));
if (code !== 0) throw new Error(`the guest: ${output}`);
const figures = [...output.matchAll(/^figure (.*): ([\d.]+)$/gm)];
const of = (setting: string, unwrap: string) =>
  figures.filter(([, name]) => name === `${setting}, ${unwrap}`).map(([, , value]) => Number(value));
console.log('Gbit/s of one stream, in an emulated machine (least–most)\n');
table([
  ['', ...UNWRAPS, 'bpf / fou'],
  ...SETTINGS.map((setting) => {
    const [fou, bpf] = UNWRAPS.map((unwrap) => of(setting, unwrap));
    return [setting, spread(fou, 2), spread(bpf, 2), (median(bpf) / median(fou)).toFixed(2)];
  }),
]);
