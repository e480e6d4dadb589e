/** Runs wrong-arguments.cjs, which an addon that aborts would take with it. */
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

interface Line {
  readonly call?: string;
  readonly wrong?: string;
  /** Of what: the names there are, and those that have rows. */
  readonly table?: string;
  readonly known?: string[];
  readonly rows?: string[];
  readonly done?: number;
}

const PROGRAM = fileURLToPath(new URL('wrong-arguments.cjs', import.meta.url));
// Each thread gets a large stack, so that one more does not fit; no arenas of 128 MB that come and go.
const LIMITS = ['env', 'MALLOC_ARENA_MAX=1', 'prlimit', `--stack=${2 ** 28}:`];

/** @param inside enters a namespace of the test's own; then the exports that need privileges are called, else the others */
export async function expectNoAbort(what: 'arguments' | 'memory' | 'descriptors', inside: readonly string[] = []): Promise<void> {
  const path = createRequire(import.meta.url).resolve('../../build/Release/lb4.node');
  const [command = '', ...args] = [...inside, ...LIMITS, process.execPath, PROGRAM, path, what, inside.length > 0 ? 'privileged' : ''];
  const { stdout, stderr, end } = await new Promise<{ stdout: string; stderr: string; end: unknown }>((resolve) =>
    execFile(command, args, { timeout: 100_000, maxBuffer: 2 ** 26 }, (error, stdout, stderr) =>
      resolve({ stdout, stderr, end: error?.signal ?? error?.code ?? 0 }),
    ),
  );
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  const last = lines.findLast(({ call }) => call !== undefined)?.call;
  expect(end, `ended by ${String(end)} at "${last}"\n${stderr}`).toBe(0);
  expect(lines.flatMap(({ wrong = [] }) => wrong)).toEqual([]);
  for (const { table, known = [], rows = [] } of lines)
    if (table !== undefined) expect(rows.toSorted(), `wrong-arguments.cjs has a row for each of ${table}`).toEqual(known.toSorted());
  expect(lines.at(-1)?.done).toBeGreaterThan(3);
}
