/** Flap damping (RFC 2439). Time is vitest's here. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Target } from '../../src/health/check.ts';
import { Damping, halfLifeOf } from '../../src/health/damping.ts';
import { checker, target } from '../lab/health-lab.ts';

const HALF_LIFE = 100_000;

/** A server that fell at each of `times`. */
function fallen(...times: number[]): Damping {
  const damping = new Damping();
  for (const time of times) damping.flap(time, HALF_LIFE);
  return damping;
}

describe('the penalty', () => {
  test.each([
    [[0], false],
    [[0, 1], false],
    [[0, 1, 2], false],
    [[0, 1, 2, 3], true],
    [[0, 30_000, 60_000, 90_000], true],
    [[0, 50_000, 100_000, 150_000], false],
    [[0, 200_000, 400_000, 600_000, 800_000, 1_000_000], false],
  ])('falls at %j: held %s', (times, held) => {
    expect(fallen(...times).held).toBe(held);
  });

  test('halves every half-life, and holds down to the reuse limit', () => {
    const damping = fallen(0, 0, 0, 0, 0, 0); // 6, the ceiling: two half-lives above 1.5
    expect(damping.remainingMs(HALF_LIFE)).toBeCloseTo(2 * HALF_LIFE);
    damping.ease(2 * HALF_LIFE - 1, HALF_LIFE);
    expect(damping.held).toBe(true);
    damping.ease(2 * HALF_LIFE + 1, HALF_LIFE);
    expect(damping.held).toBe(false);
    expect(damping.remainingMs(HALF_LIFE)).toBe(0);
  });

  test('is never so high that a quiet server is held for more than two half-lives', () => {
    const damping = fallen(...Array.from({ length: 1000 }, (_, i) => i));
    expect(damping.remainingMs(HALF_LIFE)).toBeLessThanOrEqual(2 * HALF_LIFE);
    expect(damping.flaps).toBe(1000);
  });

  test('is forgotten with time, and falls are counted anew', () => {
    const damping = fallen(0, 1, 2);
    expect(damping.flaps).toBe(3);
    damping.flap(5 * HALF_LIFE, HALF_LIFE);
    expect(damping.flaps).toBe(1);
  });

  test('decays by the pace of the checks, in seconds at least', () => {
    expect(halfLifeOf({ intervalMs: 5000, rise: 1, fall: 1 })).toBe(50_000);
    expect(halfLifeOf({ intervalMs: 5000, rise: 2, fall: 2 })).toBe(100_000);
    expect(halfLifeOf({ intervalMs: 100, rise: 1, fall: 1 })).toBe(10_000);
  });
});

describe('a flapping server', () => {
  beforeEach(() => vi.useFakeTimers({ now: Date.UTC(2026, 0, 1), toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] }));
  afterEach(() => vi.useRealTimers());

  const SECOND = 1000;
  const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

  /** Checked every second; `flap(n)` lets it fall and rise so many times, as fast as the checks can tell. */
  async function flapper(more: Partial<Target> = {}) {
    const server = { isUp: true };
    const kit = checker(() => ({
      run: async () => ({ outcome: server.isUp ? 'pass' : 'fail', reason: server.isUp ? 'fine' : 'broken' }),
    }));
    const { rise = 1, fall = 1 } = more;
    kit.health.set([target(80, { intervalMs: SECOND, jitter: 0, ...more })]);
    await pass(0);
    const flap = async (times: number) => {
      for (let i = 0; i < times; i++) {
        server.isUp = false;
        await pass(fall * SECOND);
        server.isUp = true;
        await pass(rise * SECOND);
      }
    };
    return { ...kit, server, flap };
  }

  test.each([
    [1, 1],
    [2, 2],
    [5, 3],
  ])('that falls twice or thrice is taken back at once (rise %i, fall %i)', async (rise, fall) => {
    const { health, flap, warn } = await flapper({ rise, fall });
    await flap(2);
    expect(health.state('a')).toBe('up');
    await flap(1);
    expect(health.state('a')).toBe('up');
    expect(warn).not.toHaveBeenCalled();
  });

  test.each([
    [1, 1],
    [2, 2],
    [5, 3],
  ])('that falls four times is held down, with one line (rise %i, fall %i)', async (rise, fall) => {
    const { health, flap, warn, changes } = await flapper({ rise, fall });
    await flap(4);
    await pass(5 * SECOND);
    expect(health.state('a')).toBe('down');
    expect(health.damped('a')).toBe(true);
    expect(health.describe('a')).toMatchObject({ state: 'down', damped: true, lastReason: 'fine', changes: 8 });
    expect(changes.at(-1)).toMatchObject({ from: 'up', to: 'down', reason: 'broken' });
    expect(warn.mock.calls).toEqual([
      [
        { server: 'a', address: '127.0.0.1:80' },
        expect.stringMatching(/^server is held down: it flapped 4 times; until about 2026-01-01T00:\d\d:\d\d\.\d{3}Z$/) as string,
      ],
    ]);
  });

  test('comes up again about when the line said, by one change', async () => {
    const { health, flap, warn, changes } = await flapper();
    await flap(4);
    const until = Date.parse(String(warn.mock.calls[0]?.[1]).replace(/^.* about /, ''));
    await pass(until - Date.now() - SECOND);
    expect(health.state('a')).toBe('down');
    await pass(2 * SECOND);
    expect(health.state('a')).toBe('up');
    expect(health.damped('a')).toBe(false);
    expect(changes.at(-1)).toMatchObject({ from: 'down', to: 'up', reason: 'fine; no longer held down' });
    expect(warn).toHaveBeenCalledTimes(1);
  });

  test('that goes on flapping while it is held stays held, without a word, for at most two half-lives after', async () => {
    const { health, flap, warn, changes } = await flapper();
    await flap(4);
    const told = changes.length;
    await flap(60);
    expect(health.state('a')).toBe('down');
    expect(changes).toHaveLength(told);
    expect(warn).toHaveBeenCalledTimes(1);
    await pass(21 * SECOND);
    expect(health.state('a')).toBe('up');
  });

  test('that is down when the hold ends comes up when its checks pass', async () => {
    const { health, server, flap } = await flapper({ rise: 3 });
    await flap(4);
    server.isUp = false;
    await pass(200 * SECOND);
    expect(health.damped('a')).toBe(false);
    expect(health.state('a')).toBe('down');
    server.isUp = true;
    await pass(3 * SECOND);
    expect(health.state('a')).toBe('up');
  });

  test('is not hurried by suspicions while it is held', async () => {
    const { health, flap } = await flapper();
    await flap(4);
    const before = vi.getTimerCount();
    for (let i = 0; i < 100; i++) health.suspect('a', 'reset');
    expect(vi.getTimerCount()).toBe(before);
    expect(health.state('a')).toBe('down');
  });

  test('being down at the start is no flap', async () => {
    const { health, server, flap } = await flapper();
    health.set([]);
    server.isUp = false;
    health.set([target(80, { intervalMs: SECOND, jitter: 0 })]);
    await pass(SECOND);
    server.isUp = true;
    await pass(SECOND);
    await flap(3);
    expect(health.state('a')).toBe('up');
  });
});
