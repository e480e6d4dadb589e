/** What root's lb4 takes from its command line before anything is loaded: it must know every option that lb4 itself has. */
import { expect, test } from 'vitest';
import { balancerArguments, FLAGS } from '../../src/cli/balancer-arguments.ts';
import { makeProgram } from '../../src/cli/program.ts';

test('it knows every option of lb4 itself', () => {
  const names = makeProgram('0', async () => {}).options.flatMap(({ short, long }) => [short, long]);
  expect([...FLAGS].sort()).toEqual(names.filter((name) => name !== undefined && !['--config', '-v', '--version'].includes(name)).sort());
});

test.each([
  [[], { isKnown: true, isPacketMode: false, hasRules: false }],
  [['-p'], { isKnown: true, isPacketMode: true, hasRules: true }],
  [['--dsr', '--no-rules', '--config=a'], { isKnown: true, isPacketMode: true, hasRules: false, config: 'a' }],
  [['--fan-out', '--config', 'a'], { isKnown: true, isPacketMode: false, hasRules: true, config: 'a' }],
  [['--passthrough', '--dsr'], { isKnown: false }],
  [['--passthrough', '--fan-out'], { isKnown: false }],
  [['--passthrough', '--fast'], { isKnown: false }],
  [['--passthrough', '--config'], { isKnown: false }],
  [['--config='], { isKnown: false }],
  [['--config', '--dsr'], { isKnown: true, isPacketMode: false, config: '--dsr' }],
])('%j', (args, expected) => expect(balancerArguments(args)).toMatchObject(expected));

test.each([
  ['/dev/fd/3', 3],
  ['/proc/self/fd/15', 15],
  ['/dev/fd/', undefined],
  ['/dev/fd/3/a', undefined],
  ['/etc/lb4.toml', undefined],
])('--config=%s is read from the descriptor %s', (file, descriptor) => {
  expect(balancerArguments([`--config=${file}`]).descriptor).toBe(descriptor);
});
