/**
 * Random segments and datagrams by the kernel's fast path, and by the pipeline of the worker that each is for (packet/steering.ts): the program passes
 * one up unchanged, or does with it what the pipeline does, to the byte; and a plain one it takes, whichever worker's it is.
 *
 * Super-packets are offered to tc, as large as a test run takes them (a page). Partial checksums cannot be offered: the frames of
 * BPF_PROG_TEST_RUN say CHECKSUM_NONE; nor super-packets that are to be wrapped: they do not say of which protocol they are, without which
 * the kernel makes no room (transfers by veths have both).
 */
import fc from 'fast-check';
import { hashKey } from '../../src/flow/table.ts';
import { addLink } from '../../src/forward/links.ts';
import * as D from '../../src/layout/frames.ts';
import { CLIENT_LINKS } from '../../src/layout/hops.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { TCP, UDP } from '../../src/packet/fields.ts';
import { type Ours, steeringKey, workerOfFrame } from '../../src/packet/steering.ts';
import * as datagrams from '../fixtures/datagrams.ts';
import { fromClient, fromServer } from '../fixtures/frames.ts';
import { KernelPath, type KernelPathOptions, moveFront } from './kernel-path.ts';
import type { Wrapped } from './kernel-wrapped.ts';
import { buildFrame, type Packet, pattern, referenceChecksum } from './packets.ts';
import { BACK, between, CLIENT, FRONT, frontPort, HASH_KEY, MAC, SERVERS, VIP, type World, type WorldOptions, worldsOf } from './world.ts';

type Mode = NonNullable<WorldOptions['mode']>;

/** How many frames the program has taken. */
export interface Taken {
  readonly workers: number;
  /** TCP or UDP, by its number. */
  readonly protocol: number;
  readonly mode: Mode;
  readonly isInline: boolean;
  /** Without super-packets. */
  plain: number;
  /** Super-packets. */
  large: number;
}

/** A connection as it is seen on both sides. */
interface Opened {
  readonly clientPort: number;
  /** Towards the server: lb4's own, or where servers see clients that of this one. */
  readonly port: number;
  /** Whom the server answers. */
  readonly destination: string;
  readonly server: number;
}

export interface Offered {
  readonly frame: Uint8Array;
  readonly gso: number;
  readonly isReply: boolean;
  /** Only a rewrite: the program has to take it. */
  readonly isPlain: boolean;
}

const [CONNECTIONS, RUNS] = [16, 2000];
const [ETHERNET, IP, MTU] = [14, 20, 1500];
const HEADERS = { [TCP]: 40, [UDP]: 28 } as const;
/** Of the IP header's total length. */
const LENGTH_AT = ETHERNET + 2;
const STEERING = steeringKey(hashKey(HASH_KEY));
const OURS: Ours = new Set([parseAddress(VIP)]);

export interface What {
  readonly protocol: typeof TCP | typeof UDP;
  readonly workers: number;
  readonly mode: Mode;
  /** It stands between interfaces. */
  readonly isInline: boolean;
  /** Its packets go inside of others; no answers pass. */
  readonly wrapped?: Wrapped | undefined;
  readonly seed: number;
}

/** @returns what the frames went by as well; `world` is the first worker's. */
export function sameBytes(kernel: KernelPathOptions, { protocol, workers, mode, isInline, wrapped, seed }: What, wrong: string[]) {
  const path = new KernelPath({ ...kernel, workers, isInline });
  const inline = isInline ? { inline: between(frontPort(FRONT)) } : {};
  const worlds = worldsOf(workers, { capacity: kernel.capacity, protocol, mode, ...inline, ...wrapped?.options }, path.maps);
  // Where servers answer clients: nobody takes their answers from there.
  for (const { hops } of worlds) addLink(hops, CLIENT_LINKS, kernel.interfaces.get(MAC.front) ?? 0);
  const opened = Array.from({ length: CONNECTIONS }, (_, i) => establish(worlds, protocol, mode, 5000 + i, wrapped !== undefined));
  for (const { hops } of worlds) moveFront(hops, kernel.interfaces.get(MAC.front) ?? 0);
  const taken: Taken = { workers, protocol, mode, isInline, plain: 0, large: 0 };
  const kinds = {
    hasSuperPackets: kernel.program === 'tc' && wrapped === undefined,
    leastTtl: isInline ? 0 : 2,
    most: MTU - HEADERS[protocol] - (wrapped?.bytes ?? 0),
    hasReplies: wrapped === undefined,
  };
  const all = protocol === TCP ? segments(opened, kinds) : datagramsOf(opened, kinds);
  for (const offered of fc.sample(changed(all), { seed, numRuns: RUNS })) {
    const told =
      offer(path, worlds[workerOf(offered.frame, workers, mode)], offered, taken) ??
      (mode === 'destination' && offered.isReply ? forge(path, offered) : undefined);
    if (told !== undefined)
      wrong.push(
        `${protocol === TCP ? 'TCP' : 'UDP'}, ${wrapped?.name ?? mode}, ${workers} workers, gso_size ${offered.gso}: ${hex(offered.frame)} → ${told}`,
      );
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

/** The same from the clients' side: what is wrong; undefined: it goes up. */
function forge(path: KernelPath, { frame, gso }: Offered): string | undefined {
  const forged = Uint8Array.from(frame);
  forged.set(MAC.front.split(':').map((byte) => Number.parseInt(byte, 16)));
  return path.take(forged, gso) === undefined ? undefined : 'taken from the clients’ side';
}

/** Opens a connection, which is the kernel's from then on; `isOneWay`: no answers pass. */
export function establish(worlds: readonly World[], protocol: What['protocol'], mode: Mode, clientPort: number, isOneWay: boolean): Opened {
  const send = (packet: Packet, by = FRONT) => worlds[workerOf(buildFrame(packet), worlds.length, mode)].send(packet, { interface: by });
  const first = protocol === TCP ? fromClient({ from: clientPort, flags: 'S', sequence: 100 }) : datagrams.fromClient({ from: clientPort });
  const { frame } = send(first);
  if (isOneWay) {
    send(protocol === TCP ? fromClient({ from: clientPort, sequence: 101, acknowledgment: 201 }) : first);
    return { clientPort, port: 0, destination: VIP, server: 0 };
  }
  const port = new DataView(frame.buffer, frame.byteOffset).getUint16(34);
  const server = SERVERS.indexOf(frame.subarray(30, 34).join('.') as (typeof SERVERS)[number]);
  const destination = mode === 'destination' ? CLIENT : VIP;
  if (protocol === TCP) {
    send(fromServer({ to: port, flags: 'SA', sequence: 200, acknowledgment: 101 }, { destination }, server), BACK);
    send(fromClient({ from: clientPort, sequence: 101, acknowledgment: 201 }));
  } else send(datagrams.fromServer({ to: port }, { destination }, server), BACK);
  return { clientPort, port, destination, server };
}

/** As the kernel hands frames out. */
export function workerOf(frame: Uint8Array, workers: number, mode: Mode): number {
  const length = frame.length - ETHERNET;
  const words = new Int32Array(Math.ceil(length / 4));
  new Uint8Array(words.buffer).set(frame.subarray(ETHERNET));
  return workerOfFrame(words, 0, length, STEERING, workers, mode === 'destination' ? OURS : undefined);
}

/** Bytes of payload: of one packet on the wire, or of a super-packet whose parts are as large as the next hop takes, and larger. */
function sizes({ hasSuperPackets, most }: Kinds): fc.Arbitrary<{ gso: number; payload: number; fits: boolean }> {
  const single = fc.record({ gso: fc.constant(0), payload: fc.oneof(fc.nat(300), fc.constantFrom(most, most + 1)) });
  const large = fc.record({ gso: fc.constantFrom(500, most, most + 1), payload: fc.integer({ min: most + 2, max: 3400 }) });
  const size = hasSuperPackets ? fc.oneof(single, single, large) : single;
  return size.map(({ gso, payload }) => ({ gso, payload, fits: (gso || payload) <= most }));
}

/** What is alike in both protocols. */
function common(opened: readonly Opened[], { hasReplies }: Kinds) {
  return {
    of: fc.constantFrom(...opened),
    isReply: hasReplies ? fc.boolean() : fc.constant(false),
    padTo: fc.constantFrom(0, 60, 80),
    ttl: fc.constantFrom(64, 2, 1, 255, 0),
    tos: fc.nat(255),
  };
}

interface Kinds {
  readonly hasSuperPackets: boolean;
  /** Of what needs nothing but a rewrite. */
  readonly leastTtl: number;
  /** Bytes of payload that a packet may have on the wire. */
  readonly most: number;
  readonly hasReplies: boolean;
}

/** A segment of one of the connections. */
function segments(opened: readonly Opened[], kinds: Kinds): fc.Arbitrary<Offered> {
  const flags = fc.constantFrom('A', 'A', 'A', 'PA', 'F', 'R', 'S', 'U', 'UA', '');
  return fc
    .record({ ...common(opened, kinds), size: sizes(kinds), flags })
    .map(({ of, isReply, size: { gso, payload, fits }, flags, ttl, tos, padTo }) => {
      const tcp = { flags, sequence: 101, acknowledgment: 201, payload: pattern(payload) };
      const more = { ttl, tos, padTo };
      const packet = isReply
        ? fromServer({ to: of.port, ...tcp }, { destination: of.destination, ...more }, of.server)
        : fromClient({ from: of.clientPort, ...tcp }, more);
      return { frame: buildFrame(packet), gso, isReply, isPlain: /^[PU]?A$/.test(flags) && ttl >= kinds.leastTtl && fits };
    });
}

/** A datagram of one of the flows, now and then without a checksum. */
function datagramsOf(opened: readonly Opened[], kinds: Kinds): fc.Arbitrary<Offered> {
  const whole = fc.constantFrom(true, true, false);
  return fc
    .record({ ...common(opened, kinds), size: sizes(kinds), whole })
    .map(({ of, isReply, size: { gso, payload, fits }, whole, ttl, tos, padTo }) => {
      const udp = { payload: pattern(payload), ...(!whole && { checksum: 0 }) };
      const more = { ttl, tos, padTo };
      const { fromClient: up, fromServer: down } = datagrams;
      const frame = buildFrame(
        isReply
          ? down({ to: of.port, ...udp }, { destination: of.destination, ...more }, of.server)
          : up({ from: of.clientPort, ...udp }, more),
      );
      // The one checksum that goes up (native/bpf/packet.h).
      const isClear = frame[ETHERNET + IP + 6] !== 0xff || frame[ETHERNET + IP + 7] !== 0xff;
      return { frame, gso, isReply, isPlain: ttl >= kinds.leastTtl && fits && isClear };
    });
}

/** The same, often with something changed, sometimes with its IP checksum put right again. */
export function changed(packets: fc.Arbitrary<Offered>): fc.Arbitrary<Offered> {
  const changes = fc.array(fc.tuple(fc.nat(70), fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff, 0x45, 0x46, 0x50))), { maxLength: 3 });
  return fc.record({ offered: packets, changes, right: fc.boolean() }).map(({ offered, changes: bytes, right }) => {
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

export function hex(frame: Uint8Array): string {
  return Buffer.from(frame).toString('hex');
}
