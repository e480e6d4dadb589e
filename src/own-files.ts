/** Where lb4's own files are: in a checkout, in the npm package and in the Debian package alike, whatever was put into one file. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The directory with package.json. */
export const PACKAGE = packageAbove(dirname(fileURLToPath(import.meta.url)));

/** Sources of the addon are in a checkout alone: there it is built, elsewhere it comes with the package. */
export const IS_CHECKOUT = existsSync(ownFile('native/CMakeLists.txt'));

/** The absolute path of one of them, which need not be there. */
export function ownFile(...path: readonly string[]): string {
  return join(PACKAGE, ...path);
}

function packageAbove(directory: string): string {
  const above = dirname(directory);
  return above === directory || existsSync(join(directory, 'package.json')) ? directory : packageAbove(above);
}
