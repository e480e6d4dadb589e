import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { SCHEDULERS } from '../../src/balance/index.ts';
import { renderReference } from '../../src/config/reference.ts';

/** `npm run docs` runs this file with --update, which writes the page. */
it('docs/configuration.md is what the schema says', async () => {
  const example = readFileSync(new URL('../../lb4.toml', import.meta.url), 'utf8');
  await expect(renderReference(example)).toMatchFileSnapshot('../../docs/configuration.md');
});

it('docs/modes.md tells of every scheduler, and of no other', () => {
  const page = readFileSync(new URL('../../docs/modes.md', import.meta.url), 'utf8');
  const table = page.split('\n## Choosing a server\n')[1]?.split('\n\n')[0] ?? '';
  const told = [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  expect(told.filter((name) => name !== 'balance').toSorted()).toEqual(SCHEDULERS.toSorted());
});
