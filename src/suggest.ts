/** Near misses: what a mistyped word was probably meant to be. */

/** The candidate nearest to `word`, or undefined where none is near (2 edits; 1 for words of up to four letters). */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  const wanted = normal(word);
  let best: string | undefined;
  let bestDistance = wanted.length > 4 ? 3 : 2;
  for (const candidate of candidates) {
    const distance = editDistance(wanted, normal(candidate), bestDistance);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best ?? containing(wanted, candidates);
}

/** `; did you mean "…"?`, or nothing. */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const near = nearest(word, candidates);
  return near === undefined ? '' : `; did you mean ${JSON.stringify(near)}?`;
}

/** Case and dashes are the commonest slips, so they cost nothing. */
export function normal(word: string): string {
  return word.toLowerCase().replaceAll('-', '_');
}

/** `interval` for `health_check_interval`: a whole word of the only candidate that has it. */
function containing(wanted: string, candidates: Iterable<string>): string | undefined {
  const found = [...candidates].filter((candidate) => normal(candidate).split('_').includes(wanted));
  return found.length === 1 ? found[0] : undefined;
}

/**
 * Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment).
 * Words whose lengths differ by `limit` or more are not compared: the answer is `limit`.
 */
export function editDistance(a: string, b: string, limit = Number.POSITIVE_INFINITY): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + change);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) row[j] = Math.min(row[j], before[j - 2] + 1);
    }
    [before, last] = [last, row];
  }
  return last[b.length];
}
