/** What another process knew of a server is where this one begins. */
import { expect, test } from 'vitest';
import { HealthState } from '../../src/health/health-state.ts';
import { target } from '../lab/health-lab.ts';

test('a server that was down stays down until `rise` checks pass, and its counts go on', () => {
  const last = new HealthState();
  const server = { ...target(80), rise: 2, fall: 1 };
  last.learn({ outcome: 'pass', reason: 'connected' }, server, 0);
  last.learn({ outcome: 'fail', reason: 'refused' }, server, 1);
  const next = new HealthState(last.description());
  expect(next.description()).toEqual({ ...last.description(), state: 'down', failures: 1, changes: 2, falls: 1, lastReason: 'refused' });
  expect(next.learn({ outcome: 'pass', reason: 'connected' }, server, 2)).toBeUndefined();
  expect(next.health).toBe('down');
  expect(next.learn({ outcome: 'pass', reason: 'connected' }, server, 3)).toMatchObject({ from: 'down', to: 'up' });
});
