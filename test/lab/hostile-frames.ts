/**
 * Frames as attackers make them, for the pipeline: what contradicts itself, what comes in pieces, what pretends to be somebody's. Some go along a connection
 * that a world has just then, so that they reach what is behind the table.
 */
import fc from 'fast-check';
import * as Flow from '../../src/layout/flow.ts';
import * as D from '../../src/layout/frames.ts';
import { formatAddress, sourcePort, swapPorts } from '../../src/packet/address.ts';
import { ICMP, TCP } from '../../src/packet/fields.ts';
import { buildFrame, type Packet, pattern, referenceChecksum } from './packets.ts';
import { type Arrival, BACK, CLIENT, connectionsIn, FRONT, MAC, SERVERS, VIP, type World } from './world.ts';

export interface Hostile {
  /** For shrunk counterexamples. */
  readonly kind: string;
  readonly frame: (world: World) => Uint8Array;
  readonly flags: number;
  readonly arrival: Arrival;
}

const ETHERNET = 14;
const STRANGERS = ['0.0.0.0', '0.1.2.3', '127.0.0.1', '224.0.0.1', '255.255.255.255', '198.51.100.7', VIP, ...SERVERS, CLIENT] as const;

// ---- what whole packets have in them

const options = fc.oneof(
  { weight: 4, arbitrary: fc.constant<number[]>([]) },
  // Record route, timestamps, router alert, loose and strict source routes, security; and any bytes at all.
  fc
    .tuple(
      fc.constantFrom(7, 68, 148, 131, 137, 130, 0, 1, 255),
      fc.nat(42),
      fc.array(fc.nat(255), { minLength: 38, maxLength: 38 }),
      fc.nat(10),
    )
    .map(([type, length, rest, words]) => [type, length, ...rest].slice(0, words * 4)),
);
const payload = fc.oneof(fc.nat(64), fc.constantFrom(0, 1, 2, 3, 1460, 1461, 1600)).map(pattern);
const ports = fc.constantFrom(80, 8080, 0, 53, 33_768, 33_769, 61_000, 65_535, 5000, 5001);
const tcpFlags = fc.oneof(fc.constantFrom('S', 'SA', 'A', 'PA', 'FA', 'R', 'RA', 'SF', 'SR', 'FSRPAU', '', 'SAF', 'U'), fc.constant('A'));
const numbers = fc.oneof(fc.constantFrom(1000, 1001, 1002, 0, 0xffffffff, 0x7fffffff), fc.nat(0xffffffff));
const tcp = fc.record({
  from: ports,
  to: ports,
  flags: tcpFlags,
  sequence: numbers,
  acknowledgment: numbers,
  window: fc.nat(0xffff),
  options,
  payload,
});
const udp = fc
  .record({ from: ports, to: ports, payload, whole: fc.boolean() })
  .map(({ whole, ...part }) => (whole ? part : { ...part, checksum: 0 }));
const echo = fc.record({ reply: fc.boolean(), id: ports, sequence: fc.nat(3), payload });

const addresses = fc.record({ source: fc.constantFrom(...STRANGERS), destination: fc.constantFrom(VIP, VIP, VIP, ...STRANGERS) });
const common = fc.record({
  ttl: fc.constantFrom(64, 64, 2, 1, 0, 255),
  tos: fc.nat(255),
  identification: fc.nat(3),
  dontFragment: fc.boolean(),
  options,
  padTo: fc.constantFrom(0, 60, 80),
});
const ends = fc.record({ addresses, common });

/** Of any protocol, from anybody to anybody: land packets (a source that is the destination) and servers' addresses that come from clients among them. */
const packet: fc.Arbitrary<Packet> = fc
  .tuple(
    ends,
    fc.oneof(
      tcp.map((tcp) => ({ tcp })),
      udp.map((udp) => ({ udp })),
      echo.map((echo) => ({ echo })),
      other(),
    ),
  )
  .map(([{ addresses, common }, part]) => ({ ethernet: [MAC.front, MAC.client] as const, ...addresses, ...common, ...part }));

function other(): fc.Arbitrary<Partial<Packet>> {
  return fc.tuple(fc.constantFrom(4, 41, 47, 50, 132, 255), payload).map(([protocol, payload]) => ({ other: { protocol, payload } }));
}

/** A router's error about one, or what claims to be one, that quotes so many bytes of it. */
const quoting = fc
  .tuple(packet, fc.constantFrom(3, 3, 11, 12, 4, 5, 0, 8), fc.nat(15), fc.oneof(fc.nat(80), fc.constant(1600)), fc.boolean())
  .map(([quote, type, code, quotedBytes, isWrong]): Packet => {
    const icmp = { type, code, mtu: 1300, quote, quotedBytes, ...(isWrong ? { wrongBy: 1 } : {}) };
    return { ethernet: [MAC.front, MAC.client], source: quote.destination, destination: quote.source, icmp };
  });

/** The same, in a piece: tiny first ones, holes, overlaps, and those that end behind byte 65,535. */
const inPieces = fc
  .tuple(packet, fc.constantFrom(0, 0, 8, 16, 24, 1480, 65_528), fc.boolean(), fc.oneof(fc.nat(40), fc.constant(2000)))
  .map(([whole, fragmentOffset, moreFragments, most]) => ({ ...whole, dontFragment: false, fragmentOffset, moreFragments, most }));

const built = fc.oneof(
  packet.map((packet) => ({ kind: 'anything', frame: () => buildFrame(packet) })),
  quoting.map((packet) => ({ kind: 'a quote', frame: () => buildFrame(packet) })),
  inPieces.map(({ most, ...packet }) => ({ kind: 'a piece', frame: () => shortened(buildFrame(packet), most) })),
);

/** The first bytes of a packet, as a fragment of its own that says so. */
function shortened(frame: Uint8Array, most: number): Uint8Array {
  const length = Math.min(frame.length - ETHERNET, 20 + most);
  const cut = frame.slice(0, ETHERNET + length);
  cut.set([length >> 8, length & 0xff], ETHERNET + 2);
  return finished(cut);
}

// ---- along what a world has

const along = fc
  .record({
    index: fc.nat(7),
    isReply: fc.boolean(),
    quotes: fc.boolean(),
    common,
    tcp,
    udp,
    echo,
    quotedBytes: fc.nat(60),
    oddly: fc.boolean(),
  })
  .map((how) => ({
    kind: 'along a flow',
    frame: (world: World) => buildFrame(packetAlong(world, how) ?? { source: CLIENT, destination: VIP }),
  }));

interface Along {
  readonly index: number;
  readonly isReply: boolean;
  /** An error about one in place of it. */
  readonly quotes: boolean;
  readonly common: Partial<Packet>;
  readonly tcp: NonNullable<Packet['tcp']>;
  readonly udp: NonNullable<Packet['udp']>;
  readonly echo: NonNullable<Packet['echo']>;
  readonly quotedBytes: number;
  /** With numbers that may be anything. */
  readonly oddly: boolean;
}

function packetAlong(world: World, { index, isReply, quotes, common, tcp, udp, echo, quotedBytes, oddly }: Along): Packet | undefined {
  const all = connectionsIn(world);
  const connection = all[index % Math.max(1, all.length)];
  if (connection === undefined) return undefined;
  const { words } = world.table;
  const at = isReply ? (connection.second ?? connection.first) : connection.first;
  const protocol = (words[at + Flow.STATE] >>> Flow.PROTOCOL_SHIFT) & 0xff;
  const [from, to] = [sourcePort(words[at + Flow.PORTS]), sourcePort(swapPorts(words[at + Flow.PORTS]))];
  const usual = oddly ? {} : { sequence: 1001, acknowledgment: 1001 };
  const part =
    protocol === TCP
      ? { tcp: { ...tcp, ...usual, from, to } }
      : protocol === ICMP
        ? { echo: { ...echo, reply: isReply, id: from || to } }
        : { udp: { ...udp, from, to } };
  const [source, destination] = [formatAddress(words[at + Flow.SOURCE]), formatAddress(words[at + Flow.DESTINATION])];
  const inside: Packet = { ...common, source, destination, ...part };
  if (!quotes) return { ...inside, ethernet: [MAC.front, MAC.client] };
  // As who was to have it tells of what was sent to him.
  const sent: Packet = {
    ...inside,
    source: formatAddress(words[at + Flow.NEW_SOURCE]),
    destination: formatAddress(words[at + Flow.NEW_DESTINATION]),
  };
  return { source: '203.0.113.9', destination: sent.source, icmp: { type: 3, code: 4, mtu: 1300, quote: sent, quotedBytes } };
}

// ---- lies

/** Bytes of a frame from the IP header on that are something else: lengths, offsets, flags, and any. */
const lie = fc.tuple(
  fc.oneof(fc.constantFrom(0, 2, 3, 6, 7, 8, 9, 10, 20, 24, 25, 26, 28, 32, 33, 36), fc.nat(120)),
  fc.oneof(fc.constantFrom(0, 1, 0x0f, 0x40, 0x44, 0x45, 0x46, 0x4f, 0x50, 0xf0, 0xff), fc.nat(255)),
);

const frames = fc
  .record({
    base: fc.oneof({ weight: 3, arbitrary: along }, { weight: 4, arbitrary: built }),
    lies: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 2, arbitrary: fc.array(lie, { maxLength: 4 }) }),
    // Bytes of the whole frame that arrive.
    length: fc.oneof({ weight: 6, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.integer({ min: ETHERNET, max: 90 }) }),
    isRight: fc.boolean(),
  })
  .map(({ base: { kind, frame }, lies, length, isRight }) => ({
    kind,
    frame: (world: World) => {
      const bytes = frame(world);
      for (const [at, value] of lies) if (ETHERNET + at < bytes.length) bytes[ETHERNET + at] = value;
      const cut = length === undefined ? bytes : bytes.slice(0, length);
      return isRight && lies.length > 0 ? finished(cut) : cut;
    },
  }));

/** With the IP checksum that it ought to have, if there is a header. */
function finished(frame: Uint8Array): Uint8Array {
  const header = (frame[ETHERNET] & 0xf) * 4;
  if (frame.length < ETHERNET + 20 || frame.length < ETHERNET + header) return frame;
  frame.fill(0, ETHERNET + 10, ETHERNET + 12);
  const checksum = referenceChecksum(frame.subarray(ETHERNET, ETHERNET + header));
  frame.set([checksum >> 8, checksum & 0xff], ETHERNET + 10);
  return frame;
}

const noise = fc.uint8Array({ minLength: ETHERNET, maxLength: 200 }).map((bytes) => ({ kind: 'noise', frame: () => bytes.slice() }));

/** What the kernel says of a frame, true or not. */
const flags = fc.oneof(
  { weight: 5, arbitrary: fc.constant(0) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom(D.FLAG_PARTIAL, D.FLAG_GSO, D.FLAG_GSO | D.FLAG_PARTIAL), fc.constantFrom(0, 1, 8, 536, 1460, 65_535))
      .map(([flags, size]) => flags | ((flags & D.FLAG_GSO) === 0 ? 0 : size << 16)),
  },
);
const arrival: fc.Arbitrary<Arrival> = fc.record(
  {
    interface: fc.constantFrom(FRONT, FRONT, BACK, 99),
    truncated: fc.constantFrom(false, false, false, true),
    noEthernet: fc.constantFrom(false, false, false, true),
    foreign: fc.constantFrom(false, false, false, true),
    vlan: fc.constantFrom(0, 0, 0x81000005, 0x88a80001),
  },
  { requiredKeys: ['interface'] },
);

/** A frame, as it comes. */
export const hostile: fc.Arbitrary<Hostile> = fc
  .record({
    what: fc.oneof({ weight: 12, arbitrary: frames }, { weight: 1, arbitrary: noise }),
    flags,
    arrival,
  })
  .map(({ what, flags, arrival }) => ({ ...what, flags, arrival }));
