/** What no linter here holds. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Lines of the code below these directories that match, as "file:line: text". */
function find(pattern: RegExp, directories: readonly string[]): string[] {
  const files = directories.flatMap((directory) =>
    readdirSync(join(ROOT, directory), { recursive: true, encoding: 'utf8' }).map((name) => join(directory, name)),
  );
  return files
    .filter((name) => name.endsWith('.ts'))
    .flatMap((name) => {
      const lines = readFileSync(join(ROOT, name), 'utf8').split('\n');
      return lines.flatMap((line, i) => (pattern.test(line) ? [`${name}:${i + 1}: ${line.trim()}`] : []));
    });
}

test('an object is born finished: no field is declared that its constructor does not set', () => {
  expect(find(/^\s*(?:(?:static|readonly|declare)\s+)*#?\w+!:/, ['src', 'bench'])).toEqual([]);
});

test('private members are #private, which holds at run time, too', () => {
  const found = find(/^\s*(?:private|protected|public)\s+(?!constructor\b)/, ['src', 'test', 'bench']);
  expect(found).toEqual([]);
});
