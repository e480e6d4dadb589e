/** What an lb4 that died has left at interfaces, and nobody has pinned here. */
import { beforeEach, expect, test, vi } from 'vitest';
import { removeStrays } from '../../src/io/strays.ts';

const OURS = 7;
const FOREIGN = 8;
const ETH0 = 2;
/** A program with a link at another interface, too. */
const LINKS: Record<number, number> = { 50: ETH0, 51: 3 };

const failed = (code: string) => Object.assign(new Error(`bpf(): ${code}`), { code });

const kernel = {
  tcx: (): number[] => [],
  xdp: 0,
  clsact: 0,
  name: (id: number) => (id === OURS ? 'lb4_tc' : 'cil_from_netdev'),
  links: (): number[] => Object.keys(LINKS).map(Number),
  done: [] as string[],
};

vi.mock('../../src/io/native.ts', () => ({
  native: () => ({
    RouteSocket: class {
      interfaces = () => [{ index: ETH0, name: 'eth0' }];
      close = () => {};
    },
    tcxPrograms: () => kernel.tcx(),
    xdpProgram: () => kernel.xdp,
    clsactProgram: () => kernel.clsact,
    programName: (id: number) => kernel.name(id),
    openLinks: () => kernel.links(),
    linkedInterface: (link: number) => LINKS[link],
    detachLink: (link: number) => kernel.done.push(`detach ${link}`),
  }),
}));
vi.mock('../../src/io/pins.ts', () => ({ leaveClsact: (index: number) => kernel.done.push(`clsact ${index}`) }));
vi.mock('node:fs', () => ({ closeSync: (fd: number) => kernel.done.push(`close ${fd}`) }));

const NOTHING = { ...kernel };
beforeEach(() => void Object.assign(kernel, NOTHING, { done: [] }));

const DETACHED = ['detach 50', 'close 50', 'close 51'];

test.each([
  ['nothing', {}, []],
  ['tcx', { tcx: () => [FOREIGN, OURS] }, DETACHED],
  ['XDP', { xdp: OURS }, DETACHED],
  ['another’s XDP', { xdp: FOREIGN }, []],
  ['cls_bpf, before Linux 6.6', { tcx: () => raise('EINVAL'), clsact: OURS }, ['clsact 2']],
  ['cls_bpf where lb4 does not use it', { clsact: OURS }, []],
])('%s', (_, state, done) => {
  Object.assign(kernel, state);
  removeStrays(true);
  expect(kernel.done).toEqual(done);
});

test.each([
  ['it has no link', () => [], 'it has no link'],
  ['its link may not be had', () => raise('EPERM'), 'bpf(): EPERM'],
])('what cannot be taken away is an error that says where it stands: %s', (_, links, why) => {
  Object.assign(kernel, { tcx: () => [OURS], links });
  expect(() => removeStrays(false)).toThrow(`another lb4's program 7 stands at tcx of eth0 and cannot be taken away: ${why}; as root`);
});

test.each([
  ['whose names it may not ask', { tcx: () => [OURS], name: (id: number) => `program ${id}` }, 'program 7 stands at tcx of eth0'],
  ['that it may not ask for', { tcx: () => raise('EPERM') }, 'bpf(): EPERM'],
])('programs %s count only where there may be some', (_, state, why) => {
  Object.assign(kernel, state);
  removeStrays(false);
  expect(() => removeStrays(true)).toThrow(why);
  expect(kernel.done).toEqual([]);
});

function raise(code: string): never {
  throw failed(code);
}
