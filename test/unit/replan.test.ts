/** When plans are made: one piece of work after the other, not too often, and again where one was refused. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Replanner } from '../../src/service/replan.ts';

/** What happens, in order. A plan is the number of the one made last; making it takes `cost` ms, and `refusals` of them are refused. */
const world = { now: 0, made: 0, cost: 0, refusals: 0, events: [] as string[] };

beforeEach(() => {
  vi.useFakeTimers();
  Object.assign(world, { now: 0, made: 0, cost: 0, refusals: 0, events: [] });
  vi.spyOn(performance, 'now').mockImplementation(() => world.now);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function replanner() {
  return new Replanner<number>({
    first: 0,
    make: () => {
      world.now += world.cost;
      return ++world.made;
    },
    apply: async (plan) => {
      if (world.refusals-- > 0) throw new Error(`${plan} refused`);
      world.events.push(`${plan} at ${world.now}`);
    },
    complain: (error) => world.events.push(String(error)),
  });
}

async function pass(ms: number): Promise<void> {
  for (let i = 0; i < ms; i++) {
    world.now++;
    await vi.advanceTimersByTimeAsync(1);
  }
}

test('many changes make one plan, at once', async () => {
  const replan = replanner();
  expect(replan.plan).toBe(0);
  for (let i = 0; i < 1000; i++) replan.request();
  await pass(100);
  expect(world.events).toEqual(['1 at 1']);
  expect(replan.plan).toBe(1);
});

test('plans that take 50 ms to make come 150 ms apart, and the last change is in the last of them', async () => {
  world.cost = 50;
  const replan = replanner();
  for (let i = 0; i < 400; i++) {
    replan.request();
    await pass(1);
  }
  await pass(200);
  const times = world.events.map((event) => Number(event.split(' ')[2]));
  expect(times.length).toBeGreaterThan(1);
  for (const [i, time] of times.slice(1).entries()) expect(time - 50 - (times[i] ?? 0)).toBeGreaterThanOrEqual(150);
  expect(replan.plan).toBe(world.made);
});

test('a plan that is refused is told, made again after a second, and the last one stays in force meanwhile', async () => {
  world.refusals = 2;
  const replan = replanner();
  replan.request();
  await pass(500);
  expect(world.events).toEqual(['Error: 1 refused']);
  expect(replan.plan).toBe(0);
  await pass(2000);
  expect(world.events).toEqual(['Error: 1 refused', 'Error: 2 refused', expect.stringMatching(/^3 at /)]);
  expect(replan.plan).toBe(3);
});

test('one piece of work after the other, also after one that fails', async () => {
  const replan = replanner();
  const work =
    (name: string, fails = false) =>
    async () => {
      world.events.push(`${name} begins`);
      await new Promise((resolve) => setTimeout(resolve, 10));
      world.events.push(`${name} ends`);
      if (fails) throw new Error(name);
    };
  const done = [replan.inTurn(work('a', true)), replan.inTurn(work('b'))];
  replan.request();
  await pass(50);
  await Promise.all(done);
  expect(world.events).toEqual(['a begins', 'a ends', 'Error: a', 'b begins', 'b ends', expect.stringMatching(/^1 at /)]);
});

test('who applies a plan itself is told that it is refused, and no other is made', async () => {
  world.refusals = 1;
  const replan = replanner();
  await expect(replan.apply(7)).rejects.toThrow('7 refused');
  expect(replan.plan).toBe(0);
  await replan.apply(8);
  await pass(2000);
  expect([replan.plan, world.made]).toEqual([8, 0]);
});

test('once stopped nothing begins any more, and what is under way is waited for', async () => {
  const replan = replanner();
  const steps: string[] = [];
  let finish = () => {};
  void replan.inTurn(() => new Promise((resolve) => (finish = resolve)));
  void replan.inTurn(async () => void steps.push('queued before the stop'));
  replan.request();
  await pass(1);
  const stopped = replan.stop().then(() => steps.push('stopped'));
  void replan.inTurn(async () => void steps.push('queued after the stop'));
  replan.request();
  await pass(10);
  expect(steps).toEqual([]);
  finish();
  await stopped;
  await pass(2000);
  expect([steps, world.made, replan.isStopped]).toEqual([['stopped'], 0, true]);
});
