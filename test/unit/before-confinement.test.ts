/** What is done while there are all privileges: programs of an lb4 that is just dying are nobody's only once it is dead. */
import { expect, test, vi } from 'vitest';
import { confineBalancer } from '../../src/cli/confine.ts';
import { prepare } from '../../src/io/before-confinement.ts';

const done: string[] = [];

vi.mock('../../src/io/namespace-lock.ts', () => ({
  deathIsOver: async () => {
    await new Promise((resolve) => setImmediate(resolve));
    done.push('dead');
  },
  isNamespaceFree: () => true,
}));
vi.mock('../../src/io/kept-abandoned.ts', () => ({ removeAbandoned: () => {} }));
vi.mock('../../src/io/pins.ts', () => ({ hasPins: () => false, mountBpffs: () => done.push('mounted') }));
vi.mock('../../src/io/strays.ts', () => ({ removeStrays: () => done.push('removed') }));
vi.mock('../../src/io/confinement.ts', () => ({ isConfined: () => false, confine: () => done.push('confined') }));

test('strays are removed after the death of who had them', async () => {
  done.length = 0;
  await prepare({ isPacketMode: true, mayBeFast: true });
  expect(done).toEqual(['dead', 'removed', 'mounted']);
});

test('nothing is touched for a command line that will be refused, but privileges are given away all the same', async () => {
  done.length = 0;
  await confineBalancer(['--passthrough', '--no-rule']);
  expect(done).toEqual(['confined']);
  await confineBalancer(['--passthrough', '--no-rules']);
  expect(done).toEqual(['confined', 'dead', 'removed', 'confined']);
});
