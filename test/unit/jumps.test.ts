/** Chains of others above lb4's rules, as doctor names them. */
import { expect, test } from 'vitest';
import { acceptingJumps } from '../../src/doctor/jumps.ts';

const OWN = '-A PREROUTING -d 10.71.0.1/32 -p tcp -m tcp --dport 80 -m comment --comment lb4 -j DROP';
const JUMP = '-A PREROUTING -p tcp -j CALI';

test.each([
  ['one that accepts', [JUMP, OWN, '-A CALI -p tcp -j ACCEPT'], [JUMP]],
  ['one that leads to one that accepts', [JUMP, OWN, '-A CALI -g MORE', '-A MORE -j ACCEPT'], [JUMP]],
  ['between two of lb4', [OWN, JUMP, OWN, '-A CALI -j ACCEPT'], [JUMP]],
  ['one that only drops and returns', [JUMP, OWN, '-A CALI -s 10.9.0.0/16 -j DROP', '-A CALI -j RETURN'], []],
  ['below them', [OWN, JUMP, '-A CALI -j ACCEPT'], []],
  ['in another chain', [OWN, '-A OUTPUT -j CALI', '-A CALI -j ACCEPT'], []],
  ['where lb4 has no rule', [JUMP, '-A CALI -j ACCEPT'], []],
  ['in a circle', [JUMP, OWN, '-A CALI -j MORE', '-A MORE -j CALI'], []],
])('a jump to a chain of others: %s', (_, lines, found) => {
  expect(acceptingJumps(['*raw', ':PREROUTING ACCEPT [0:0]', ':CALI - [0:0]', ...lines, 'COMMIT'].join('\n'), 'PREROUTING')).toEqual(found);
});
