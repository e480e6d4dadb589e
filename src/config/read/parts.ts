/** Whether a text has more in it than may be parsed. */

/** All of LIMITS with every key is 170,000 (and parsing costs a kilobyte each): what has more is no configuration. */
export const MOST_PARTS = 400_000;

/** Counts = [ { and , before the text is parsed, which takes seconds and gigabytes for a few megabytes of tables. */
export function isCrowded(text: string): boolean {
  if (text.length <= MOST_PARTS) return false;
  let parts = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x3d || code === 0x5b || code === 0x7b || code === 0x2c) parts++;
  }
  return parts > MOST_PARTS;
}
