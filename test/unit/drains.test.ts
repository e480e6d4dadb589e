/** Who has drained is told, once. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import type { DataPath } from '../../src/service/data-path.ts';
import { Drains } from '../../src/service/drains.ts';
import { Members } from '../../src/service/members.ts';
import { makePlan, type Plan, UNCHECKED } from '../../src/service/plan.ts';

const text = (weight: number, more = '') => `
frontends.web = { listen_addr = "192.0.2.1:80", backend = "app" }
[backends.app]
drain_timeout = 5
[backends.app.servers]
a = { addr = "10.0.0.1:80", weight = ${weight} }
${more}`;
const B = 'b = { addr = "10.0.0.2:80" }';
const load = (toml: string) => parseConfig(toml, 'lb4.toml', { processors: 2 }).config;
const [KEY_A, KEY_B] = ['app / a / 10.0.0.1:80', 'app / b / 10.0.0.2:80'];

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A service's parts around drains: `loads` are the servers' connections, by index. */
function world(toml: string, loads: number[]) {
  const members = new Members(load(toml));
  let plan: Plan = makePlan(load(toml), 'proxy', members, UNCHECKED, undefined);
  const lines: unknown[][] = [];
  const take = (...line: unknown[]) => void lines.push(line);
  const counters = (load: number) => ({ total: 0, current: 0, bytesTx: 0, bytesRx: 0, load });
  const path = { server: (index: number) => counters(loads[index] ?? 0), frontend: () => counters(0) } as unknown as DataPath;
  const renew = async () => void (plan = makePlan(plan.config, 'proxy', members, UNCHECKED, plan));
  const replanner = {
    get plan() {
      return plan;
    },
    inTurn: (work: () => Promise<void>) => work(),
    renew,
  };
  const drains = new Drains({ members, path, replanner, log: { info: take, warn: take } as never });
  drains.follow(true);
  const reload = (next: string) => {
    members.enrol(load(next));
    plan = makePlan(load(next), 'proxy', members, UNCHECKED, plan);
    drains.follow();
  };
  return { lines, loads, reload };
}

const EMPTY = 'server has drained: no connection is left';

test('a server that left the file, when its last connection has ended', async () => {
  const { lines, loads, reload } = world(text(1, B), [0, 3]);
  reload(text(1));
  await vi.advanceTimersByTimeAsync(3000);
  expect(lines).toEqual([]);
  loads[1] = 0;
  await vi.advanceTimersByTimeAsync(20_000);
  expect(lines).toEqual([[{ server: KEY_B }, EMPTY]]);
});

test('one that is out of time, with what ends', async () => {
  const { lines, reload } = world(text(1, B), [0, 3]);
  reload(text(1));
  await vi.advanceTimersByTimeAsync(20_000);
  expect(lines).toEqual([[{ server: KEY_B, connections: 3 }, 'server is out of time (drain_timeout): its connections end']]);
});

test('a server of weight 0, each time that it has got it', async () => {
  const { lines, loads, reload } = world(text(1, B), [2, 0]);
  reload(text(0, B));
  await vi.advanceTimersByTimeAsync(5000);
  expect(lines).toEqual([]);
  loads[0] = 0;
  await vi.advanceTimersByTimeAsync(5000);
  reload(text(0, B));
  await vi.advanceTimersByTimeAsync(5000);
  expect(lines).toEqual([[{ server: KEY_A }, EMPTY]]);
  reload(text(1, B));
  reload(text(0, B));
  await vi.advanceTimersByTimeAsync(5000);
  expect(lines).toHaveLength(2);
});

test('at the start only one that still has connections, of an lb4 that died', async () => {
  const idle = world(text(0, B), [0, 0]);
  const kept = world(text(0, B), [1, 0]);
  await vi.advanceTimersByTimeAsync(1000);
  kept.loads[0] = 0;
  await vi.advanceTimersByTimeAsync(1000);
  expect([idle.lines, kept.lines]).toEqual([[], [[{ server: KEY_A }, EMPTY]]]);
});
