import { expect, test } from 'vitest';
import { Rendered } from '../../src/control/rendered.ts';

test('those who ask while a page is being written get that one: a burst of readers wrote as many', async () => {
  let written = 0;
  const page = new Rendered(async () => {
    written++;
    await new Promise((resolve) => setImmediate(resolve));
    return String(written);
  });
  expect(await Promise.all(Array.from({ length: 256 }, () => page.text()))).toEqual(Array.from({ length: 256 }, () => '1'));
  expect(await page.text()).toBe('2');
});

test('a page that failed is written again', async () => {
  let fails = true;
  const page = new Rendered(async () => {
    if (fails) throw new Error('not now');
    return 'page';
  });
  await expect(page.text()).rejects.toThrow('not now');
  fails = false;
  expect(await page.text()).toBe('page');
});
