/** Tables and numbers for people. */

/** Rows of cells, as wide as the widest in each column; those of `right` stand at its right end. With line breaks. */
export function columns(rows: readonly (readonly string[])[], right: ReadonlySet<number> = new Set()): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (right.has(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join('  ');
  return rows.map((row) => `${line(row).trimEnd()}\n`).join('');
}

const UNITS = ['', 'K', 'M', 'G', 'T', 'P'];

/** As ipvsadm has large numbers: 1234, 12.3K, 4.56M. */
export function short(number: number): string {
  let [value, unit] = [number, 0];
  while (value >= 10_000 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  return unit === 0 ? String(Math.round(value)) : `${value.toFixed(value < 100 ? 1 : 0)}${UNITS[unit]}`;
}

/** Seconds: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function duration(seconds: number): string {
  const whole = Math.floor(seconds);
  const [s, min, h, d] = [whole % 60, Math.floor(whole / 60) % 60, Math.floor(whole / 3600) % 24, Math.floor(whole / 86_400)];
  if (d > 0) return `${d} d ${h} h`;
  if (h > 0) return `${h} h ${min} min`;
  return min > 0 ? `${min} min ${s} s` : `${s} s`;
}
