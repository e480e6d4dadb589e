/** From when on a running lb4 listens for answers. */
import { afterEach, expect, test, vi } from 'vitest';
import type { DataPath } from '../../src/service/data-path.ts';
import { Listening } from '../../src/service/listening.ts';
import type { Plan } from '../../src/service/plan.ts';

afterEach(() => vi.useRealTimers());

test.each([
  ['tcp', 'servers pass their health checks, yet answer none of 3 connections or more'],
  ['none', 'servers that are not checked answer none of 3 connections or more'],
])('connections of the first second count; servers are checked by: %s', (type, line) => {
  vi.useFakeTimers();
  const told: unknown[] = [];
  const health = { passedAt: () => (type === 'none' ? undefined : performance.now()), suspect: () => {} };
  const listening = new Listening({
    mode: 'dsr',
    health,
    log: { info: () => {}, warn: (_: unknown, text: unknown) => told.push(text) } as never,
  });
  const server = { key: 'a', index: 0, draining: false, state: 'up', server: { addr: { ip: '192.0.2.9', family: 4 } } };
  const backend = { name: 'app', healthCheck: { type } };
  const plan = { frontends: [], backends: [{ backend, servers: [server] }] } as unknown as Plan;
  let due = 0;
  listening.start({ answers: () => ({ due, answered: 0 }) } as unknown as DataPath, () => plan);
  due = 4;
  vi.advanceTimersByTime(5000);
  listening.stop();
  expect(told).toEqual([line]);
});
