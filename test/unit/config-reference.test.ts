import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { renderReference } from '../../src/config/reference.ts';

/** `npm run docs` runs this file with --update, which writes the page. */
it('docs/configuration.md is what the schema says', async () => {
  const example = readFileSync(new URL('../../lb4.toml', import.meta.url), 'utf8');
  await expect(renderReference(example)).toMatchFileSnapshot('../../docs/configuration.md');
});
