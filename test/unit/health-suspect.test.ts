/** Passive signals bring checks forward. Time is vitest's here: nothing waits, and every moment is exact. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Check, CheckResult, Target } from '../../src/health/check.ts';
import { checker, target } from '../lab/health-lab.ts';

beforeEach(() => vi.useFakeTimers({ now: 0, toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] }));
afterEach(() => vi.useRealTimers());

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

/** A server that answers as `outcome` says, after `delayMs`; and when its checks began. */
function server(delayMs = 0) {
  const self = { outcome: 'pass' as CheckResult['outcome'], starts: [] as number[], running: 0, most: 0, check: () => check };
  const check: Check = {
    run: async () => {
      self.starts.push(performance.now());
      self.most = Math.max(self.most, ++self.running);
      if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
      self.running--;
      return { outcome: self.outcome, reason: `checks ${self.outcome}` };
    },
  };
  return self;
}

/** A checker with one target whose first check is over, in the middle of a long interval. */
async function settled(web: ReturnType<typeof server>, more: Partial<Target> = {}) {
  const kit = checker(web.check);
  kit.health.set([target(80, { intervalMs: 10_000, jitter: 0, ...more })]);
  await pass(1000);
  expect(kit.health.state('a')).toBe('up');
  web.starts.length = 0;
  return kit;
}

describe('a suspicion', () => {
  test('brings the next check forward, and the regular ones follow from there', async () => {
    const web = server();
    const { health, told } = await settled(web);
    health.suspect('a', '3 SYNs unanswered');
    await pass(20_000);
    expect(web.starts).toEqual([1000, 11_000, 21_000]);
    expect(told()).toEqual(['a unknown>up']);
  });

  test('changes no state by itself; the change that its check makes names it', async () => {
    const web = server();
    const { health, changes } = await settled(web);
    web.outcome = 'fail';
    health.suspect('a', '3 SYNs unanswered');
    expect(health.state('a')).toBe('up');
    await pass(0);
    expect(changes[1]).toMatchObject({ from: 'up', to: 'down', reason: 'checks fail', suspected: '3 SYNs unanswered' });
    web.outcome = 'pass';
    await pass(10_000);
    expect(changes[2]).toMatchObject({ to: 'up', suspected: undefined });
  });

  test('brings checks no closer together than 250 ms, however many signals there are', async () => {
    const web = server();
    const { health } = await settled(web);
    for (let i = 0; i < 900; i++) {
      health.suspect('a', 'reset');
      await pass(1);
    }
    expect(web.starts).toEqual([1000, 1250, 1500, 1750]);
  });

  test('nor than the interval where that is shorter', async () => {
    const web = server();
    const { health } = await settled(web, { intervalMs: 100 });
    for (let i = 0; i < 950; i++) {
      health.suspect('a', 'reset');
      await pass(1);
    }
    expect(web.starts).toEqual([1100, 1200, 1300, 1400, 1500, 1600, 1700, 1800, 1900]);
  });

  test('during a check is answered by one more, never by two at a time', async () => {
    const web = server(400);
    const { health } = await settled(web);
    health.suspect('a', 'reset'); // begins at 1000
    await pass(10);
    for (let i = 0; i < 5; i++) health.suspect('a', 'reset');
    await pass(5000);
    expect(web.starts).toHaveLength(2);
    expect(web.starts[1]).toBeCloseTo(1400, -1); // a timer takes a millisecond at least
    expect(web.most).toBe(1);
  });

  test('during a check that passes is not forgotten: the next one may name it', async () => {
    const web = server(100);
    const { health, changes } = await settled(web);
    health.suspect('a', 'first');
    await pass(10);
    health.suspect('a', 'second');
    await pass(150); // the first check is over, it passed
    web.outcome = 'fail';
    await pass(300);
    expect(changes[1]).toMatchObject({ to: 'down', suspected: 'second' });
  });

  test('outlives new settings', async () => {
    const web = server();
    const { health } = await settled(web);
    health.suspect('a', 'reset');
    await pass(100);
    health.suspect('a', 'reset');
    health.set([target(80, { intervalMs: 10_000, jitter: 0, fall: 5 })]);
    await pass(5000);
    expect(web.starts).toEqual([1000, 1250]);
  });

  test('has failures confirmed every 250 ms until the server is down', async () => {
    const web = server();
    const { health, told } = await settled(web, { fall: 4 });
    web.outcome = 'fail';
    health.suspect('a', 'reset');
    await pass(749);
    expect(health.state('a')).toBe('up');
    await pass(1);
    expect(web.starts).toEqual([1000, 1250, 1500, 1750]);
    expect(told()).toEqual(['a unknown>up', 'a up>down']);
    await pass(9999); // a server that is down is checked as always
    expect(web.starts).toHaveLength(4);
  });

  test('is over when a check passes: later failures count at the usual pace and name no signal', async () => {
    const web = server();
    const { health, changes } = await settled(web, { fall: 2 });
    health.suspect('a', 'reset');
    await pass(0);
    web.outcome = 'fail';
    await pass(20_000);
    expect(web.starts).toEqual([1000, 11_000, 21_000]);
    expect(changes[1]).toMatchObject({ to: 'down', suspected: undefined });
  });

  test('does not hurry checks that could not be made', async () => {
    const web = server();
    const { health } = await settled(web, { fall: 3 });
    web.outcome = 'fail';
    health.suspect('a', 'reset');
    await pass(100);
    web.outcome = 'unknown';
    await pass(20_000);
    expect(web.starts).toEqual([1000, 1250, 11_250]);
  });

  test('against a server that is down, or against none of ours, changes nothing', async () => {
    const web = server();
    const { health } = await settled(web);
    web.outcome = 'fail';
    await pass(9000);
    expect(health.state('a')).toBe('down');
    health.suspect('a', 'reset');
    health.suspect('b', 'reset');
    await pass(9999);
    expect(web.starts).toEqual([10_000]);
  });

  test('after stop does nothing', async () => {
    const web = server();
    const { health } = await settled(web);
    health.stop();
    health.suspect('a', 'reset');
    await pass(60_000);
    expect(web.starts).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });
});

test('jitter spreads the intervals by its share, and by no more', async () => {
  const web = server();
  await settled(web, { intervalMs: 1000, jitter: 0.5 });
  await pass(300_000);
  const gaps = web.starts.slice(1).map((start, i) => start - web.starts[i]);
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(499);
  expect(Math.min(...gaps)).toBeLessThan(600);
  expect(Math.max(...gaps)).toBeLessThanOrEqual(1501);
  expect(Math.max(...gaps)).toBeGreaterThan(1400);
});
