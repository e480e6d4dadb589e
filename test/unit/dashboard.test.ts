/** What the page at `/` is given, and what it makes of two answers of /stats. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import { addDashboard } from '../../src/control/dashboard.ts';
import { ownFile } from '../../src/own-files.ts';

interface Sample {
  readonly connections: number;
  readonly opened: number;
  readonly packets: number | undefined;
  readonly bitsIn: number;
  readonly bitsOut: number;
  readonly refused: Readonly<Record<string, number>>;
}
type Row = Readonly<Record<string, unknown>>;
interface Answer {
  readonly at: number;
  readonly stats: unknown;
}

const { arranged, checkText, rate, sampleOf, serversOf, short, worst } = (await import(ownFile('dashboard/samples.js'))) as {
  arranged(rows: readonly Row[], filter: string, column?: string, isDown?: boolean): Row[];
  checkText(row: Row): string;
  rate(before: number, after: number, seconds: number): number;
  sampleOf(last: Answer | undefined, now: Answer): Sample;
  serversOf(last: Answer | undefined, now: Answer): Row[];
  short(number: number): string;
  worst(samples: readonly Sample[], most: number): string[];
};
const { orderOf } = (await import(ownFile('dashboard/orders.js'))) as { orderOf(row: object, state: string, weight: number): object };

const server = (more: object = {}) => ({
  name: 'one',
  state: 'up',
  weight: 1,
  backup: false,
  damped: false,
  silent: false,
  dead_ends: 0,
  load: 3,
  check_failures: 0,
  last_check: 'connected',
  total_connections: 10,
  current_connections: 2,
  bytes_tx: 1000,
  bytes_rx: 0,
  ...more,
});
const stats = (seconds: number, more: object = {}, one: object = {}) => ({
  total_connections: 10 * seconds,
  current_connections: 7,
  total_bytes_tx: 1000 * seconds,
  total_bytes_rx: 2000 * seconds,
  lb4: {
    mode: 'passthrough',
    frames: { received: 100 * seconds, dropped: 0, transmit_failed: 0 },
    fast_path: { forwarded: 50 * seconds },
    verdicts: { forwarded: 90 * seconds, dropMalformed: 3 * seconds, resetFull: seconds },
    servers: { b: { '10.0.0.1:80': server({ total_connections: 4 * seconds, bytes_tx: 100 * seconds, ...one }) } },
    ...more,
  },
});

describe('samples', () => {
  test('are rates between two answers, packets of the kernel with those of the ring', () => {
    const sample = sampleOf({ at: 100, stats: stats(10) }, { at: 102, stats: stats(12) });
    expect(sample).toMatchObject({ connections: 7, opened: 10, packets: 150, bitsIn: 8000, bitsOut: 16_000 });
    expect(sample.refused).toEqual({ dropMalformed: 3, resetFull: 1, 'ring full': 0, 'not sent': 0 });
    expect(worst([sample], 1)).toEqual(['dropMalformed']);
    expect(worst([sample], 6)).toEqual(['dropMalformed', 'resetFull']);
  });

  test('the first answer, and one of an lb4 that has begun anew, have no rates', () => {
    expect(sampleOf(undefined, { at: 1, stats: stats(10) })).toMatchObject({ connections: 7, opened: 0, packets: 0, bitsIn: 0 });
    expect(rate(1000, 3, 1)).toBe(0);
    expect(rate(1, 3, 0)).toBe(0);
  });

  test('of proxy mode know no packets', () => {
    const proxy = { frames: undefined, fast_path: undefined, verdicts: undefined };
    expect(sampleOf({ at: 0, stats: stats(1, proxy) }, { at: 1, stats: stats(2, proxy) })).toMatchObject({
      packets: undefined,
      refused: {},
    });
  });
});

describe('servers', () => {
  test.each([
    [{}, 'up'],
    [{ state: 'down' }, 'down'],
    [{ state: 'down', damped: true }, 'damped'],
    [{ silent: true }, 'silent'],
    [{ dead_ends: 2 }, 'no way'],
  ])('%o is %s', (more, state) => {
    expect(serversOf(undefined, { at: 1, stats: stats(1, {}, more) })).toMatchObject([{ backend: 'b', address: '10.0.0.1:80', state }]);
  });

  test('what was set by control is theirs, and found by it', () => {
    const rows = serversOf(undefined, { at: 1, stats: stats(1, {}, { set: { state: 'drain', weight: 5 } }) });
    expect(rows).toMatchObject([{ byControl: 'drain, weight 5' }]);
    expect([arranged(rows, 'weight 5 by control').length, arranged(rows, 'weight 6').length]).toEqual([1, 0]);
    expect(arranged(serversOf(undefined, { at: 1, stats: stats(1) }), 'control')).toEqual([]);
  });

  test.each([
    [undefined, undefined, 'connected'],
    ['pass', 0.4, 'pass, just now: connected'],
    ['fail', 119.9, 'fail, 119 s ago: connected'],
    ['pass', 125, 'pass, 2 min ago: connected'],
    ['pass', 7200, 'pass, 2 h ago: connected'],
  ])('a check that ended %s, %s s ago', (lastResult, checkAge, text) => {
    expect(checkText({ lastCheck: 'connected', lastResult, checkAge })).toBe(text);
  });

  test.each([
    [{}, 'ready', 2, {}],
    [{}, 'drain', 2, { state: 'drain' }],
    [{ state: 'drain', weight: 5 }, 'ready', 5, { state: 'ready' }],
    [{ state: 'down', weight: 5 }, 'down', 2, { weight: 2 }],
  ])('of %o, made %s and %d, only what changes is ordered', (set, state, weight, order) => {
    expect(orderOf({ set, fileWeight: 2 }, state, weight)).toEqual(order);
  });

  test('have rates of their own', () => {
    expect(serversOf({ at: 0, stats: stats(1) }, { at: 2, stats: stats(3) })).toMatchObject([{ opened: 4, bits: 800 }]);
  });

  test('each word of the filter must be somewhere; numbers are sorted as numbers', () => {
    const rows = [12, 2, 100].map((weight) => ({
      backend: 'web',
      server: `s${weight}`,
      address: '10.0.0.1:80',
      state: 'up',
      byControl: '',
      lastCheck: 'ok',
      weight,
    }));
    const servers = (found: Row[]) => found.map((row) => row['server']);
    expect(servers(arranged(rows, 'WEB s1'))).toEqual(['s12', 's100']);
    expect(servers(arranged(rows, '', 'weight'))).toEqual(['s2', 's12', 's100']);
    expect(servers(arranged(rows, '', 'server', true))).toEqual(['s100', 's12', 's2']);
    expect(servers(arranged(rows, 'nobody'))).toEqual([]);
  });
});

test.each([
  [0, '0'],
  [7, '7'],
  [0.5, '0.50'],
  [12.34, '12.3'],
  [999.4, '999'],
  [999.6, '1.00 k'],
  [1_234_567, '1.23 M'],
  [45_600_000_000, '45.6 G'],
])('%d is %s', (number, text) => {
  expect(short(number)).toBe(text);
});

describe('the page', () => {
  const app = new Hono();
  const paths = addDashboard(app);

  test('has every part that it names, of its own, and may load no other', async () => {
    const page = await app.request('/');
    const html = await page.text();
    const parts = [...html.matchAll(/(?:src|href)="([^"]+)"/g)]
      .map(([, path]) => path)
      .filter((path) => path !== 'stats' && path !== 'data:,');
    expect(parts.length).toBe(4);
    for (const part of parts) expect(paths).toContain(`/${part}`);
    for (const path of paths) {
      const answer = await app.request(path);
      expect([answer.status, answer.headers.get('x-content-type-options')], path).toEqual([200, 'nosniff']);
      expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(await answer.text()).not.toMatch(/(?:src|href|import|from|url)\s*[(=]?\s*["']?https?:/);
    }
  });

  test.each(['uPlot.iife.min.js', 'uPlot.min.css'])('%s is as its package has it', (name) => {
    const original = createRequire(import.meta.url).resolve('uplot/dist/uPlot.min.css');
    expect(readFileSync(ownFile('dashboard', name), 'utf8')).toBe(readFileSync(join(original, '..', name), 'utf8'));
  });
});
