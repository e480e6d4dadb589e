/** The texts of an `http` health check: what is asked for, of whom, and which answers are good. */

/** What is wrong with `text` as a request target, or undefined. */
export function pathProblem(text: string): string | undefined {
  return /^\/[!-~]*$/.test(text) ? undefined : 'is not a path: it must begin with a slash and have no spaces';
}

/** What is wrong with `text` as a Host header (RFC 9110 section 7.2), or undefined: a line break in it would begin another header. */
export function hostProblem(text: string): string | undefined {
  return /^[\w.-]{1,255}(:\d{1,5})?$|^\[[\da-fA-F:.]+\](:\d{1,5})?$/.test(text) ? undefined : 'is not a host';
}

/** "200-299,401" as inclusive ranges, or undefined. */
export function readStatus(text: string): [first: number, last: number][] | undefined {
  const ranges = text.split(',').map(readRange);
  return ranges.includes(undefined) ? undefined : (ranges as [number, number][]);
}

function readRange(text: string): [number, number] | undefined {
  const match = /^\s*([1-5]\d\d)(?:-([1-5]\d\d))?\s*$/.exec(text);
  if (match === null) return undefined;
  const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
  return first <= last ? [first, last] : undefined;
}
