/** How processes share connections: weights as places, intervals and a cascade of probabilities. Weights are 0–65535, 0 takes nothing. */

interface Weighted {
  readonly port: number;
  readonly weight: number;
}

/** Places that are dealt out one by one: as many elements has a map in the kernel, and so many rules iptables. */
export const MOST_PLACES = 1024;
/** What iptables can hold of a probability (xt_statistic: 31 bits). */
const PROBABILITIES = 2 ** 31;

/** Whole weights without a common divisor: 2:4 is 1:2. None becomes 0. */
export function reduced<T extends Weighted>(ports: readonly T[]): T[] {
  const whole = ports.map((port) => ({ ...port, weight: Math.max(1, Math.round(port.weight)) }));
  const divisor = whole.reduce((last, { weight }) => commonDivisor(last, weight), 0);
  return whole.map((port) => ({ ...port, weight: port.weight / divisor }));
}

/**
 * The ports in turn, each as often as it weighs, and as evenly as can be: smooth weighted round robin. Weights that add up to more than
 * MOST_PLACES are rounded, none to nothing.
 * @param ports with whole weights, above 0
 */
export function turns(ports: readonly Weighted[]): number[] {
  const sum = total(ports);
  const scale = Math.min(1, MOST_PLACES / sum);
  const fitting = ports.map(({ port, weight }) => ({ port, weight: Math.max(1, Math.round(weight * scale)), credit: 0 }));
  const size = total(fitting);
  return Array.from({ length: size }, () => {
    for (const one of fitting) one.credit += one.weight;
    const next = fitting.reduce((best, one) => (one.credit > best.credit ? one : best));
    next.credit -= size;
    return next.port;
  });
}

/** Weights as intervals of 0 … size - 1, as nft writes them: `0-2`, `3`. */
export function intervals(weights: readonly number[]): { readonly size: number; readonly all: readonly string[] } {
  let size = 0;
  const all = weights.map((weight) => {
    const first = size;
    size += weight;
    return weight === 1 ? `${first}` : `${first}-${size - 1}`;
  });
  return { size, all };
}

/**
 * The share of what is left that each takes after those before it: 1/4, 1/3, 1/2, and the last one, undefined, takes all. (1/4 each time would
 * give 25, 19 and 14 %, and 42 % to the last.) Spelled as iptables-save does, which prints what the kernel holds.
 */
export function cascade(weights: readonly number[]): (string | undefined)[] {
  let left = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight, i) => {
    const probability = weight / left;
    left -= weight;
    return i === weights.length - 1 ? undefined : (Math.round(probability * PROBABILITIES) / PROBABILITIES).toFixed(11);
  });
}

function total(ports: readonly { readonly weight: number }[]): number {
  return ports.reduce((sum, { weight }) => sum + weight, 0);
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}
