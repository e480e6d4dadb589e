/** The split of the local ports is written down once; what cannot read it there says the same. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CHECK_PORTS, CLIENT_PORTS, rangeText } from '../../src/layout/ports.ts';

const ROOT = new URL('../../', import.meta.url);
const read = (path: string) => readFileSync(new URL(path, ROOT), 'utf8');
const COMMENTS = /\/\*[^]*?\*\/|^\s*(\/\/|#).*$/gm;
const within = (folder: string, ext: string) =>
  readdirSync(new URL(folder, ROOT), { recursive: true, encoding: 'utf8' }).flatMap((name) =>
    name.endsWith(ext) ? `${folder}${name}` : [],
  );

/** Every range in a text whose ports have five digits, as `rangeText` writes it. */
const rangesIn = (text: string) => [...text.matchAll(/\b(\d{5})\s?[-–:]\s?(\d{5})\b/g)].map(([, first, last]) => `${first}-${last}`);

test("health checks' ports end where clients' begin", () => {
  expect([CHECK_PORTS, CLIENT_PORTS].map(rangeText)).toEqual(['32768-33767', '33768-61000']);
  expect(CHECK_PORTS.last + 1).toBe(CLIENT_PORTS.first);
});

test('documents tell no other split', () => {
  const all = ['README.md', ...within('docs/', '.md'), ...within('native/', '.md'), ...within('src/', '.md')];
  // Its ranges are of what was measured.
  const documents = all.filter((path) => path !== 'docs/benchmarks.md');
  const told = new Set(documents.flatMap((path) => rangesIn(read(path))));
  expect([...told].toSorted()).toEqual([CHECK_PORTS, CLIENT_PORTS].map(rangeText));
  const pool = CLIENT_PORTS.last - CLIENT_PORTS.first + 1;
  expect(read('docs/architecture.md')).toContain(`port pools | ${pool.toLocaleString('en')} a (source, server)`);
});

test('code and scripts have it from src/layout/ports.ts alone', () => {
  const others = [...within('src/', '.ts'), ...within('native/', '.cc'), ...within('iptables/', '.sh')].filter(
    (path) => path !== 'src/layout/ports.ts',
  );
  const ends = [CHECK_PORTS, CLIENT_PORTS].flatMap(({ first, last }) => [first, last]);
  const number = new RegExp(`\\b(${ends.map((end) => String(end).replace(/(?=...$)/, '[_,’]?')).join('|')})\\b`);
  expect(others.filter((path) => number.test(read(path).replaceAll(COMMENTS, '')))).toEqual([]);
});
