/** What is said of packets that no capture has, of a data path that is none. */
import { expect, test } from 'vitest';
import { Captures, type CapturesParts } from '../../src/service/captures.ts';
import type { CarriedCapture } from '../../src/service/data-path.ts';
import type { Plan } from '../../src/service/plan.ts';

const PLAN = { frontends: [], backends: [] } as unknown as Plan;

async function captureOf(inKernel: { forwarded: number; dropped: number }) {
  const carried: CarriedCapture = { lost: 0, takesBack: false, read: () => [], follow: () => {}, close: () => Promise.resolve() };
  const path = { mode: 'nat', capture: () => Promise.resolve(carried), packets: () => ({ fastPath: { ...inKernel } }) };
  const captures = new Captures({ path: path as unknown as CapturesParts['path'], plan: () => PLAN, isStopped: () => false });
  return captures.start({ filter: {}, snaplen: 96 } as Parameters<Captures['start']>[0]);
}

test('what the kernel has dropped since it began is said to be absent, as what it has forwarded is', async () => {
  const inKernel = { forwarded: 100, dropped: 50 };
  const capture = await captureOf(inKernel);
  expect((await capture.next())?.note).toBeUndefined();
  inKernel.dropped = 53;
  const dropped = '3 first packets were dropped by the fast path in the kernel and are not here';
  expect((await capture.next())?.note).toBe(dropped);
  inKernel.forwarded = 107;
  const forwarded = '7 packets were forwarded by the fast path in the kernel and are not here; --client=ADDRESS has those of one';
  expect((await capture.next())?.note).toBe(`${dropped}; ${forwarded}`);
  await capture.stop();
});
