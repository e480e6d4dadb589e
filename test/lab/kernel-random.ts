/**
 * Properties of the kernel's fast path, in a network namespace whose interfaces have the fixtures' addresses. Prints a line of JSON.
 *
 *     same    whatever frame comes: the program passes it up unchanged, or does with it what the pipeline does, to the byte
 *     whole   while another thread changes a flow and its hop all the time: a packet leaves by one state of them, never by half of two
 *     bytes   of a flow are counted in 64 bits
 *
 *     node kernel-random.js tc|xdp FRONT BACK SEED
 */
import { once } from 'node:events';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import fc from 'fast-check';
import { writeHop } from '../../src/forward/next-hops.ts';
import { mapAll } from '../../src/io/fast-path.ts';
import { native } from '../../src/io/native.ts';
import * as Flow from '../../src/layout/flow.ts';
import { fromClient, fromServer, PORT } from '../fixtures/frames.ts';
import { KernelPath, type Program } from './kernel-path.ts';
import { buildFrame, pattern, referenceChecksum } from './packets.ts';
import { BACK, connectionsIn, HASH_KEY, MAC, World } from './world.ts';

export interface Report {
  readonly wrong: string[];
  /** Frames taken of random ones, and of those that met a writer by which state. */
  readonly same: number;
  readonly whole: { readonly first: number; readonly second: number; readonly up: number };
  readonly bytes: readonly number[];
}

const [CONNECTIONS, RUNS, RACES] = [16, 2000, 40_000];
/** What the writer writes in turn: distances from what the flow says. */
const SHIFT = 0x01010101;

async function main(): Promise<void> {
  const [, , program, front, back, seed] = process.argv;
  const interfaces = new Map([
    [MAC.front, indexOf(front)],
    [MAC.back, indexOf(back)],
  ]);
  Math.random = () => 0;
  const path = new KernelPath({ program: program as Program, capacity: 256, key: HASH_KEY, interfaces });
  const world = new World({ memory: { flows: path.memory.flows, hops: path.memory.hops } });
  for (let i = 0; i < CONNECTIONS; i++) establish(world, i);
  const wrong: string[] = [];
  const same = sameBytes(path, world, Number(seed), wrong);
  const whole = await wholeStates(path, world, wrong);
  const bytes = countedBytes(path, world);
  process.stdout.write(`${JSON.stringify({ wrong, same, whole, bytes } satisfies Report)}\n`);
}

function indexOf(wanted: string): number {
  const routes = new (native().RouteSocket)();
  const found = routes.interfaces().find(({ name }) => name === wanted)!;
  routes.close();
  return found.index;
}

function establish(world: World, i: number): void {
  const [client, server] = [{ from: 5000 + i }, { to: PORT + (i >> 1) }];
  world.send(fromClient({ ...client, flags: 'S', sequence: 100 }));
  world.send(fromServer({ ...server, flags: 'SA', sequence: 200, acknowledgment: 101 }, {}, i % 2));
  world.send(fromClient({ ...client, sequence: 101, acknowledgment: 201 }));
}

// ---- same

/** A segment of one of the connections, often with something changed, sometimes with its IP checksum put right again. */
function frames(): fc.Arbitrary<Uint8Array> {
  const segment = fc
    .record({
      i: fc.nat(CONNECTIONS - 1),
      isReply: fc.boolean(),
      payload: fc.nat(300),
      flags: fc.constantFrom('A', 'A', 'A', 'PA', 'F', 'R', 'S', 'U', 'UA', ''),
      padTo: fc.constantFrom(0, 60, 80),
      ttl: fc.constantFrom(64, 2, 1, 255),
      tos: fc.nat(255),
    })
    .map(({ i, isReply, payload, flags, ttl, tos, padTo }) => {
      const tcp = { flags, sequence: 101, acknowledgment: 201, payload: pattern(payload) };
      const more = { ttl, tos, padTo };
      return buildFrame(isReply ? fromServer({ to: PORT + (i >> 1), ...tcp }, more, i % 2) : fromClient({ from: 5000 + i, ...tcp }, more));
    });
  const changes = fc.array(fc.tuple(fc.nat(70), fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff, 0x45, 0x46, 0x50))), { maxLength: 3 });
  return fc.record({ frame: segment, changes, right: fc.boolean() }).map(({ frame, changes: bytes, right }) => {
    for (const [at, value] of bytes) if (at < frame.length) frame[at] = value;
    if (right) {
      frame.fill(0, 24, 26);
      const checksum = referenceChecksum(frame.subarray(14, 14 + (frame[14] & 0xf) * 4));
      frame.set([checksum >> 8, checksum & 0xff], 24);
    }
    return frame;
  });
}

function sameBytes(path: KernelPath, world: World, seed: number, wrong: string[]): number {
  let taken = 0;
  const words = world.table.words;
  for (const frame of fc.sample(frames(), { seed, numRuns: RUNS })) {
    const before = words.slice();
    const out = path.take(frame);
    if (out === undefined) continue;
    taken++;
    // As if the program had not been there: its own words, and the acknowledgement.
    words.set(before);
    const mac = frame.subarray(0, 6).join();
    const { verdict, frame: expected } = world.sendFrames([{ frame, arrival: { interface: mac === MAC_BACK ? BACK : 1 } }])[0];
    words.set(before);
    if (verdict !== 'forwarded' || Buffer.compare(Buffer.from(out), Buffer.from(expected)) !== 0)
      wrong.push(
        `${Buffer.from(frame).toString('hex')} → ${Buffer.from(out).toString('hex')}, not ${verdict} ${Buffer.from(expected).toString('hex')}`,
      );
  }
  return taken;
}

const MAC_BACK = MAC.back
  .split(':')
  .map((byte) => Number.parseInt(byte, 16))
  .join();

// ---- whole

interface Writing {
  readonly fds: { readonly flows: number; readonly hops: number };
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
  await once(writer, 'online');
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
