/** An lb4 that was killed: whatever else is well on this host, nobody forwards. */
import { deadHolder, nameOf } from '../io/namespace-lock.ts';
import { type Finding, fail } from './finding.ts';

/** Its rules are there, as they should be, and drop what clients send. @param file the configuration's */
export function killed(file: string): Finding[] {
  const dead = deadHolder();
  if (dead === undefined) return [];
  const waits = dead.rules === false ? 'its connections wait' : 'its rules drop what clients send, its connections wait';
  return [
    fail(
      'killed',
      `${nameOf(dead)} was killed here and nobody has taken its place: ${waits}`,
      `start it again; or, never to: lb4 rules --remove --config=${file}`,
    ),
  ];
}
