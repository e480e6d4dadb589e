/**
 * The page at `/` in a real browser, while traffic passes: charts draw, the table follows servers, narrow and wide, light and dark, by keyboard;
 * servers are set from it where the file lets them be.
 */
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { answeredBy, RESET } from '../lab/answers.ts';
import { STATS_PORT } from '../lab/balancer.ts';
import { startBrowser } from '../lab/browser.ts';
import { holdConnections } from '../lab/hold.ts';
import { Live } from '../lab/live.ts';
import { PATIENCE, waitUntil } from '../lab/wait.ts';

/** A screenshot for docs/ is made where this names its file. */
const SCREENSHOT = process.env['LB4_SCREENSHOT'];

/** Whether a chart has pixels in the colour of its first line. In the page's own words: this program knows no document. */
const HAS_DRAWN = `(index) => {
  const canvas = document.querySelectorAll('figure')[index]?.querySelector('canvas');
  const pixels = canvas?.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data ?? [];
  let count = 0;
  for (let at = 0; at < pixels.length; at += 4) if (pixels[at] === 0 && pixels[at + 1] === 0x72 && pixels[at + 2] === 0xb2) count++;
  return count > 10;
}`;

async function assertDrawn(page: Page, charts: readonly number[]): Promise<void> {
  for (const index of charts)
    await waitUntil(() => page.evaluate<boolean>(`(${HAS_DRAWN})(${index})`), { what: `chart ${index} to be drawn`, every: 200 });
}

const TOKEN = 'a token of 21 letters'.replaceAll(' ', '-');

/** By keyboard alone: a server is drained by who has the token, and taken back on a narrow screen. */
async function assertSets(page: Page, address: string): Promise<void> {
  const row = page.locator('#servers tr', { hasText: address });
  const dialog = page.getByRole('dialog');
  const state = (text: string) => row.locator('td.state', { hasText: text }).waitFor();
  const choose = async (from: string, key: string) => {
    await row.getByRole('button', { name: 'Set echo-out/server1' }).press('Enter');
    await dialog.getByRole('radio', { name: from }).press(key);
  };
  await choose('ready', 'ArrowDown');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.type('not-the-token-at-all');
  await page.keyboard.press('Enter');
  await dialog.getByRole('alert').filter({ hasText: 'not the token' }).waitFor();
  await page.keyboard.type(TOKEN);
  await page.keyboard.press('Enter');
  await page.getByText('echo-out/server1 is set: drain').waitFor();
  await state('drain');
  await row.locator('td.set', { hasText: '✎ drain' }).waitFor();
  if (SCREENSHOT !== undefined) await page.screenshot({ path: SCREENSHOT, fullPage: true });
  expect(await page.evaluate('[JSON.stringify(localStorage).includes("token"), Object.values(sessionStorage)]')).toEqual([false, [TOKEN]]);

  await page.setViewportSize({ width: 400, height: 900 });
  await choose('drain', 'ArrowUp');
  expect(await dialog.getByLabel('Token').isVisible()).toBe(false);
  const { x, width } = (await dialog.boundingBox()) ?? { x: 0, width: 0 };
  expect([x >= 0, width > 300, x + width <= 400]).toEqual([true, true, true]);
  await dialog.getByRole('button', { name: 'Set', exact: true }).press('Enter');
  await state('up');
  expect(await row.locator('td.set', { hasText: 'drain' }).count()).toBe(0);
  await page.setViewportSize({ width: 1400, height: 900 });
}

test('charts draw, the table follows a server that goes down and one that drains', async () => {
  await using live = await Live.start('passthrough');
  const { client, balancer: host, servers } = live.lab;
  const busy = await holdConnections(client, 8, `${live.vip}:7`);
  const browser = await startBrowser(live.lab, host);
  try {
    const page = await browser.newPage({ viewport: { width: 1400, height: 900 }, colorScheme: 'light' });
    page.setDefaultTimeout(PATIENCE);
    const [problems, asked]: [string[], Set<string>] = [[], new Set()];
    page.on('pageerror', (error) => problems.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    page.on('request', (request) => asked.add(new URL(request.url()).host));
    await page.goto(`http://127.0.0.1:${STATS_PORT}/`);
    const row = (name: string) => page.locator('#servers tr', { hasText: name });
    const state = (name: string, text: string) => row(name).locator('td.state', { hasText: text }).waitFor();
    await page.getByText('passthrough', { exact: true }).waitFor();
    await page.locator('#health.ok').waitFor();
    const [first, second] = [`${live.addresses[0]}:7`, `${live.addresses[1]}:7`];
    await state(first, 'up');
    expect(await page.locator('#servers tr').count()).toBe(4);

    // Each chart that has something to draw has drawn it: in the colour of its first line.
    await assertDrawn(page, [0, 2, 3]);
    // Not all 0: the connections are busy.
    await page.locator('[aria-label^="Packets"][aria-label*="packets"]:not([aria-label$=" 0"])').waitFor();
    await row(first).locator('polyline[points]').waitFor({ state: 'attached' });
    // A new connection, and one that no server is there for.
    await answeredBy(client, live.vip, 'server1', 'server2');
    await live.reload({ weights: [0, 0] });
    expect(RESET).toContain((await client.run('curl', '-sS', '--max-time', '60', `http://${live.vip}/`)).code);
    await assertDrawn(page, [1, 4]);
    await page.locator('[aria-label^="Dropped or refused"][aria-label*="resetNoServer"]').waitFor();

    const button = row(first).getByRole('button', { name: 'Set echo-out/server1' });
    expect(await button.count()).toBe(0);
    await live.reload({ more: `[control]\ndashboard = "write"\ntoken = "${TOKEN}"` });
    await button.waitFor();
    await assertSets(page, first);
    // A wrong token, which the browser's console tells of.
    expect(problems.splice(0)).toEqual([expect.stringContaining('401')]);
    await live.balancer.running.line(/"from":"127\.0\.0\.1","attempts":1.*a wrong token was said/);

    await live.reload({ weights: [1, 0] });
    await button.waitFor({ state: 'hidden' });
    await state(second, 'drain');
    await servers[0]?.run('iptables', '-w', '5', '-A', 'INPUT', '-p', 'tcp', '--dport', '7', '-j', 'REJECT', '--reject-with', 'tcp-reset');
    await state(first, 'down');
    await row(first)
      .locator('td.reason', { hasText: /refused/ })
      .waitFor();

    // By keyboard alone.
    await page.keyboard.press('/');
    await page.keyboard.type('echo down');
    await waitUntil(async () => (await page.locator('#servers tr').count()) === 1, { what: 'one row to be left', every: 100 });
    expect(await page.locator('#shown').textContent()).toBe('1 of 4');
    await page.locator('#filter').fill('');
    const head = page.locator('th', { hasText: 'State' });
    await head.getByRole('button').focus();
    await page.keyboard.press('Enter');
    expect(await head.getAttribute('aria-sort')).toBe('ascending');
    await page.keyboard.press('Enter');
    expect(await head.getAttribute('aria-sort')).toBe('descending');

    for (const width of [400, 1400])
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.setViewportSize({ width, height: 900 });
        await page.emulateMedia({ colorScheme });
        await row(first).waitFor();
        const [wide, paper] = await page.evaluate<[number, string]>(
          '[document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]',
        );
        expect([wide <= width, paper], `${width} ${colorScheme}`).toEqual([
          true,
          colorScheme === 'dark' ? 'rgb(18, 23, 29)' : 'rgb(255, 255, 255)',
        ]);
      }
    // In the dark, too.
    await assertDrawn(page, [0, 1, 2, 3, 4]);
    expect(problems).toEqual([]);
    expect([...asked]).toEqual([`127.0.0.1:${STATS_PORT}`]);

    // lb4 goes: the page says so, and goes on when it is back.
    await live.balancer.stop();
    await page.getByText(/no answer since/).waitFor();
    await live.launch();
    await page.locator('#notice').waitFor({ state: 'hidden' });
  } finally {
    await browser.close();
  }
  busy.end();
  await busy.exited;
  expect((await live.balancer.stop()).code).toBe(0);
});
