/** How much a file may hold, and what names in it may look like. */

/** At most so many frontends, so many backends, and so many servers over all backends. */
export const LIMITS = { frontends: 1024, backends: 4096, servers: 4096 } as const;

/** Whether a name of a frontend, backend or server is one: it goes into statistics, logs and scripts. */
export function isGoodName(name: string): boolean {
  return /^[\p{L}\p{N}_.:/@ -]{1,64}$/u.test(name) && name !== '__proto__';
}
export const GOOD_NAME = '1–64 letters, digits, spaces and _ . : / @ -';
