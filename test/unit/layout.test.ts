import { expect, it } from 'vitest';
import { renderLayout } from '../../src/layout/render.ts';

/** `npm run docs` runs this file with --update, which writes the header. */
it('native/layout.h is what src/layout says', async () => {
  await expect(renderLayout()).toMatchFileSnapshot('../../native/layout.h');
});
