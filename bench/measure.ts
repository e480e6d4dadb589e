/** What every benchmark shares: medians with their spread, tables, C programs compiled on the spot. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** "12.3 (11.8–14.0)": the median and the whole spread. */
export function spread(values: readonly number[], digits = 1): string {
  return `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`;
}

/** Milliseconds that this thread has run: other programs, the compiler's threads and the collector's do not count. */
export function threadTime(): number {
  return Number(readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ', 1)[0]) / 1e6;
}

/** Prints rows under a header, columns aligned. */
export function table(rows: readonly (readonly string[])[]): void {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) console.log(row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('   '));
}

/** The checkout, from bench/ and from dist/bench/ alike. */
export const root = existsSync(join(here(), '../package.json')) ? join(here(), '..') : join(here(), '../..');

function here(): string {
  return dirname(fileURLToPath(import.meta.url));
}

/** Compiles bench/NAME.c with `cc -O3` and returns the program's path. */
export function compile(name: string, libraries: readonly string[] = []): string {
  // Not in /tmp: a name there that can be foretold is anybody's to take first, and root runs what lies under it.
  const directory = join(root, 'build/bench');
  mkdirSync(directory, { recursive: true });
  const program = join(directory, name.replaceAll('/', '-'));
  // Two test files may do so at once, while a third runs it.
  const made = `${program}.${process.pid}`;
  execFileSync('cc', ['-O3', '-o', made, join(root, 'bench', `${name}.c`), ...libraries], { stdio: 'inherit' });
  renameSync(made, program);
  return program;
}

/** Compiles bench/SOURCE.bpf.c, with macros as clang takes them ("-DNAME=VALUE"), and returns the object's path. */
export function compileBpf(source: string, name = source, defines: readonly string[] = []): string {
  const directory = join(root, 'build/bench');
  mkdirSync(directory, { recursive: true });
  const object = join(directory, `${name}.bpf.o`);
  const clang = ['clang', 'clang-14'].find((tool) => existsSync(`/usr/bin/${tool}`)) ?? 'clang';
  const flags = ['-O2', '-g', '-target', 'bpf', '-I/usr/include/x86_64-linux-gnu', ...defines];
  execFileSync(clang, [...flags, '-c', join(root, 'bench', `${source}.bpf.c`), '-o', object], { stdio: 'inherit' });
  return object;
}
