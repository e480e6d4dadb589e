/**
 * Random first packets by the kernel's fast path, and by the pipeline: the program drops what the pipeline ends as denied, or as a SYN that has not come
 * before, and nothing else; it counts them as the pipeline does; and a plain one that the pipeline ends so it drops. Frontends with lists that drop, that
 * count alone, that are answered, and without; with a flood of SYNs and without.
 */
import fc from 'fast-check';
import type { Access } from '../../src/access/guard.ts';
import { PrefixList } from '../../src/access/prefix-list.ts';
import { prefixTable } from '../../src/access/prefix-table.ts';
import { refusalRow } from '../../src/layout/counters.ts';
import { COLUMNS, DENIED, FIRST_SYNS } from '../../src/layout/early-drop.ts';
import { TCP, UDP } from '../../src/packet/fields.ts';
import * as datagrams from '../fixtures/datagrams.ts';
import { fromClient } from '../fixtures/frames.ts';
import { DROPPED, KernelPath, type KernelPathOptions } from './kernel-path.ts';
import { changed, hex, type Offered, workerOf } from './kernel-same.ts';
import { buildFrame } from './packets.ts';
import { BACK, between, FRONT, frontPort, MAC, type World, worldsOf } from './world.ts';

/** How many it has dropped. */
export interface Drops {
  readonly workers: number;
  readonly isInline: boolean;
  denied: number;
  firstSyns: number;
  /** Of the latter those that a list would have denied. */
  wouldDeny: number;
}

const [RUNS, TURN, TURN_MS] = [600, 10, 300];
/** So many half-open connections are a flood; more are said to be there. */
const FROM = 4;
const ETHERNET = 14;
const SOURCES = [
  '10.0.0.9',
  '10.0.1.1',
  '10.1.0.0',
  '10.255.255.255',
  '192.0.2.77',
  '198.51.100.3',
  '203.0.113.128',
  '0.0.0.0',
  '255.255.255.255',
];

/** 10/8 may connect, and 192.0.2.0/24, but for some of both. */
function lists(more: Partial<Access>): Access {
  const of = (...prefixes: [first: number, bits: number][]) => {
    const list = new PrefixList();
    for (const [first, bits] of prefixes) list.add(4, [first], bits);
    return list;
  };
  const allow = [of([0x0a000000, 8], [0xc0000200, 24])];
  const deny = [of([0x0a010000, 16]), of([0xc0000240, 26], [0x0affffff, 32])];
  return { table: prefixTable({ allow, deny }, 4), sourceRate: 0, sourceMaxconn: 0, sourceBits: 32, resets: false, dryRun: false, ...more };
}

export interface What {
  readonly workers: number;
  readonly isInline: boolean;
  readonly seed: number;
}

export function sameDrops(kernel: KernelPathOptions, { workers, isInline, seed }: What, wrong: string[]): Drops {
  const path = new KernelPath({ ...kernel, workers, isInline });
  const drops: Drops = { workers, isInline, denied: 0, firstSyns: 0, wouldDeny: 0 };
  const inline = isInline ? { inline: between(frontPort(FRONT)) } : {};
  for (const access of [lists({}), lists({ dryRun: true }), lists({ resets: true }), undefined])
    for (const protocol of [TCP, UDP])
      for (const isFlood of protocol === TCP ? [false, true] : [false]) {
        new Int32Array(path.maps.flows).fill(0);
        const worlds = worldsOf(workers, { ...inline, protocol, floodFrom: FROM, ...(access && { access }) }, path.maps);
        for (const { memory } of worlds) memory.syns?.fill(0);
        path.ask(worlds[0].set);
        const what = `${protocol === TCP ? 'TCP' : 'UDP'}, ${workers} workers, ${isInline ? 'between interfaces, ' : ''}${access === undefined ? 'no lists' : JSON.stringify({ ...access, table: undefined })}, ${isFlood ? '' : 'no '}flood`;
        for (const told of offerAll(path, worlds, { protocol, isFlood, seed }, drops)) wrong.push(`${what}: ${told}`);
      }
  path.close();
  return drops;
}

type Kind = Pick<What, 'seed'> & { readonly protocol: number; readonly isFlood: boolean };

/** What is wrong. */
function offerAll(path: KernelPath, worlds: readonly World[], { protocol, isFlood, seed }: Kind, drops: Drops): string[] {
  let now = 0;
  const tick = () => {
    now += TURN_MS;
    for (const world of worlds) {
      world.now = now;
      if (isFlood) world.core.guard.tick(2 * FROM, 0, now);
    }
  };
  for (const { core } of worlds) if (isFlood) for (let i = 0; i < 100 * FROM; i++) core.guard.takes(0, 0, 0, 0, i);
  tick();
  return fc.sample(changed(protocol === TCP ? segments() : requests()), { seed, numRuns: RUNS }).flatMap((offered, i) => {
    if (i % TURN === 0) tick();
    return offer(path, worlds, offered, drops) ?? [];
  });
}

/** What is wrong; undefined: nothing is. */
function offer(path: KernelPath, worlds: readonly World[], { frame, isPlain }: Offered, drops: Drops): string | undefined {
  const worker = workerOf(frame, worlds.length, 'passthrough');
  const world = worlds[worker];
  const { refusals } = world.memory.counters;
  const row = refusalRow(0);
  const before = path.drops(worker, 0);
  const refused = refusals.slice(row, row + COLUMNS);
  const isDropped = path.take(frame) === DROPPED;
  const { verdict, out } = world.sendFrames([{ frame, arrival: { interface: path.arrivesAtBack(frame) ? BACK : FRONT } }])[0];
  const isSilent = out === 'drop' && (verdict === 'denied' || verdict === 'dropFirstSyn');
  // To a frontend that answers even what is not answered goes up: a reset.
  const isAnswering = world.services.frontendOf(0)?.guard?.resets === true && verdict === 'denied';
  if (!isDropped) return isSilent && isPlain && !isAnswering ? `${hex(frame)} up for ${verdict}` : undefined;
  if (!isSilent) return `${hex(frame)} dropped for ${verdict}`;
  const after = path.drops(worker, 0);
  const counted = after.rules.map((number, column) => number - before.rules[column]);
  const expected = Array.from(refused, (number, column) => refusals[row + column] - number);
  drops[verdict === 'denied' ? 'denied' : 'firstSyns']++;
  if (verdict === 'dropFirstSyn' && counted.some((number) => number > 0)) drops.wouldDeny++;
  const column = verdict === 'denied' ? DENIED : FIRST_SYNS;
  const isCounted = after.worker[column] === before.worker[column] + 1 && JSON.stringify(counted) === JSON.stringify(expected);
  return isCounted ? undefined : `${hex(frame)} counted as ${counted.join()} for ${expected.join()}`;
}

/** By which interface it comes, and whose it says that it is. */
const arrival = {
  source: fc.constantFrom(...SOURCES),
  isReply: fc.constantFrom(false, false, false, true),
  padTo: fc.constantFrom(0, 60),
  ttl: fc.constantFrom(64, 1),
};

function offeredOf(packet: Parameters<typeof buildFrame>[0], isReply: boolean): Offered {
  const frame = buildFrame(packet);
  if (isReply) frame.set(MAC.back.split(':').map((byte) => Number.parseInt(byte, 16)));
  return { frame, gso: 0, isReply, isPlain: (frame[ETHERNET] & 0xf) === 5 };
}

/** Few, so that some come again. */
function segments(): fc.Arbitrary<Offered> {
  const tcp = {
    from: fc.constantFrom(5000, 5001),
    to: fc.constantFrom(80, 80, 80, 81),
    flags: fc.constantFrom('S', 'S', 'S', 'SU', 'SA', 'A', 'R', 'F', ''),
  };
  return fc.record({ ...arrival, ...tcp, sequence: fc.constantFrom(1, 0x80000000) }).map(({ source, isReply, padTo, ttl, ...part }) => {
    return offeredOf({ ...fromClient(part, { padTo, ttl }), source }, isReply);
  });
}

function requests(): fc.Arbitrary<Offered> {
  const udp = { from: fc.constantFrom(5000, 5001), to: fc.constantFrom(80, 80, 81, 40000) };
  return fc.record({ ...arrival, ...udp }).map(({ source, isReply, padTo, ttl, ...part }) => {
    return offeredOf({ ...datagrams.fromClient(part, { padTo, ttl }), source }, isReply);
  });
}
