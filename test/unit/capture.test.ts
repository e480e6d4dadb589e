/** Packets on their way to whoever looks: the ring, pcapng to the byte, and lines. */
import { expect, test, vi } from 'vitest';
import { Blocks, CaptureLines } from '../../src/cli/capture-lines.ts';
import { pcapngOf } from '../../src/control/capture.ts';
import type { CaptureBatch } from '../../src/control/orders.ts';
import { type CapturedPacket, PcapngWriter } from '../../src/control/pcapng.ts';
import * as Ring from '../../src/engine/capture-ring.ts';
import { CaptureReader, CaptureWriter, IN, RING_BYTES, readOldest, WORDS } from '../../src/engine/capture-ring.ts';
import { ACK, ipv4, UDP } from '../lab/wire.ts';

const AT = Date.UTC(2026, 10, 29, 7, 30) + 0.25;

function packetOf(bytes: Buffer, more: Partial<CapturedPacket> = {}): CapturedPacket {
  return { isOut: false, time: AT, by: 'eth0', hasEthernet: false, bytes, length: bytes.length, comment: 'forwarded', ...more };
}

/** By the draft's section 3.1: a type, a length in front and the same behind, a body of whole words. */
function blocksIn(bytes: Buffer): { type: number; body: Buffer }[] {
  const blocks = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at + 4);
    expect(length % 4).toBe(0);
    expect(bytes.readUInt32LE(at + length - 4)).toBe(length);
    blocks.push({ type: bytes.readUInt32LE(at), body: bytes.subarray(at + 8, at + length - 4) });
    at += length;
  }
  return blocks;
}

test('a section, interfaces as they come, packets with which way they went and a comment', () => {
  const writer = new PcapngWriter(1600);
  const [section, kernel] = blocksIn(writer.begin('lb4 1'));
  expect(section?.type).toBe(0x0a0d0d0a);
  expect(section?.body.toString('hex')).toBe(
    `4d3c2b1a01000000${'ff'.repeat(8)}04000500${Buffer.from('lb4 1').toString('hex')}00000000000000`,
  );
  expect(kernel?.type).toBe(1);
  expect(kernel?.body.subarray(0, 8).toString('hex')).toBe('6500000040060000');

  const first = blocksIn(writer.packet(packetOf(Buffer.from('abcde'), { hasEthernet: true, length: 99, isOut: true })));
  expect(first.map(({ type }) => type)).toEqual([1, 6]);
  expect(first[0]?.body.toString('hex')).toBe(
    ['01000000', '40060000', '02000400', Buffer.from('eth0').toString('hex'), '09000100', '06000000', '00000000'].join(''),
  );
  const body = first[1]?.body ?? Buffer.alloc(0);
  expect(body.readUInt32LE(0)).toBe(1);
  expect(body.readUInt32LE(4) * 2 ** 32 + body.readUInt32LE(8)).toBe(AT * 1000);
  expect([body.readUInt32LE(12), body.readUInt32LE(16)]).toEqual([5, 99]);
  expect(body.subarray(20).toString('hex')).toBe(
    ['6162636465', '000000', '02000400', '02000000', '01000900', Buffer.from('forwarded').toString('hex'), '000000', '00000000'].join(''),
  );
  // The same interface is described once, and another one with headers of another kind.
  expect(blocksIn(writer.packet(packetOf(Buffer.from('x'), { hasEthernet: true }))).map(({ type }) => type)).toEqual([6]);
  const other = blocksIn(writer.packet(packetOf(Buffer.from('x'))));
  expect([other.map(({ type }) => type), other[1]?.body.readUInt32LE(0)]).toEqual([[1, 6], 2]);

  const [statistics] = blocksIn(writer.statistics(AT, 7, 3, undefined));
  expect([statistics?.type, statistics?.body.readUInt32LE(0)]).toEqual([5, 0]);
  expect(statistics?.body.subarray(12).toString('hex')).toBe('04000800070000000000000005000800030000000000000000000000');
});

test('it comes in any pieces, ends at the count, and says what was lost', async () => {
  const tcp = ipv4({
    source: '192.0.2.7',
    destination: '192.0.2.1',
    sourcePort: 4711,
    destinationPort: 80,
    flags: ACK,
    payload: Buffer.alloc(5),
  });
  const udp = ipv4({
    source: '192.0.2.1',
    destination: '192.0.2.7',
    protocol: UDP,
    sourcePort: 53,
    destinationPort: 9,
    payload: Buffer.alloc(3),
  });
  const packets = [packetOf(tcp, { comment: 'forwarded; server web/a' }), packetOf(udp, { isOut: true }), packetOf(udp)];
  const batch: CaptureBatch = { packets, lost: 9, note: 'something else' };
  let stops = 0;
  const stop = async () => void stops++;
  const captured = { next: async () => batch, stop, stopping: new AbortController().signal };
  const stream = pcapngOf(captured, { filter: {}, snaplen: 1600, count: 5 }, 'lb4 1');
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  const bytes = Buffer.concat(parts);
  expect(stops).toBe(1);

  const [blocks, lines] = [new Blocks(), new CaptureLines()];
  const told = [...bytes].flatMap((byte) => blocks.take(Buffer.of(byte))).flatMap((block) => lines.take(block) ?? []);
  expect(told).toHaveLength(5);
  expect(told[0]).toMatch(
    /^\d\d:\d\d:00\.000250 in {2}eth0 192\.0\.2\.7:4711 > 192\.0\.2\.1:80 tcp \[\.\] length 5 {2}forwarded; server web\/a\n$/,
  );
  expect(told[1]).toMatch(/ out eth0 192\.0\.2\.1:53 > 192\.0\.2\.7:9 udp length 3 {2}forwarded\n$/);
  expect(lines).toMatchObject({ packets: 5, lost: 9, note: 'something else' });
});

test('one that cannot be read on is ended', async () => {
  let stops = 0;
  const next = () => Promise.reject(new Error('gone'));
  const captured = { next, stop: async () => void stops++, stopping: new AbortController().signal };
  const reader = pcapngOf(captured, { filter: {}, snaplen: 96, count: undefined }, 'lb4').getReader();
  await reader.read();
  await expect(reader.read()).rejects.toThrow('gone');
  expect(stops).toBe(1);
});

test('whoever reads hears of it now and then where nothing happens, though the clock of the host goes back', async () => {
  const seconds = [6, 12, 18, 24, 30];
  let now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => now);
  vi.spyOn(Date, 'now').mockImplementation(() => AT - now * 1000);
  const next = async (): Promise<CaptureBatch | undefined> => {
    const second = seconds.shift();
    if (second === undefined) return undefined;
    now = second * 1000;
    return { packets: [], lost: 0, note: undefined };
  };
  const parts: Uint8Array[] = [];
  try {
    const captured = { next, stop: async () => {}, stopping: new AbortController().signal };
    for await (const part of pcapngOf(captured, { filter: {}, snaplen: 96, count: undefined }, 'lb4')) parts.push(part);
  } finally {
    vi.restoreAllMocks();
  }
  // Its beginning, the first statistics, and others 12 and 24 seconds later.
  expect(parts).toHaveLength(4);
});

test('what is cut, foreign or no first fragment has a line as well', () => {
  const whole = ipv4({ source: '192.0.2.7', destination: '192.0.2.1', flags: ACK });
  const frames = [whole.subarray(0, 20), whole.subarray(0, 5), ipv4({ source: '192.0.2.7', destination: '192.0.2.1', fragmentOffset: 8 })];
  const ethernet = (type: string) => Buffer.concat([Buffer.alloc(12), Buffer.from(type, 'hex'), whole]);
  const lines = new CaptureLines();
  const writer = new PcapngWriter(96);
  const textOf = (packet: CapturedPacket) =>
    new Blocks()
      .take(writer.packet(packet))
      .flatMap((block) => lines.take(block) ?? [])
      .join('');
  new Blocks().take(writer.begin('lb4')).forEach((block) => lines.take(block));
  expect(frames.map((bytes) => textOf(packetOf(bytes, { length: 40 }))).join('')).toMatch(
    /192\.0\.2\.7 > 192\.0\.2\.1 tcp length 20 .*\n.* ethertype 0x0800, length 40 .*\n.*fragment, length 0/,
  );
  expect(textOf(packetOf(ethernet('0806'), { hasEthernet: true }))).toContain('ethertype 0x0806, length 54');
  expect(textOf(packetOf(ethernet('8100000a0800'), { hasEthernet: true }))).toContain('192.0.2.7:0 > 192.0.2.1:0 tcp [.] length 0');
});

test('the ring: in order around its end, nothing of it torn, and what has no room is counted', () => {
  const memory = new ArrayBuffer(RING_BYTES);
  const [writer, reader] = [new CaptureWriter(memory, 0), new CaptureReader(memory, 0)];
  expect(reader.isTaken).toBe(true);
  const write = (number: number, words: number) => {
    const at = writer.begin(IN, number, words);
    if (at < 0) return false;
    writer.words[at + Ring.HAS_ETHERNET] = 0;
    writer.words[at + Ring.CAPTURED] = words * 4 - Ring.BEFORE_IP;
    writer.words.fill(number, at + WORDS, at + WORDS + words);
    return true;
  };
  let [written, read, refused] = [0, 0, 0];
  for (let round = 0; round < 6; round++) {
    // Of different sizes, so that the end comes in the middle of one.
    while (write(written, 1000 + (written % 777))) written++;
    refused++;
    // Not before it is finished.
    if (round === 0) expect(readOldest([reader], 1 << 30)).toEqual([]);
    writer.publish();
    for (const { time, bytes } of readOldest([reader], 3 << 20)) {
      expect(time).toBe(read);
      const words = new Int32Array(bytes.buffer);
      expect([words[0], words.at(-1)]).toEqual([read, read]);
      read++;
    }
    // What another round has left.
    if (round % 2 === 1) while (read < written) for (const { time } of readOldest([reader], 1 << 20)) expect(time).toBe(read++);
  }
  expect([written > 2500, reader.lost]).toEqual([true, refused]);
  // As new for the next one, who finds nothing of it.
  reader.reset();
  expect([reader.isTaken, reader.lost, reader.peek()]).toEqual([false, 0, Number.POSITIVE_INFINITY]);
});

test('several rings: the oldest first, and so many bytes of all of them together', () => {
  const memory = new ArrayBuffer(3 * RING_BYTES);
  const readers = [0, 1, 2].map((worker) => new CaptureReader(memory, worker));
  const write = (worker: number, times: readonly number[], kind = IN) => {
    const writer = new CaptureWriter(memory, worker);
    for (const time of times) writer.words[writer.begin(kind, time, 25) + Ring.CAPTURED] = 52;
    writer.publish();
  };
  write(0, [1, 4, 5, 9]);
  write(2, [2, 3, 6, 7]);
  // What nobody wanted in the end is passed over.
  write(1, [0, 8], Ring.SKIP);
  const timesOf = (most: number) => readOldest(readers, most).map(({ time }) => time);
  expect([timesOf(500), timesOf(1)]).toEqual([[1, 2, 3, 4, 5], [6]]);
  write(2, [10]);
  expect(timesOf(1 << 20)).toEqual([7, 9, 10]);
});
