/** What names of frontends, backends and servers look like. */

/** Whether a name of a frontend, backend or server is one: it goes into statistics, logs and scripts. */
export function isGoodName(name: string): boolean {
  return /^[\p{L}\p{N}_.:/@ -]{1,64}$/u.test(name) && name !== '__proto__';
}
export const GOOD_NAME = '1–64 letters, digits, spaces and _ . : / @ -';
