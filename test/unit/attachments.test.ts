/** How programs come to interfaces and leave them, where something fails in between. */
import { beforeEach, expect, test, vi } from 'vitest';
import { Attachments, type Wanted } from '../../src/io/attachments.ts';
import type { FastPath } from '../../src/io/fast-path.ts';
import type { Interface } from '../../src/io/native.ts';
import { PLACES, PROBES } from '../../src/layout/links.ts';

const failed = (code: string) => Object.assign(new Error(`bpf(): ${code}`), { code });
const raise = (code: string) => (): never => {
  throw failed(code);
};
const LINK = 50;

const kernel = {
  link: (_ifindex: number, hook: string): number => (hook === 'tcx' ? LINK : LINK + 1),
  pinned: (_name: string): number | undefined => undefined,
  unpin: (_name: string): void => {},
  mark: (): void => {},
  done: [] as string[],
  /** Interfaces that the map of them tells of. */
  told: [] as number[],
};
const usual = { ...kernel };
const did = (what: string) => void kernel.done.push(what);

vi.mock('../../src/io/native.ts', () => ({
  native: () => ({
    linkProgram: (_: number, ifindex: number, hook: string, isFirst: boolean) => {
      if (isFirst) did(`first at ${hook} of ${ifindex}`);
      return kernel.link(ifindex, hook);
    },
    linkedInterface: () => 2,
    updateLink: () => {},
    detachLink: (link: number) => did(`detach ${link}`),
    attachClsact: () => true,
    takesRedirected: () => true,
    setElement: (_: number, __: number, element: Uint8Array) => void kernel.told.push(new Uint32Array(element.buffer)[0]),
  }),
}));
vi.mock('../../src/io/pins.ts', () => ({
  openPin: (name: string) => kernel.pinned(name),
  pin: (_: number, name: string) => did(`pin ${name}`),
  unpin: (name: string) => kernel.unpin(name),
  linkPins: () => [],
  standsAtClsact: () => false,
  hasOwnClsact: () => true,
  pinAtClsact: () => kernel.mark(),
  leaveClsact: (index: number) => did(`leave clsact of ${index}`),
}));
vi.mock('node:fs', () => ({ closeSync: (fd: number) => did(`close ${fd}`) }));

beforeEach(() => void Object.assign(kernel, usual, { done: [], told: [] }));

const card = (index: number): Interface => ({
  index,
  name: `eth${index}`,
  mtu: 1500,
  mac: Uint8Array.of(2, 0, 0, 0, 0, index),
  up: true,
  kind: '',
  master: 0,
  link: 0,
  callsIptables: false,
  carrier: true,
});

const attach = (wanted: Wanted, ...indices: number[]) => attachTo(false, wanted, indices);

function attachTo(isInline: boolean, wanted: Wanted, indices: number[]) {
  const said: string[] = [];
  const fastPath = { programs: { links: 9, tc: 10, xdp: 11 } } as unknown as FastPath;
  const attachments = new Attachments(fastPath, wanted, (message) => said.push(message), isInline);
  attachments.follow(indices.map(card));
  return { attachments, said };
}

test('an adopted link keeps its pin: a kill between two would end it', () => {
  kernel.pinned = () => LINK;
  const { attachments } = attach('tc', 2);
  expect([attachments.names('tc'), kernel.done]).toEqual([['eth2'], []]);
});

test('a new one is pinned; at the end it is detached first, since it may have another pin', () => {
  const { attachments } = attach('tc', 2);
  expect(kernel.done.splice(0)).toEqual(['pin tc-2']);
  kernel.unpin = (name) => did(`unpin ${name}`);
  attachments.close(false);
  expect(kernel.done).toEqual(['detach 50', 'unpin tc-2', 'close 50']);
});

test('a pin that cannot be removed keeps no other program standing', () => {
  const { attachments } = attach('tc', 2, 3);
  kernel.done = [];
  kernel.unpin = raise('EROFS');
  expect(() => attachments.close(false)).toThrow('EROFS');
  expect(kernel.done).toEqual(['detach 50', 'close 50', 'detach 50', 'close 50']);
});

test('before tcx: what cannot be marked does not stay', () => {
  Object.assign(kernel, { link: raise('EINVAL'), mark: raise('ENOSPC') });
  const { attachments, said } = attach('tc', 2);
  expect([attachments.names('tc'), kernel.done]).toEqual([[], ['leave clsact of 2']]);
  expect(said).toEqual(['the fast path does not stand at tc of eth2: bpf(): ENOSPC']);
});

test.each([
  ['auto', 'EOPNOTSUPP', []],
  ['auto', 'ENOMEM', ['the fast path does not stand at xdp of eth2: bpf(): ENOMEM']],
  ['xdp', 'EOPNOTSUPP', ['the fast path does not stand at xdp of eth2: bpf(): EOPNOTSUPP']],
] as const)('%s: a driver that refuses XDP with %s', (wanted, code, told) => {
  kernel.link = (_, hook) => (hook === 'tcx' ? LINK : raise(code)());
  const { attachments, said } = attach(wanted, 2);
  expect([attachments.names('tc'), attachments.names('xdp'), said]).toEqual([['eth2'], [], told]);
});

test('between interfaces tc stands before all others: the packet socket has not what it takes', () => {
  attachTo(true, 'tc', [2]);
  expect(kernel.done).toEqual(['first at tcx of 2', 'pin tc-2']);
});

test('an interface that has no place in the map keeps no other from its own', () => {
  const crowd = Array.from({ length: PROBES + 1 }, (_, i) => 2 + i * PLACES);
  const { said } = attachTo(true, 'tc', [...crowd, 11]);
  expect([said, kernel.told.at(-1)]).toEqual([[`the fast path: ${PROBES} others have the places of interface ${crowd.at(-1)}`], 11]);
});

test('what cannot be had is told once as long as it is so, and again where it comes again', () => {
  kernel.link = raise('EBUSY');
  const { attachments, said } = attach('tc', 2);
  const follow = (...indices: number[]) => {
    said.length = 0;
    attachments.follow(indices.map(card));
    return said.map((line) => /(?:tc|xdp) of \w+/.exec(line)?.[0]);
  };
  expect(said).toHaveLength(1);
  expect(follow(2, 3)).toEqual(['tc of eth3']);
  expect(follow(3)).toEqual([]);
  expect(follow(2, 3)).toEqual(['tc of eth2']);
  kernel.link = usual.link;
  expect(follow(2)).toEqual([]);
  attachments.follow([]);
  kernel.link = raise('EBUSY');
  expect(follow(2)).toEqual(['tc of eth2']);
});
