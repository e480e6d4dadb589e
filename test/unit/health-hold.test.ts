/** How often what checks say changes a table of GLB's. The clock is given. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import type { Health } from '../../src/health/checker.ts';
import { HealthHold } from '../../src/service/health-hold.ts';

beforeEach(() => vi.useFakeTimers({ now: 0, toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => vi.useRealTimers());

const KEYS = 'balance = "glb"\nhash_key = "12345678901234561234567890123456"\nseed = "34567890123456783456789012345678"';
const configOf = (keys: string) =>
  parseConfig(
    `frontends.web = { listen_addr = "1.1.1.1:80", backend = "web" }\n[backends.web]\n${keys}\nservers.a.addr = "1.2.3.4:80"\nservers.b.addr = "1.2.3.5:80"\n`,
    'f',
    { mode: 'dsr' },
  ).config;
const key = (name: string) => `web / ${name} / 1.2.3.${name === 'a' ? 4 : 5}:80`;

/** Follows a file with these keys; `say` is what checks say, and makes a plan. */
function following(keys: string = KEYS) {
  const health: Record<string, Health> = {};
  const config = configOf(keys);
  const due = vi.fn(() => hold.follow(config, (one) => health[one] ?? 'unknown'));
  const hold = new HealthHold(due);
  const say = (name: string, now: Health) => {
    health[key(name)] = now;
    hold.follow(config, (one) => health[one] ?? 'unknown');
  };
  hold.follow(config, () => 'unknown');
  return { hold, due, say, table: () => ['a', 'b'].map((name) => hold.health('web', key(name))) };
}

test('the first change is taken at once, later ones when ten seconds have passed, as they are by then', () => {
  const { due, say, table, hold } = following();
  say('a', 'up');
  say('b', 'up');
  say('a', 'down');
  expect(table()).toEqual(['down', 'up']);
  vi.advanceTimersByTime(4000);
  say('a', 'up');
  say('b', 'down');
  expect(table()).toEqual(['down', 'up']);
  expect([hold.waits('web', key('a'), 'up'), hold.waits('web', key('b'), 'down'), hold.waits('web', key('b'), 'up')]).toEqual([
    6000,
    6000,
    undefined,
  ]);
  vi.advanceTimersByTime(5999);
  expect(due).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect([due.mock.calls.length, table()]).toEqual([1, ['up', 'down']]);
  vi.advanceTimersByTime(60_000);
  expect(due).toHaveBeenCalledTimes(1);
});

test('a check that flaps changes the table once in that time, and one that is back by then not at all', () => {
  const { say, table, due } = following();
  say('a', 'up');
  let changes = 0;
  for (let last = table()[0], i = 0; i < 100; i++) {
    say('a', i % 2 === 0 ? 'down' : 'up');
    if (table()[0] !== last) changes++;
    last = table()[0];
    vi.advanceTimersByTime(500);
  }
  // 50 s: one at once, and then one at most each 10 s.
  expect(changes).toBeLessThanOrEqual(5);
  vi.advanceTimersByTime(20_000);
  expect(table()[0]).toBe('up');
  due.mockClear();
  say('a', 'down');
  say('a', 'up');
  say('a', 'down');
  expect(table()[0]).toBe('down');
  vi.advanceTimersByTime(60_000);
  expect(due).not.toHaveBeenCalled();
});

test('the first result of a server is taken at once, whatever changed a moment before', () => {
  const { say, table } = following();
  say('a', 'down');
  say('b', 'down');
  expect(table()).toEqual(['down', 'down']);
});

test.each([
  ['another balance', ''],
  ['servers that are not checked', `${KEYS}\nhealth_check = "none"`],
])('%s: nothing is held', (_, keys) => {
  const { say, table } = following(keys);
  say('a', 'down');
  expect(table()).toEqual([undefined, undefined]);
});

test('health_hold = 0: each change is taken', () => {
  const { say, table } = following(`${KEYS}\nhealth_hold = 0`);
  const seen = (['up', 'down', 'up', 'down'] as const).map((now) => {
    say('a', now);
    return table()[0];
  });
  expect(seen).toEqual(['up', 'down', 'up', 'down']);
});
