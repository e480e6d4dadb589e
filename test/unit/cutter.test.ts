/** The addon's cutter (native/cutter.cc) against a slow and plain one, which shares no code with it. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { native } from '../../src/io/native.ts';
import { ACK, CWR, checksum, ECE, FIN, ipv4, type Packet, PSH, parseIpv4, reassemble, TCP, UDP } from '../lab/wire.ts';

interface Case {
  readonly packet: Packet;
  /** gso_size, or 0. */
  readonly segment: number;
  readonly mtu: number;
  readonly partial: boolean;
}

function cut({ packet, segment, mtu, partial }: Case): Buffer[] {
  const bytes = ipv4(packet);
  if (partial) {
    // The pseudo-header's sum, uncomplemented, as the kernel leaves it: the true checksum less that of the segment.
    const header = 20 + (packet.options?.length ?? 0);
    const segmentLength = bytes.length - header;
    const pseudo = Buffer.alloc(14);
    bytes.copy(pseudo, 0, 12, 20);
    pseudo.writeUInt16BE(packet.protocol ?? TCP, 8);
    pseudo.writeUInt32BE(segmentLength, 10);
    bytes.writeUInt16BE(0xffff - checksum(pseudo), header + (packet.protocol === UDP ? 6 : 16));
  }
  const exact = new Uint8Array(bytes).buffer;
  return native()
    .cut(exact, segment, partial, mtu)
    .map((piece) => Buffer.from(piece));
}

/** RFC 791 and the kernel's tcp_gso_segment() and __udp_gso_segment(), one byte of payload after the other. */
function expectedSegments({ packet, segment }: Case): Packet[] {
  const payload = packet.payload ?? Buffer.alloc(0);
  const size = segment === 0 ? Math.max(1, payload.length) : segment;
  const count = Math.max(1, Math.ceil(payload.length / size));
  return Array.from({ length: count }, (_, i) => ({
    ...packet,
    payload: payload.subarray(i * size, (i + 1) * size),
    id: ((packet.id ?? 0) + i) & 0xffff,
    sequence: ((packet.sequence ?? 0) + i * size) >>> 0,
    flags: (packet.flags ?? 0) & ~(i > 0 ? CWR : 0) & ~(i < count - 1 ? FIN | PSH : 0),
  }));
}

/** Options of every kind: copied or not, and what pads them. */
const options = fc
  .array(
    fc.oneof(
      fc.constant([1]),
      fc
        .tuple(fc.constantFrom(7, 68, 131, 137, 148), fc.uint8Array({ maxLength: 7 }))
        .map(([type, body]) => [type, body.length + 2, ...body]),
    ),
    { maxLength: 4 },
  )
  .map((list) => list.flat())
  .map((bytes) => Buffer.from([...bytes, 0, 0, 0].slice(0, Math.ceil(bytes.length / 4) * 4)));

const cases: fc.Arbitrary<Case> = fc.record({
  packet: fc.record({
    protocol: fc.constantFrom(TCP, UDP),
    source: fc.constant('192.0.2.1'),
    destination: fc.constant('198.51.100.7'),
    id: fc.nat(0xffff),
    tos: fc.nat(255),
    ttl: fc.integer({ min: 1, max: 255 }),
    options,
    sourcePort: fc.nat(0xffff),
    destinationPort: fc.nat(0xffff),
    sequence: fc.nat(0xffffffff),
    acknowledgment: fc.nat(0xffffffff),
    flags: fc.constantFrom(ACK, ACK | PSH, ACK | FIN, ACK | PSH | FIN, ACK | CWR | PSH, ACK | CWR | ECE),
    tcpOptions: fc.constantFrom(Buffer.alloc(0), Buffer.from('0101080a0000000100000002', 'hex')),
    payload: fc.uint8Array({ maxLength: 4000 }).map((bytes) => Buffer.from(bytes)),
  }),
  segment: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 1500 })),
  mtu: fc.integer({ min: 120, max: 5000 }),
  partial: fc.boolean(),
});

test('every piece fits and is a whole packet of its own; together they are the packet', () => {
  fc.assert(
    fc.property(cases, (given) => {
      const pieces = cut(given);
      const wanted = expectedSegments(given).map(ipv4);
      let at = 0;
      for (const segment of wanted) {
        const fragments: Buffer[] = [];
        let whole: Buffer | undefined;
        while (whole === undefined && at < pieces.length) {
          const piece = pieces[at++];
          expect(piece.length).toBeLessThanOrEqual(given.mtu);
          expect(parseIpv4(piece)).toMatchObject({ totalLength: piece.length, checksumsRight: true });
          fragments.push(piece);
          whole = reassemble(fragments);
        }
        const { id } = parseIpv4(segment);
        if (fragments.length > 1) {
          // Zero identifies nothing.
          expect(new Set(fragments.map((fragment) => parseIpv4(fragment).id)).size).toBe(1);
          if (id === 0) whole = reassemble(fragments.map((fragment) => withId(fragment, 0)));
          else expect(parseIpv4(fragments[0]).id).toBe(id);
          expect(parseIpv4(fragments[0]).id).not.toBe(0);
          for (const later of fragments.slice(1)) expect(copied(parseIpv4(later).options)).toEqual(copiedOf(given.packet.options));
        }
        expect(whole?.toString('hex')).toBe(segment.toString('hex'));
      }
      expect(at).toBe(pieces.length);
    }),
  );
});

function withId(packet: Buffer, id: number): Buffer {
  const copy = Buffer.from(packet);
  copy.writeUInt16BE(id, 4);
  return copy;
}

/** Options as [type, …bytes], without padding. */
function copied(given: Buffer): number[][] {
  const list: number[][] = [];
  for (let at = 0; at < given.length && given[at] !== 0; ) {
    const length = given[at] === 1 ? 1 : given[at + 1];
    list.push([...given.subarray(at, at + length)]);
    at += length;
  }
  return list;
}

/** RFC 791 section 3.1: those with the first bit of their type set are copied into every fragment. */
function copiedOf(given: Buffer | undefined): number[][] {
  return copied(given ?? Buffer.alloc(0)).filter(([type = 0]) => type >= 128);
}

test.each([
  ['none at all stays none', 0, 0],
  ['a computed zero is all ones', 0xffff, 0xffff],
])('the UDP checksum of each piece: %s', (_, whole, each) => {
  const [source, destination] = ['192.0.2.1', '198.51.100.7'];
  const port = zeroSumPort(source, destination);
  const packet = ipv4({ protocol: UDP, source, destination, sourcePort: port, destinationPort: 53, payload: Buffer.alloc(40) });
  packet.writeUInt16BE(whole, 26);
  const pieces = native().cut(new Uint8Array(packet).buffer, 20, false, 1500);
  expect(pieces.map((piece) => Buffer.from(piece).readUInt16BE(26))).toEqual([each, each]);
});

/** The source port with which a datagram of 20 zeroes to port 53 sums up to all ones. */
function zeroSumPort(source: string, destination: string): number {
  const words = [source, destination].flatMap((text) => [...Buffer.from(text.split('.').map(Number))]);
  const bytes = Buffer.from([...words, 0, UDP, 0, 28, 0, 53, 0, 28]);
  return checksum(bytes);
}

test('a BIG TCP packet of 200,000 bytes, whose header cannot tell its length', () => {
  const packet = { source: '192.0.2.1', destination: '198.51.100.7', flags: ACK | PSH, id: 65_500, sequence: 0xfffff000 };
  const payload = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i ^ (i >> 8)));
  const given = { packet: { ...packet, payload }, segment: 1448, mtu: 1500, partial: true };
  expect(cut(given).map((piece) => piece.toString('hex'))).toEqual(expectedSegments(given).map((segment) => ipv4(segment).toString('hex')));
});

test('more segments than an IP ID has values: a counter of 16 bits began anew, and read behind the packet', () => {
  const payload = Buffer.alloc(131_071, 7);
  const pieces = cut({
    packet: { source: '192.0.2.1', destination: '198.51.100.7', flags: ACK, payload },
    segment: 2,
    mtu: 1500,
    partial: true,
  });
  expect(pieces.length).toBe(65_536);
  expect(pieces.at(-1)?.length).toBe(41);
});

test.each([
  ['no header', 10, 0, 1500],
  ['a TCP header that is not there', 30, 1000, 1500],
  ['a TCP header that is not there at all', 20, 1000, 1500],
  ['an MTU below a header and eight bytes', 1000, 0, 27],
])('%s: nothing is sent', (_, bytes, segment, mtu) => {
  const packet = ipv4({ source: '192.0.2.1', destination: '198.51.100.7', flags: ACK, payload: Buffer.alloc(2000) }).subarray(0, bytes);
  expect(native().cut(new Uint8Array(packet).buffer, segment, false, mtu)).toEqual([]);
});

test.each([
  [['packet'], /packet must be an ArrayBuffer/],
  [[new ArrayBuffer(40), -1], /partial must be a boolean|segment/],
  [[new ArrayBuffer(40), 65_536, false, 1500], /segment must be an integer from 0 to 65535/],
  [[new ArrayBuffer(40), 0, false, 0], /mtu must be an integer from 1 to 65535/],
  [[new ArrayBuffer(40), 0, 1, 1500], /partial must be a boolean/],
])('arguments are checked: %j', (args, message) => {
  expect(() => (native().cut as (...all: unknown[]) => unknown)(...args)).toThrow(message);
});
