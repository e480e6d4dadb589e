/** `lb4 top`: what its screen shows, in any size, and what keys make of it. */
import { stripVTControlCharacters as plain } from 'node:util';
import { describe, expect, test } from 'vitest';
import { ratesBetween } from '../../src/cli/rates.ts';
import { FIRST_VIEW, type Key, press, type TopView } from '../../src/cli/top-keys.ts';
import { arranged, COLUMNS, type Glance, glanceOf } from '../../src/cli/top-rows.ts';
import { pageOf, topLines, topText } from '../../src/cli/top-screen.ts';
import { listOf, statusOf } from '../../src/control/listing.ts';
import type { Orders } from '../../src/control/orders.ts';
import type { ServerView } from '../../src/control/source.ts';
import { backendOf, countersOf, PACKETS, serverOf, sourceOf, viewOf } from '../lab/control-world.ts';

function ordersOf(servers: readonly ServerView[], total = 0, dropped = 0): Orders {
  const packets = { ...PACKETS, received: total, verdicts: { forwarded: 12, dropStray: dropped } };
  return {
    source: sourceOf('passthrough', {
      frontends: [],
      servers: servers.map((_, i) => countersOf(total * i, i, 1000 * total * i, total)),
      packets,
    }),
    view: () => viewOf({ backends: [backendOf('web', servers)] }),
    about: () => ({ version: '1.2.3', pid: 7, mode: 'passthrough', file: '/etc/lb4.toml', uptime: 3700, statistics: null }),
  } as Partial<Orders> as Orders;
}

/** After two seconds, in each of which each server had as many new connections as its place. */
function glance(servers: readonly ServerView[]): Glance {
  const [before, after] = [ordersOf(servers), ordersOf(servers, 2, 4)];
  return glanceOf(statusOf(after), ratesBetween(listOf(before), listOf(after), 2));
}

const SERVERS = [
  serverOf('a', 0, { set: { weight: 5 }, weight: 5 }),
  serverOf('b', 1, { state: 'down', lastCheck: 'connection \u001b[2Jrefused', lastResult: 'fail', lastCheckAge: 61.5 }),
  serverOf('c', 2, { silent: true }),
  serverOf('d', 3, { state: 'drain', weight: 0 }),
];
const FOUR = glance(SERVERS);
const WIDE = { width: 130, height: 20, hasColours: false };

/** What a user sees after some keys. */
function after(keys: readonly (string | Key)[], from: Glance = FOUR, view: TopView | undefined = FIRST_VIEW): TopView | undefined {
  let now: TopView | undefined = view;
  for (const key of keys) {
    if (now === undefined) return undefined;
    const rows = arranged(from.rows, now.filter, now.column, now.isDown);
    now = press(
      now,
      typeof key === 'string' ? { name: key, text: key.length === 1 ? key : undefined } : key,
      rows,
      pageOf(from, WIDE, undefined),
    );
  }
  return now;
}

/** The servers on the screen, in order. */
function seen(view: TopView | undefined, from = FOUR, screen = WIDE): string[] {
  const lines = topLines(from, view ?? FIRST_VIEW, screen).slice(0, -2);
  return lines.flatMap((line) => /^\S+ +(web\/\S+)/.exec(plain(line))?.[1] ?? []);
}

test('totals, rates, drops, and a row a server, with a sign for each state', () => {
  const lines = topLines(FOUR, FIRST_VIEW, WIDE).map((line) => plain(line).trimEnd());
  expect(lines.slice(0, 8)).toEqual([
    'lb4 1.2.3, passthrough, up 1 h 1 min; servers: 2 up, 1 drain, 1 down',
    '0 connections, 0 new/s, 0 bit/s in, 0 bit/s out, 1 packets/s',
    'dropped or refused a second: dropStray 2',
    'Prot  Server  Address     State     Weight  Sessions  New/s  In bit/s  Out bit/s Last check',
    'tcp   web/a   10.0.0.0:80 ▲ up           5         0      0         0          8 weight 5 by control; connected in 0.3 ms',
    'tcp   web/b   10.0.0.1:80 ▼ down         1         1      1      8000          8 fail, 1 min 1 s ago: connection ?[2Jrefused',
    'tcp   web/c   10.0.0.2:80 ∅ silent       1         2      2     16.0K          8 silent; connected in 0.3 ms',
    'tcp   web/d   10.0.0.3:80 ◐ drain        0         3      3     24.0K          8 connected in 0.3 ms',
  ]);
  expect(lines).toHaveLength(WIDE.height);
  expect(lines.at(-2)).toBe('web/a 10.0.0.0:80: weight 5 by control; connected in 0.3 ms');
  expect(lines.at(-1)).toMatch(/^4 servers .* q quit$/);
  // Without a screen: the same, without a mark, a colour or an end.
  expect(topText(FOUR)).toContain('\ntcp   web/b   10.0.0.1:80  ▼ down ');
  expect(topText(FOUR)).not.toContain('\u001b');
});

test.each([
  [0, 0],
  [1, 1],
  [20, 5],
  [80, 24],
  [300, 100],
])('a screen of %i × %i is not left', (width, height) => {
  for (const view of [FIRST_VIEW, { ...FIRST_VIEW, isTyping: true, filter: 'x'.repeat(90) }]) {
    const lines = topLines(FOUR, view, { width, height, hasColours: true }, 'no answer');
    expect(lines.length).toBeLessThanOrEqual(height);
    for (const line of lines) expect(plain(line).length).toBeLessThanOrEqual(width);
  }
});

test('colours stand beside the signs, where they are wanted; the marked row is turned over', () => {
  const lines = topLines(FOUR, FIRST_VIEW, { ...WIDE, hasColours: true });
  expect(lines[5]).toContain('\u001b[31m▼ down\u001b[0m');
  expect(lines[7]).toContain('\u001b[33m◐ drain\u001b[0m');
  expect(lines[4]?.startsWith('\u001b[7m')).toBe(true);
  expect(topLines(FOUR, FIRST_VIEW, WIDE).join('')).not.toContain('\u001b[3');
});

test('what is wrong stands above the table', () => {
  const stopping = { ...FOUR, status: { ...FOUR.status, stopping: true, host: ['firewall rules: one\nis missing'] } };
  const lines = topLines(stopping, FIRST_VIEW, WIDE, 'no answer for 3 s').map(plain);
  expect(lines.filter((line) => line.startsWith('!'))).toEqual([
    '! no answer for 3 s',
    '! it stops: no new connections are taken',
    '! firewall rules: one?is missing',
  ]);
  expect(lines).toHaveLength(WIDE.height);
});

describe('keys', () => {
  test('left and right sort by the next column, numbers the largest first, and round to the order of the file', () => {
    expect(seen(after(['right', 'right']))).toEqual(['web/a', 'web/b', 'web/c', 'web/d']);
    expect(seen(after(['right', 'right', 'r']))).toEqual(['web/d', 'web/c', 'web/b', 'web/a']);
    const rate = COLUMNS.findIndex(({ head }) => head === 'New/s');
    const sorted = after(Array.from({ length: rate + 1 }, () => 'right'));
    expect(sorted).toMatchObject({ column: rate, isDown: true });
    expect(seen(sorted)).toEqual(['web/d', 'web/c', 'web/b', 'web/a']);
    expect(topLines(FOUR, sorted ?? FIRST_VIEW, WIDE)[3]).toContain('New/s↓');
    expect(after(['left'])?.column).toBe(COLUMNS.length - 1);
    expect(after(['left', 'right'])?.column).toBeUndefined();
  });

  test('the mark moves, stays in the table, and with its server when the order changes', () => {
    expect(after(['down', 'down'])).toMatchObject({ place: 2 });
    expect(after(['up'])).toMatchObject({ place: 0 });
    expect(after(['end', 'down'])).toMatchObject({ place: 3 });
    const marked = after(['down', 'right', 'right', 'r']);
    expect(plain(topLines(FOUR, marked ?? FIRST_VIEW, WIDE).at(-2) ?? '')).toMatch(/^web\/b /);
  });

  test('a filter: each word is somewhere; Enter keeps it, Esc drops it, and letters are no orders meanwhile', () => {
    const typed = after(['/', ...'dow', { name: 'q', text: 'q' }, 'backspace', ...'n refused']);
    expect(typed).toMatchObject({ isTyping: true, filter: 'down refused' });
    expect(seen(typed)).toEqual(['web/b']);
    const kept = after([{ name: 'return', text: '\r' }], FOUR, typed);
    expect(kept).toMatchObject({ isTyping: false, filter: 'down refused' });
    expect(topLines(FOUR, kept ?? FIRST_VIEW, WIDE).at(-1)).toContain('1 of 4 servers  filter: down refused');
    expect(after(['escape'], FOUR, kept)).toMatchObject({ filter: '' });
    expect(after([{ name: 'escape', text: '\u001b' }], FOUR, kept)).toMatchObject({ filter: '' });
    expect(after([{ name: 'escape', text: '\u001b' }], FOUR, typed)).toMatchObject({ filter: '', isTyping: false });
    const none = after(['/', ...'nobody']);
    expect(topLines(FOUR, none ?? FIRST_VIEW, WIDE).at(-2)).toBe('no server fits');
    expect(after(['down'], FOUR, none)?.place).toBe(0);
  });

  test.each([['q'], [{ name: 'c', ctrl: true, text: '\u0003' }], [{ name: 'd', ctrl: true }]])('%j ends it', (key) => {
    expect(after([key as Key])).toBeUndefined();
    // A filter has letters.
    if (typeof key === 'object') expect(after(['/', key as Key])).toBeUndefined();
  });
});

test('of thousands of servers only those seen are drawn, around the mark', () => {
  const many = glance(Array.from({ length: 5000 }, (_, i) => serverOf(`s${i}`, i)));
  const end = after(['end'], many);
  expect(seen(end, many).at(-1)).toBe('web/s4999');
  expect(seen(after(['pageup'], many, end), many)).toContain(`web/s${4999 - pageOf(many, WIDE, undefined)}`);
  expect(topLines(many, end ?? FIRST_VIEW, WIDE)).toHaveLength(WIDE.height);
});
