/**
 * Properties of the kernel's fast path, in a network namespace whose interfaces have the fixtures' addresses. Prints a line of JSON.
 *
 *     same    whatever frame comes: the program passes it up unchanged, or does with it what the pipeline does, to the byte (kernel-same.ts)
 *     whole   while another thread changes a flow and its hop all the time: a packet leaves by one state of them, never by half of two
 *     bytes   of a flow are counted in 64 bits
 *     drops   of first packets: those that the pipeline would end without a word, no others, counted as it does (kernel-drops.ts)
 *
 *     node kernel-random.js tc|xdp FRONT BACK SEED
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { writeHop } from '../../src/forward/next-hops.ts';
import { mapAll } from '../../src/io/fast-path.ts';
import { interfacesNow } from '../../src/io/interfaces.ts';
import * as Flow from '../../src/layout/flow.ts';
import { TCP, UDP } from '../../src/packet/fields.ts';
import { fromClient } from '../fixtures/frames.ts';
import { type Drops, sameDrops } from './kernel-drops.ts';
import { KernelPath, type Program } from './kernel-path.ts';
import { sameBytes, type Taken, type What } from './kernel-same.ts';
import { tableChanges, WRAPPED, type Wrapped } from './kernel-wrapped.ts';
import { buildFrame, pattern } from './packets.ts';
import { BACK, connectionsIn, HASH_KEY, MAC, type World } from './world.ts';

export interface Report {
  readonly wrong: string[];
  /** Frames taken of random ones, with one worker and with three, of UDP's with three, where servers see clients, between interfaces, and wrapped; and of those that met a writer by which state. */
  readonly same: readonly Taken[];
  readonly whole: { readonly first: number; readonly second: number; readonly up: number };
  readonly bytes: readonly number[];
  readonly drops: readonly Drops[];
}

const RACES = 40_000;
/** What the writer writes in turn: distances from what the flow says. */
const SHIFT = 0x01010101;

async function main(): Promise<void> {
  const [, , program, front, back, seed] = process.argv;
  const interfaces = new Map([
    [MAC.front, indexOf(front)],
    [MAC.back, indexOf(back)],
  ]);
  Math.random = () => 0;
  const wrong: string[] = [];
  const kernel = { program: program as Program, capacity: 256, key: HASH_KEY, interfaces };
  const by = (protocol: What['protocol'], workers: number, mode: What['mode'] = 'passthrough', isInline = false) =>
    sameBytes(kernel, { protocol, workers, mode, isInline, seed: Number(seed) }, wrong);
  const { path, world, taken } = by(TCP, 1);
  const others = [
    by(TCP, 3),
    by(UDP, 3),
    by(TCP, 3, 'destination'),
    by(UDP, 3, 'destination'),
    by(TCP, 1, 'destination', true),
    by(UDP, 1, 'destination', true),
  ];
  const wrappedBy = (protocol: What['protocol'], workers: number, wrapped: Wrapped) =>
    sameBytes(kernel, { protocol, workers, mode: wrapped.options.mode!, isInline: false, wrapped, seed: Number(seed) }, wrong);
  const byTable = wrappedBy(TCP, 1, WRAPPED.gue1);
  others.push(byTable, wrappedBy(TCP, 3, WRAPPED.gue3), wrappedBy(UDP, 3, WRAPPED.gue), wrappedBy(TCP, 3, WRAPPED.ipip));
  wrong.push(...tableChanges(byTable.path, byTable.world));
  for (const other of others) other.path.close();
  const same = [taken, ...others.map((other) => other.taken)];
  const whole = await wholeStates(path, world, wrong);
  const bytes = countedBytes(path, world);
  const drops = [sameDrops(kernel, { workers: 3, isInline: false, seed: Number(seed) }, wrong)];
  drops.push(sameDrops(kernel, { workers: 1, isInline: true, seed: Number(seed) }, wrong));
  process.stdout.write(`${JSON.stringify({ wrong, same, whole, bytes, drops } satisfies Report)}\n`);
}

function indexOf(wanted: string): number {
  return interfacesNow().find(({ name }) => name === wanted)!.index;
}

// ---- whole

interface Writing {
  readonly fds: Parameters<typeof mapAll>[0];
  /** Word index of the flow. */
  readonly at: number;
  readonly hop: number;
  readonly stop: SharedArrayBuffer;
}

/** Both states in turn; the second one has SHIFT more in all words of the rewrite, and another MAC. */
function write({ fds, at, hop, stop }: Writing): void {
  const maps = mapAll(fds);
  const [flows, hops] = [new Int32Array(maps.flows), new Int32Array(maps.hops)];
  const ended = new Int32Array(stop);
  const first = [Flow.NEW_SOURCE, Flow.NEW_DESTINATION, Flow.NEW_PORTS].map((word) => flows[at + word]);
  for (let turn = 0; Atomics.load(ended, 0) === 0; turn++) {
    const more = turn % 2 === 0 ? SHIFT : 0;
    // As the table does: gone, written, and there again in the next version (flow/table.ts).
    const state = flows[at + Flow.STATE];
    flows[at + Flow.STATE] = (state & (-1 << Flow.VERSION_SHIFT)) | Flow.TOMBSTONE;
    first.forEach((value, i) => void (flows[at + Flow.NEW_SOURCE + i] = (value + more) | 0));
    flows[at + Flow.STATE] = (((state >>> Flow.VERSION_SHIFT) + 1) << Flow.VERSION_SHIFT) | (state & 0xffff);
    writeHop(hops, hop, BACK, 1500, macOf(more), macOf(more));
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    if (turn === 1) parentPort?.postMessage('writes');
  }
}

function macOf(shift: number): Uint8Array {
  return new Uint8Array(6).fill(shift === 0 ? 2 : 4);
}

async function wholeStates(path: KernelPath, world: World, wrong: string[]): Promise<Report['whole']> {
  const at = connectionsIn(world)[0].first;
  const words = world.table.words;
  const hop = words[at + Flow.NEXT_HOP];
  const expected = [Flow.NEW_SOURCE, Flow.NEW_DESTINATION, Flow.NEW_PORTS].map((word) => words[at + word]);
  writeHop(world.hops, hop, BACK, 1500, macOf(0), macOf(0));
  const stop = new SharedArrayBuffer(4);
  const writer = new Worker(new URL(import.meta.url), { workerData: { fds: path.fds, at, hop, stop } satisfies Writing });
  // It has loaded what it needs, and writes.
  await once(writer, 'message');
  const frame = buildFrame(fromClient({ from: 5000, sequence: 101, acknowledgment: 201 }));
  const seen = { first: 0, second: 0, up: 0 };
  for (let i = 0; i < RACES && wrong.length === 0; i++) {
    const out = path.take(frame);
    if (out === undefined) {
      seen.up++;
      continue;
    }
    const view = new DataView(out.buffer, out.byteOffset);
    const got = [view.getInt32(26, true), view.getInt32(30, true), view.getInt32(34, true)];
    const shifts = got.map((value, i) => (value - expected[i]) | 0);
    const macs = [...new Set(out.subarray(0, 12))];
    if (shifts.every((shift) => shift === 0)) seen.first++;
    else if (shifts.every((shift) => shift === SHIFT)) seen.second++;
    else wrong.push(`half of two flows: ${shifts.join()}`);
    if (macs.length !== 1) wrong.push(`half of two hops: ${macs.join()}`);
  }
  Atomics.store(new Int32Array(stop), 0, 1);
  await once(writer, 'exit');
  return seen;
}

// ---- bytes

/** What a flow has counted, halves of one number, once another segment has passed. */
function countedBytes(path: KernelPath, world: World): number[] {
  const at = connectionsIn(world)[1].first + Flow.KERNEL_BYTES;
  world.table.words.set([-3, 5], at);
  path.take(buildFrame(fromClient({ from: 5001, sequence: 101, acknowledgment: 201, payload: pattern(10) })));
  return [...world.table.words.subarray(at, at + 2)];
}

if (isMainThread) await main();
else write(workerData as Writing);
