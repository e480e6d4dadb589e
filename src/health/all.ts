/** Several kinds of check of one server: all are made at once, and all must pass. */
import type { CheckResult, Target } from './check.ts';

/** A target for each kind of check, in the file's order; of one kind it is the target itself. */
export function partsOf(target: Target): readonly Target[] {
  const { also = [], ...first } = target;
  return also.length === 0 ? [target] : [first, ...also.map((check) => ({ ...first, check }))];
}

/**
 * What their results come to: the worst of them, whose reason names each kind that ended so. A failure counts though another check could not be made.
 * @param results in the order of `parts`
 */
export function allOf(parts: readonly Target[], results: readonly CheckResult[]): CheckResult {
  const [only] = results;
  if (results.length === 1) return only;
  const outcome = (['fail', 'unknown'] as const).find((bad) => results.some((result) => result.outcome === bad)) ?? 'pass';
  const named = results.map((result, i) => ({ ...result, kind: parts[i].check?.type ?? 'tcp' })).filter((one) => one.outcome === outcome);
  return {
    outcome,
    reason: named.map(({ kind, reason }) => `${kind}: ${reason}`).join('; '),
    isSilent: named.every(({ isSilent }) => isSilent === true),
  };
}
