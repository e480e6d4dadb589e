/**
 * Random segments by the kernel's fast path, and by the pipeline of the worker that each is for (packet/steering.ts): the program passes
 * one up unchanged, or does with it what the pipeline does, to the byte; and a plain one it takes, whichever worker's it is.
 *
 * Super-packets are offered to tc, as large as a test run takes them (a page). Partial checksums cannot be offered: the frames of
 * BPF_PROG_TEST_RUN say CHECKSUM_NONE (transfers by veths have them).
 */
import fc from 'fast-check';
import { hashKey } from '../../src/flow/table.ts';
import * as D from '../../src/layout/frames.ts';
import { steeringKey, workerOfFrame } from '../../src/packet/steering.ts';
import { fromClient, fromServer } from '../fixtures/frames.ts';
import { KernelPath, type KernelPathOptions } from './kernel-path.ts';
import { buildFrame, type Packet, pattern, referenceChecksum } from './packets.ts';
import { BACK, FRONT, HASH_KEY, SERVERS, type World, worldsOf } from './world.ts';

/** How many frames the program has taken. */
export interface Taken {
  readonly workers: number;
  /** Without super-packets. */
  plain: number;
  /** Super-packets. */
  large: number;
}

/** A connection as it is seen on both sides. */
interface Opened {
  readonly clientPort: number;
  /** lb4's, towards the server. */
  readonly port: number;
  readonly server: number;
}

interface Offered {
  readonly frame: Uint8Array;
  readonly gso: number;
  readonly isReply: boolean;
  /** Only a rewrite: the program has to take it. */
  readonly isPlain: boolean;
}

const [CONNECTIONS, RUNS] = [16, 2000];
const [ETHERNET, HEADERS, MTU] = [14, 40, 1500];
/** Of the IP header's total length. */
const LENGTH_AT = ETHERNET + 2;
const STEERING = steeringKey(hashKey(HASH_KEY));

/** @returns what the frames went by as well; `world` is the first worker's. */
export function sameBytes(kernel: KernelPathOptions, workers: number, seed: number, wrong: string[]) {
  const path = new KernelPath({ ...kernel, workers });
  const worlds = worldsOf(workers, { capacity: kernel.capacity }, path.maps);
  const opened = Array.from({ length: CONNECTIONS }, (_, i) => establish(worlds, 5000 + i));
  const taken: Taken = { workers, plain: 0, large: 0 };
  for (const offered of fc.sample(frames(opened, kernel.program === 'tc'), { seed, numRuns: RUNS })) {
    const told = offer(path, worlds[workerOf(offered.frame, workers)], offered, taken);
    if (told !== undefined) wrong.push(`${workers} workers, gso_size ${offered.gso}: ${hex(offered.frame)} → ${told}`);
  }
  return { path, world: worlds[0], taken };
}

/** What is wrong; undefined: nothing is. */
function offer(path: KernelPath, world: World, { frame, gso, isReply, isPlain }: Offered, taken: Taken): string | undefined {
  const words = world.table.words;
  const before = words.slice();
  const out = path.take(frame, gso);
  if (out === undefined) return isPlain ? 'up' : undefined;
  taken[gso > 0 ? 'large' : 'plain']++;
  // As if the program had not been there: its own words, and the acknowledgement.
  words.set(before);
  const flags = gso > 0 ? D.FLAG_GSO | (gso << 16) : 0;
  const { verdict, frame: expected } = world.sendFrames([{ frame, flags, arrival: { interface: isReply ? BACK : FRONT } }])[0];
  words.set(before);
  const isSame = verdict === 'forwarded' && Buffer.compare(Buffer.from(out), Buffer.from(expected)) === 0;
  return isSame ? undefined : `${hex(out)}, not ${verdict} ${hex(expected)}`;
}

function establish(worlds: readonly World[], clientPort: number): Opened {
  const send = (packet: Packet) => worlds[workerOf(buildFrame(packet), worlds.length)].send(packet);
  const { frame } = send(fromClient({ from: clientPort, flags: 'S', sequence: 100 }));
  const view = new DataView(frame.buffer, frame.byteOffset);
  const opened = {
    clientPort,
    port: view.getUint16(34),
    server: SERVERS.indexOf(frame.subarray(30, 34).join('.') as (typeof SERVERS)[number]),
  };
  send(fromServer({ to: opened.port, flags: 'SA', sequence: 200, acknowledgment: 101 }, {}, opened.server));
  send(fromClient({ from: clientPort, sequence: 101, acknowledgment: 201 }));
  return opened;
}

/** As the kernel hands frames out. */
function workerOf(frame: Uint8Array, workers: number): number {
  const length = frame.length - ETHERNET;
  const words = new Int32Array(Math.ceil(length / 4));
  new Uint8Array(words.buffer).set(frame.subarray(ETHERNET));
  return workerOfFrame(words, 0, length, STEERING, workers);
}

/** A segment of one of the connections, often with something changed, sometimes with its IP checksum put right again. */
function frames(opened: readonly Opened[], hasSuperPackets: boolean): fc.Arbitrary<Offered> {
  const most = MTU - HEADERS;
  const single = fc.record({ gso: fc.constant(0), payload: fc.oneof(fc.nat(300), fc.constantFrom(most, most + 1)) });
  // Segments as large as the next hop takes, and larger.
  const large = fc.record({ gso: fc.constantFrom(500, most, most + 1), payload: fc.integer({ min: most + 2, max: 3400 }) });
  const segment = fc
    .record({
      of: fc.constantFrom(...opened),
      isReply: fc.boolean(),
      size: hasSuperPackets ? fc.oneof(single, single, large) : single,
      flags: fc.constantFrom('A', 'A', 'A', 'PA', 'F', 'R', 'S', 'U', 'UA', ''),
      padTo: fc.constantFrom(0, 60, 80),
      ttl: fc.constantFrom(64, 2, 1, 255),
      tos: fc.nat(255),
    })
    .map(({ of, isReply, size: { gso, payload }, flags, ttl, tos, padTo }) => {
      const tcp = { flags, sequence: 101, acknowledgment: 201, payload: pattern(payload) };
      const more = { ttl, tos, padTo };
      const packet = isReply ? fromServer({ to: of.port, ...tcp }, more, of.server) : fromClient({ from: of.clientPort, ...tcp }, more);
      const isPlain = /^[PU]?A$/.test(flags) && ttl > 1 && (gso || payload) <= most;
      return { frame: buildFrame(packet), gso, isReply, isPlain };
    });
  const changes = fc.array(fc.tuple(fc.nat(70), fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff, 0x45, 0x46, 0x50))), { maxLength: 3 });
  return fc.record({ offered: segment, changes, right: fc.boolean() }).map(({ offered, changes: bytes, right }) => {
    const { frame, gso } = offered;
    // A super-packet ends where its length says: GRO makes none that is padded.
    const isKept = (at: number) => at >= frame.length || (gso > 0 && (at === LENGTH_AT || at === LENGTH_AT + 1));
    for (const [at, value] of bytes) if (!isKept(at)) frame[at] = value;
    if (right) {
      frame.fill(0, 24, 26);
      const checksum = referenceChecksum(frame.subarray(ETHERNET, ETHERNET + (frame[ETHERNET] & 0xf) * 4));
      frame.set([checksum >> 8, checksum & 0xff], 24);
    }
    return { ...offered, isPlain: offered.isPlain && bytes.length === 0 };
  });
}

function hex(frame: Uint8Array): string {
  return Buffer.from(frame).toString('hex');
}
