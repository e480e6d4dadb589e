/** An lb4 that was killed: whatever else is well on this host, nobody forwards. */
import { deadHolder, isNamespaceFree, nameOf } from '../io/namespace-lock.ts';
import { hasPins } from '../io/pins.ts';
import { type Finding, fail } from './finding.ts';

/** Its rules are there, as they should be, and drop what clients send. @param file the configuration's */
export function killed(file: string): Finding[] {
  const dead = deadHolder();
  if (dead === undefined) return leftPins(file);
  const waits = dead.rules === false ? 'its connections wait' : 'its rules drop what clients send, its connections wait';
  return [
    fail(
      'killed',
      `${nameOf(dead)} was killed here and nobody has taken its place: ${waits}`,
      `start it again; or, never to: lb4 rules --remove --config=${file}`,
    ),
  ];
}

/** Whoever cleans up /run takes away what a dead lb4 has said there of itself, but not its programs. */
function leftPins(file: string): Finding[] {
  if (!hasPins() || !isNamespaceFree()) return [];
  const message = 'a fast path is pinned here that belongs to no lb4: its programs go on with the connections that they know';
  return [fail('killed', message, `start lb4, which replaces it; or, never to: lb4 rules --remove --config=${file}`)];
}
