/** Which worker a packet belongs to: by the function and by the kernel's program, which must agree on every packet. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MOST_OURS, steeringProgram } from '../../src/io/steering.ts';
import { CLIENT_PORTS } from '../../src/layout/ports.ts';
import { formatAddress, parseAddress, portsWord, swap32 } from '../../src/packet/address.ts';
import { type Ours, portSlice, steeringKey, workerOf, workerOfFrame } from '../../src/packet/steering.ts';
import { checkProgram, run } from '../lab/bpf.ts';
import { buildIp, type Packet } from '../lab/packets.ts';

const VIP = '192.0.2.1';
const SEED = { seed: 20261128 };

const worker = fc.integer({ min: 1, max: 64 });
const keys = fc.nat(0xffffffff);
const address = fc.nat(0xffffffff).map((n) => [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join('.'));
const { first, last } = CLIENT_PORTS;
const port = fc.oneof(fc.constantFrom(first - 1, first, first + 1, last - 1, last, last + 1), fc.nat(65535));
const options = fc.nat(10).map((words) => Array.from({ length: words * 4 }, () => 1));

const oursWith = (addresses: readonly string[]): Ours => new Set(addresses.map(parseAddress));
const others = fc.array(address, { maxLength: 40 });
const maybeOurs = fc.option(others, { nil: undefined }).map((addresses) => addresses && oursWith([VIP, ...addresses]));

const rarely = fc.nat(9).map((n) => n === 0);
const offset = fc.nat(9).chain((n) => (n === 0 ? fc.nat(8191).map((eighths) => eighths * 8) : fc.constant(0)));

/** The packet at word 1 of memory that goes on behind it with what is not to be read. */
function inMemory(bytes: Uint8Array): Int32Array {
  const memory = new Uint8Array(4 + Math.ceil(bytes.length / 4) * 4 + 128).fill(0xa5);
  memory.set(bytes, 4);
  return new Int32Array(memory.buffer);
}

/** By both. */
function steer(packet: Packet | Uint8Array, key: number, workers: number, ours?: Ours): number {
  const bytes = packet instanceof Uint8Array ? packet : buildIp(packet);
  const found = workerOfFrame(inMemory(bytes), 1, bytes.length, key, workers, ours);
  if (run(steeringProgram(key, workers, ours), bytes) !== found) throw new Error(`the program does not say ${found}`);
  return found;
}

interface Tuple {
  readonly source: string;
  readonly from: number;
  readonly destination: string;
  readonly to: number;
}

/** By TCP, or by UDP with the ports alone. */
function segment({ source, destination, from, to }: Tuple, protocol = 6, more: Partial<Packet> = {}): Packet {
  const payload = Uint8Array.of(from >> 8, from, to >> 8, to, 0, 8, 0, 0);
  return { source, destination, ...(protocol === 6 ? { tcp: { from, to } } : { other: { protocol, payload } }), ...more };
}

/** An ICMP error of somebody on the way, about a packet that went to where `tuple` comes from. */
function errorAbout({ source, from, destination, to }: Tuple, type: number, protocol = 6, more: Partial<Packet> = {}): Packet {
  const quote = segment({ source: destination, from: to, destination: source, to: from }, protocol, more);
  return { source: '203.0.113.9', destination, icmp: { type, quote, quotedBytes: 28 + (more.options?.length ?? 0) } };
}

test('the program is one the kernel takes', () => {
  for (const workers of [1, 2, 64, 256]) checkProgram(steeringProgram(0xffffffff, workers));
});

describe('function and program agree on', () => {
  const packet = fc.record({ source: address, from: port, destination: address, to: port }).chain((tuple) =>
    fc.oneof(
      fc.record({ options, moreFragments: rarely, fragmentOffset: offset }).map((more) => segment(tuple, 6, more)),
      fc.record({ options, moreFragments: rarely, fragmentOffset: offset }).map((more) => segment(tuple, 17, more)),
      fc.tuple(fc.nat(255), fc.record({ options })).map(([protocol, more]) => segment(tuple, protocol, more)),
      fc
        .record({ type: fc.oneof(fc.constantFrom(3, 11, 12), fc.nat(20)), protocol: fc.constantFrom(6, 17, 132), options, inner: options })
        .map((error) => ({ ...errorAbout(tuple, error.type, error.protocol, { options: error.inner }), options: error.options })),
    ),
  );

  test('any packet, whole or cut off anywhere', () => {
    fc.assert(
      fc.property(packet, fc.option(fc.nat(100)), worker, keys, maybeOurs, (whole, length, workers, key, ours) => {
        const found = steer(buildIp(whole).subarray(0, length ?? undefined), key, workers, ours);
        expect(found).toBeGreaterThanOrEqual(0);
        expect(found).toBeLessThan(workers);
      }),
      { ...SEED, numRuns: 5000 },
    );
  });

  test('packets of any length that lie about that of a header', () => {
    const tuple = { source: '10.0.0.5', from: 5001, destination: VIP, to: 80 };
    for (const whole of [segment(tuple), errorAbout(tuple, 3)].map(buildIp))
      for (const place of [0, 28])
        for (let header = 0x40; header < 0x50; header++)
          for (let length = place + 1; length < 90; length++) {
            const broken = new Uint8Array(length);
            broken.set(whole.subarray(0, length));
            broken[place] = header;
            steer(broken, 12345, 64);
          }
  });

  test('packets with any bytes in their headers', () => {
    fc.assert(
      fc.property(
        packet,
        fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 }),
        worker,
        keys,
        maybeOurs,
        (whole, bytes, workers, key, ours) => {
          const broken = buildIp(whole);
          for (const [at, byte] of bytes) if (at < broken.length) broken[at] = byte;
          steer(broken, key, workers, ours);
        },
      ),
      { ...SEED, numRuns: 3000 },
    );
  });

  test('any bytes at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), worker, keys, maybeOurs, (bytes, workers, key, ours) => {
        steer(bytes, key, workers, ours);
      }),
      { ...SEED, numRuns: 2000 },
    );
  });
});

describe('a connection has one worker', () => {
  const protocol = fc.constantFrom(6, 17);
  const error = fc.constantFrom(3, 11, 12);
  const outside = port.filter((one) => one < first || one > last);

  test('both directions, and the errors about either', () => {
    fc.assert(
      fc.property(
        fc.record({ client: address, from: port, server: address, to: port, serverPort: port, protocol, error, options, index: fc.nat() }),
        worker,
        keys,
        ({ client, from, server, to, serverPort, index, ...how }, workers, key) => {
          const request = { source: client, from, destination: VIP, to };
          const owner = steer(segment(request, how.protocol, how), key, workers);
          expect(owner).toBe(workerOf(parseAddress(client), parseAddress(VIP), portsWord(from, to), key, workers));
          const slice = portSlice(owner, workers);
          const reply = { source: server, from: serverPort, destination: VIP, to: slice.first + (index % slice.count) * slice.step };
          for (const tuple of [request, reply]) {
            expect(steer(segment(tuple, how.protocol, how), key, workers)).toBe(owner);
            expect(steer(errorAbout(tuple, how.error, how.protocol, how), key, workers)).toBe(owner);
            expect(steer({ ...errorAbout(tuple, how.error, how.protocol), options: how.options }, key, workers)).toBe(owner);
          }
        },
      ),
      { ...SEED, numRuns: 2000 },
    );
  });

  test('whichever frontend a client speaks to, and whatever the header says beside ports and addresses', () => {
    fc.assert(
      fc.property(address, port, address, outside, worker, keys, (client, from, other, to, workers, key) => {
        const owner = steer(segment({ source: client, from, destination: VIP, to: 80 }), key, workers);
        const packet = segment({ source: client, from, destination: other, to }, 6, { ttl: 3, tos: 9, identification: 77 });
        expect(steer({ ...packet, dontFragment: false }, key, workers)).toBe(owner);
      }),
      SEED,
    );
  });

  test('also where servers answer clients, whatever port these have', () => {
    fc.assert(
      fc.property(
        fc.record({ client: address, from: port, server: address, serverPort: port, to: outside, protocol, error, options }),
        fc.array(address, { maxLength: 300 }),
        worker,
        keys,
        ({ client, from, server, serverPort, to, ...how }, addresses, workers, key) => {
          const ours = oursWith([VIP, ...addresses]);
          // Overlaps, which the check of the file refuses.
          fc.pre(!ours.has(parseAddress(client)) && client !== server);
          const owner = steer(segment({ source: client, from, destination: VIP, to }, how.protocol, how), key, workers, ours);
          const answer = { source: server, from: serverPort, destination: client, to: from };
          expect(steer(segment(answer, how.protocol, how), key, workers, ours)).toBe(owner);
          expect(steer(errorAbout(answer, how.error, how.protocol, how), key, workers, ours)).toBe(owner);
          // What stays as it was: the client's side, and pool ports of ours.
          expect(steer(errorAbout({ source: client, from, destination: VIP, to }, how.error, how.protocol), key, workers, ours)).toBe(
            owner,
          );
          const slice = portSlice(owner, workers);
          const reply = { source: server, from: serverPort, destination: VIP, to: slice.first };
          expect(steer(segment(reply, how.protocol, how), key, workers, ours)).toBe(owner);
        },
      ),
      { ...SEED, numRuns: 2000 },
    );
  });

  test('a frontend on a port of the pools has one worker for all its clients', () => {
    for (const [to, owner] of [
      [first, 0],
      [first + 6, 2],
      [last, (last - first) % 4],
    ] as const)
      for (const source of ['10.0.0.1', '10.0.0.2', '172.16.1.9'])
        expect(steer(segment({ source, from: 999, destination: VIP, to }), 7, 4)).toBe(owner);
  });
});

test('of as many addresses as there may be each is told from the next', () => {
  const ours = new Set(Array.from({ length: MOST_OURS }, (_, i) => swap32(0xfffffff0 - i * 2)));
  const program = steeringProgram(1, 7, ours);
  checkProgram(program);
  for (let i = -2; i < MOST_OURS * 2 + 2; i += 37) {
    const bytes = buildIp(segment({ source: '10.0.0.1', from: 7, destination: formatAddress(swap32(0xfffffff0 - i)), to: 50_000 }));
    expect(run(program, bytes)).toBe(workerOfFrame(inMemory(bytes), 1, bytes.length, 1, 7, ours));
  }
  const many = new Set(Array.from({ length: 3 * MOST_OURS }, (_, i) => i));
  expect(() => steeringProgram(1, 7, many)).toThrow(RangeError);
});

test('the slices of ports are the whole range, each port in one', () => {
  for (const workers of [1, 2, 3, 7, 64]) {
    /** By port, how far from where its packets go. */
    const owners = new Map<number, number>();
    for (let owner = 0; owner < workers; owner++) {
      const slice = portSlice(owner, workers);
      for (let i = 0; i < slice.count; i++) {
        const one = slice.first + i * slice.step;
        owners.set(
          one,
          owners.has(one) ? -1 : workerOf(parseAddress('10.0.0.1'), parseAddress(VIP), portsWord(80, one), 1, workers) - owner,
        );
      }
    }
    expect(new Set(owners.values())).toEqual(new Set([0]));
    expect([owners.size, Math.min(...owners.keys()), Math.max(...owners.keys())]).toEqual([last - first + 1, first, last]);
  }
});

describe("the first worker's is", () => {
  const tuple = { source: '10.0.0.5', from: 5001, destination: VIP, to: 80 };
  const key = 12345;
  const workers = 64;

  test('what is whole is not, in this test', () => {
    expect(steer(segment(tuple), key, workers)).not.toBe(0);
    expect(steer(errorAbout(tuple, 3), key, workers)).not.toBe(0);
  });

  test.each<[string, Packet]>([
    ['a first fragment', segment(tuple, 6, { moreFragments: true })],
    ['a later fragment', segment(tuple, 6, { fragmentOffset: 8 })],
    ['a fragment far behind', segment(tuple, 6, { fragmentOffset: 65528 })],
    ['another protocol', segment(tuple, 132)],
    ['an echo request', errorAbout(tuple, 8)],
    ['a redirect', errorAbout(tuple, 5)],
    ['an error that quotes a ping', errorAbout(tuple, 3, 1)],
    ['a fragment of an error', { ...errorAbout(tuple, 3), moreFragments: true }],
  ])('%s', (_, packet) => expect(steer(packet, key, workers)).toBe(0));

  test('what ends before its ports do', () => {
    for (const packet of [
      segment(tuple, 6, { options: [1, 1, 1, 0] }),
      segment(tuple, 17),
      errorAbout(tuple, 11, 6, { options: [1, 1, 1, 0] }),
    ]) {
      const whole = buildIp(packet);
      const needed = packet.icmp ? 20 + 8 + 24 + 4 : 20 + (packet.options?.length ?? 0) + 4;
      for (let length = 0; length < needed; length++) expect(steer(whole.subarray(0, length), key, workers)).toBe(0);
      expect(steer(whole.subarray(0, needed), key, workers)).toBe(steer(whole, key, workers));
      expect(steer(whole, key, workers)).not.toBe(0);
    }
  });
});

describe('clients are spread', () => {
  const KEYS = [steeringKey([-5, 9, -77, 1]), 0];
  /** The most and the fewest that a worker has, of what each should. */
  function expectEven(count: number, workers: number, packet: (i: number) => readonly [source: number, ports: number]): void {
    for (const key of KEYS) {
      const each = Array.from({ length: workers }, () => 0);
      for (let i = 0; i < count; i++) {
        const [source, ports] = packet(i);
        each[workerOf(source, parseAddress(VIP), ports, key, workers)]++;
      }
      expect(Math.max(...each) / (count / workers)).toBeLessThan(1.1);
      expect(Math.min(...each) / (count / workers)).toBeGreaterThan(0.9);
    }
  }
  /** A number as bytes of the network, the way an Int32Array reads them. */
  const network = swap32;
  const ten = 0x0a000000;

  describe.each([2, 3, 8, 64])('over %i workers', (workers) => {
    test.each<[string, (i: number) => readonly [number, number]]>([
      ['with addresses one after the other', (i) => [network(ten + i), portsWord(40_000, 80)]],
      ['with every 256th address', (i) => [network(ten + i * 256), portsWord(1024, 443)]],
      ['with every 4096th, which differ in the upper bits alone', (i) => [network(i * 4096), portsWord(50_000, 80)]],
      ['with addresses and ports that grow together', (i) => [network(ten + i), portsWord(i & 0xffff, 80)]],
      ['with ports that fall as addresses grow', (i) => [network(ten + i), portsWord(65_535 - (i & 0xffff), 80)]],
      ['64 of them, with 4096 ports each', (i) => [network(ten + (i >> 12)), portsWord(32_768 + (i & 4095), 80)]],
    ])('%s', (_, packet) => expectEven(workers * 4096, workers, packet));
  });

  test('one alone with many ports, even or odd or all', () => {
    for (const workers of [2, 3, 4, 8]) {
      expectEven(64_512, workers, (i) => [network(ten + 9), portsWord(1024 + i, 80)]);
      expectEven(32_256, workers, (i) => [network(ten + 9), portsWord(1024 + i * 2, 80)]);
    }
  });

  test('otherwise with another key, which each word of the hash key changes', () => {
    const owners = (key: number) =>
      Array.from({ length: 64 }, (_, i) => workerOf(network(ten + i), 0, portsWord(4000, 80), key, 64)).join();
    const made = [
      [1, 3, 5, 7],
      [2, 3, 5, 7],
      [1, 9, 5, 7],
      [1, 3, 9, 7],
      [1, 3, 5, 9],
    ] as const;
    expect(new Set(made.map((key) => owners(steeringKey(key)))).size).toBe(5);
    for (const key of made) expect(steeringKey(key)).toBe(steeringKey(key) >>> 0);
  });
});
