/** Whether those who forward live: with workers that are none (real ones: test/netns/engine.test.ts, proxy-lifecycle.test.ts). */
import { expect, test, vi } from 'vitest';
import { Pulse } from '../../src/service/pulse.ts';

/** Workers that answer when they are told to. */
function crew(count: number) {
  const asked = Array.from({ length: count }, (): (() => void)[] => []);
  const log = { info: vi.fn(), warn: vi.fn() };
  const [beat, hangs] = [vi.fn(), vi.fn()];
  const pulses = asked.map((list) => () => new Promise<void>((resolve) => list.push(resolve)));
  const pulse = new Pulse({ pulses, beat, hangs, log });
  pulse.start();
  /** Those answer all that they were asked, then is the next look. */
  const look = async (...answering: number[]) => {
    for (const worker of answering) for (const answer of asked[worker].splice(0)) answer();
    await Promise.resolve();
    pulse.look();
  };
  return { pulse, look, log, beat, hangs, asked };
}

test('a beat comes at each look at which all have answered, and not before one has', async () => {
  const { pulse, look, beat, log } = crew(2);
  await look(0);
  expect(beat).not.toHaveBeenCalled();
  await look(0, 1);
  await look(0, 1);
  expect(beat).toHaveBeenCalledTimes(2);
  expect(log.warn).not.toHaveBeenCalled();
  pulse.stop();
});

test('a worker that hangs starves it, is told once, and once more when it answers; the others are asked all the while, it is not', async () => {
  const { pulse, look, beat, hangs, log, asked } = crew(2);
  for (let i = 0; i < 4; i++) await look(0);
  expect(log.warn).not.toHaveBeenCalled();
  for (let i = 0; i < 10; i++) await look(0);
  expect(log.warn.mock.calls).toEqual([[{ worker: 1, seconds: 5 }, expect.stringContaining('does not answer')]]);
  expect([beat.mock.calls.length, asked[0].length, asked[1].length]).toEqual([0, 1, 1]);
  expect(hangs.mock.calls).toEqual([[true]]);
  await look(0, 1);
  expect(hangs.mock.calls).toEqual([[true], [false]]);
  expect(log.info.mock.calls).toEqual([[{ worker: 1 }, 'the worker answers again']]);
  expect(beat).toHaveBeenCalledTimes(1);
  pulse.stop();
});

test('what ends with lb4 answers nobody', async () => {
  const { pulse, look, log } = crew(1);
  for (let i = 0; i < 6; i++) await look();
  pulse.stop();
  await look(0);
  expect(log.info).not.toHaveBeenCalled();
});
