/** The kernel's fast path, program by program: what it does with a frame is what the pipeline would, to the byte. */
import { expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { TCP, UDP } from '../../src/packet/fields.ts';
import type { Report as RandomReport } from '../lab/kernel-random.ts';
import type { Report } from '../lab/kernel-rows.ts';
import { Lab, type Namespace } from '../lab/lab.ts';
import { MAC } from '../lab/world.ts';

/** Thousands of packets by two appliers: 16 to 23 s alone, and three files run at a time. */
const RANDOM_PATIENCE = 110_000;

const why = fastPathObstacle();

/** Rows that it must have taken a frame of: kinds of packets. */
const TAKEN = [
  'data in both directions',
  'TCP options, urgent pointer, window, TOS, identification stay',
  'Ethernet padding is not forwarded',
  'a connection of a server that has gone down stays',
  'UDP: the first opens a flow',
  'UDP: the smallest, and Ethernet’s padding',
  'UDP: 1472 bytes of payload',
  'UDP: no checksum: none is made',
  'UDP: a checksum that comes out as zero',
  'UDP: nobody answers',
  'the server sees its client, which sees the VIP',
];
/** What only the pipeline forwards, though it has a flow that is established: by a word of the row's description. */
const LEFT = /options|kernel|too big/i;

/** Such as have the same place in the map of XDP's interfaces, and that of the fixtures' (layout/links.ts). */
const INDEX = { front: '257', back: '513' };

/** Rows of which it must have dropped a frame. */
const DROPPED = ['a SYN of a client that may not connect', 'a segment of nobody’s, of such a client', 'a SYN that has not come before'];

/** With the fixtures' interfaces. */
function namespaceOf(lab: Lab): Namespace {
  const balancer = lab.namespace('balancer');
  for (const name of ['front', 'back'] as const)
    balancer.ip('link', 'add', name, 'index', INDEX[name], 'address', MAC[name], 'type', 'veth', 'peer', 'name', `${name}2`);
  return balancer;
}

test('what keeps it away, and has all of this skipped, is not the program itself', () => {
  expect(why ?? '').not.toMatch(/program load failed: (?!Operation not permitted)/);
});

test.skipIf(why !== undefined).each(['tc', 'xdp'])('the packet fixtures by %s', async (program) => {
  await using lab = new Lab();
  const balancer = namespaceOf(lab);
  const report = JSON.parse(await balancer.program('kernel-rows', program, 'front', 'back').line(/^\{/)) as Report;
  expect(report.wrong).toEqual([]);
  expect(TAKEN.filter((row) => !report.taken.some((taken) => taken.startsWith(row)))).toEqual([]);
  expect(DROPPED.filter((row) => !report.dropped.some((dropped) => dropped.startsWith(row)))).toEqual([]);
  expect(report.established.filter((row) => !LEFT.test(row))).toEqual([]);
});

test.skipIf(why === undefined)(`there is a fast path (${why})`, () => undefined);

test.skipIf(why !== undefined).each(['tc', 'xdp'])(
  'random segments and datagrams by %s, and a writer that changes what they go by',
  async (program) => {
    await using lab = new Lab();
    const balancer = namespaceOf(lab);
    const seed = Date.now() & 0xffff;
    const running = balancer.program('kernel-random', program, 'front', 'back', String(seed));
    const report = JSON.parse(await running.line(/^\{/, RANDOM_PATIENCE)) as RandomReport;
    expect(report.wrong, `seed ${seed}`).toEqual([]);
    expect(report.same.map(({ protocol, workers, mode, isInline }) => [protocol, workers, mode, isInline])).toEqual([
      [TCP, 1, 'passthrough', false],
      [TCP, 3, 'passthrough', false],
      [UDP, 3, 'passthrough', false],
      [TCP, 3, 'destination', false],
      [UDP, 3, 'destination', false],
      [TCP, 1, 'destination', true],
      [UDP, 1, 'destination', true],
      [TCP, 1, 'dsrGue', false],
      [TCP, 3, 'dsrGue', false],
      [UDP, 3, 'dsrGue', false],
      [TCP, 3, 'dsrIpip', false],
    ]);
    for (const { plain, large, mode } of report.same) {
      expect(plain, `seed ${seed}`).toBeGreaterThan(100);
      // XDP is before there are any.
      if (program === 'tc' && !/dsr/.test(mode)) expect(large, `seed ${seed}`).toBeGreaterThan(20);
    }
    expect(report.whole.first).toBeGreaterThan(0);
    expect(report.whole.second).toBeGreaterThan(0);
    expect(report.bytes).toEqual([7, 6]);
    expect(report.drops.map(({ workers, isInline }) => [workers, isInline])).toEqual([
      [3, false],
      [1, true],
    ]);
    for (const { denied, firstSyns, wouldDeny } of report.drops)
      expect(Math.min(denied, firstSyns, wouldDeny), `seed ${seed}`).toBeGreaterThan(20);
  },
);
