/** Whose end `lb4 wait` may wait for: `weight` is what is in effect, as explain.ts has it. */
import { expect, test } from 'vitest';
import { isOut } from '../../src/cli/wait.ts';

const HERE = { leaving: false, set: null, weight: 1 };

test.each([
  ['takes connections', HERE, false],
  ['starts slowly', { ...HERE, weight: 0.1 }, false],
  ['has another weight by control', { ...HERE, set: { weight: 5 }, weight: 5 }, false],
  ['has left the file', { ...HERE, leaving: true }, true],
  ['drains by control', { ...HERE, set: { state: 'drain' as const }, weight: 0 }, true],
  ['is down by control', { ...HERE, set: { state: 'down' as const } }, true],
  ['has weight 0 by whomever, or is draining or inactive in the file', { ...HERE, weight: 0 }, true],
])('a server that %s', (_, server, out) => expect(isOut(server)).toBe(out));
