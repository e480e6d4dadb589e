/** Convey's defect in choosing servers: lb4 does not have it. */
import { expect, test } from 'vitest';
import type { EchoReport } from '../lab/client.ts';
import { Live } from '../lab/live.ts';
import { ECHO } from '../lab/topology.ts';
import { PATIENCE } from '../lab/wait.ts';

// Proxy mode's default is no ring: `roundrobin`.
test.each(['passthrough', 'dsr'] as const)('Convey: weights ignored by the consistent ring (%s)', async (mode) => {
  await using live = await Live.start(mode, { weights: [1, 4] });
  const running = live.lab.client.program('client', 'echo', '500', '10', `${live.vip}:${ECHO}`);
  const { servers, errors } = JSON.parse(await running.line(/^\{/, 2 * PATIENCE)) as EchoReport;
  expect(errors).toEqual([]);
  const share = (servers['server2'] ?? 0) / 500;
  expect(share).toBeGreaterThan(0.7);
  expect(share).toBeLessThan(0.9);
});
