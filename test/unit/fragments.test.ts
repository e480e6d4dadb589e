/** Fragments of datagrams that the kernel has not put together: where the first one goes the others go, and together they are whole. */
import { beforeEach, expect, test, vi } from 'vitest';
import { RX, serverRow, TX } from '../../src/layout/counters.ts';
import { UDP } from '../../src/packet/fields.ts';
import { buildFrame, buildIp, type Packet, pattern, type UdpPart, wrongChecksums } from '../lab/packets.ts';
import {
  BACK,
  between,
  CLIENT,
  connectionsIn,
  FRONT,
  frontPort,
  type Outcome,
  SERVERS,
  TIMEOUTS,
  VIP,
  World,
  type WorldOptions,
} from '../lab/world.ts';

const PORT = 33_768;
const STEP = 1480;
const ALONE: WorldOptions = { protocol: UDP, up: [true, false] };
beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

/** As DNS sends them. */
const query = (udp: Partial<UdpPart> = {}): Packet => ({
  source: CLIENT,
  destination: VIP,
  udp: { from: 5000, to: 80, payload: pattern(4000), ...udp },
});
const answer = (udp: Partial<UdpPart> = {}): Packet => ({
  source: SERVERS[0],
  destination: VIP,
  udp: { from: 8080, to: PORT, payload: pattern(4000), ...udp },
});

/** What a host makes of a datagram on a link of 1,500 bytes. */
function parts(packet: Packet, identification = 1, more: Partial<Packet> = {}): Packet[] {
  const datagram = buildIp(packet).subarray(20);
  const { source, destination } = packet;
  return Array.from({ length: Math.ceil(datagram.length / STEP) }, (_, i) => ({
    source,
    destination,
    identification,
    dontFragment: false,
    fragmentOffset: i * STEP,
    moreFragments: (i + 1) * STEP < datagram.length,
    other: { protocol: UDP, payload: datagram.subarray(i * STEP, (i + 1) * STEP) },
    ...more,
  }));
}

/** What the receiver makes of them: addresses and ports, and what is wrong with it. */
function whole(outcomes: readonly Outcome[]) {
  const datagram = Buffer.concat(outcomes.map(({ frame }) => frame.subarray(34)));
  const header = outcomes[0].frame.subarray(14, 34);
  for (const { frame } of outcomes) expect(wrongChecksums(frame.subarray(14))).toEqual([]);
  const address = (offset: number) => header.subarray(offset, offset + 4).join('.');
  const ends = { source: address(12), destination: address(16) };
  const ip = buildIp({ ...ends, other: { protocol: UDP, payload: datagram } });
  const tuple = `${ends.source}:${datagram.readUInt16BE(0)} > ${ends.destination}:${datagram.readUInt16BE(2)}`;
  return { tuple, wrong: wrongChecksums(ip), payload: datagram.subarray(8) };
}

const send = (world: World, packets: readonly Packet[]) => packets.map((packet) => world.send(packet));
const FOLLOWED = Array.from({ length: 3 }, () => 'fragmentFollowed');

test('a query of 4,000 bytes and its answer, of which no part is whole', () => {
  const world = new World(ALONE);
  const there = send(world, parts(query()));
  expect(there.map(({ verdict }) => verdict)).toEqual(FOLLOWED);
  expect(whole(there)).toEqual({ tuple: `${VIP}:${PORT} > ${SERVERS[0]}:8080`, wrong: [], payload: Buffer.from(pattern(4000)) });
  const back = send(world, parts(answer()));
  expect(whole(back)).toEqual({ tuple: `${VIP}:80 > ${CLIENT}:5000`, wrong: [], payload: Buffer.from(pattern(4000)) });
  world.sweepAll(1);
  expect([TX, RX].map((column) => world.statistics[serverRow(0) + column])).toEqual([4000, 4000]);
  // The server has been heard: it is given the longer time.
  world.sweepAll(TIMEOUTS.udp + 2);
  expect(connectionsIn(world)).toHaveLength(1);
});

test('checksums: none stays none, one that comes out as zero is all ones', () => {
  const world = new World(ALONE);
  expect(whole(send(world, parts(query({ checksum: 0 }))))).toMatchObject({ wrong: [] });
  const { frame } = world.send(parts(query())[0]);
  const checksum = (frame[40] << 8) | frame[41];
  const payload = pattern(4000);
  payload.set([0, 0], 100);
  const [lacks] = send(world, parts(query({ payload }), 2)).map((out) => (out.frame[40] << 8) | out.frame[41]);
  payload.set([lacks >> 8, lacks & 255], 100);
  const after = send(world, parts(query({ payload }), 3));
  expect([checksum > 0, (after[0].frame[40] << 8) | after[0].frame[41], whole(after).wrong]).toEqual([true, 0xffff, []]);
});

test('those of several packets at a time, in between', () => {
  const world = new World(ALONE);
  const all = [1, 2, 3].map((id) => parts(query({ from: 5000 + id }), id));
  const sent = all.map(() => [] as Outcome[]);
  for (let i = 0; i < 3; i++) all.forEach((packets, at) => sent[at].push(world.send(packets[i])));
  expect(sent.map((outcomes) => whole(outcomes).wrong)).toEqual([[], [], []]);
  expect(new Set(sent.map((outcomes) => whole(outcomes).tuple)).size).toBe(3);
});

test('another packet’s, another protocol’s, and what comes before the first or a second after it: dropped', () => {
  const world = new World(ALONE);
  const [first, second] = parts(query());
  expect(world.send(second).verdict).toBe('dropFragment');
  world.send(first);
  const others: Packet[] = [
    { ...second, identification: 2 },
    { ...second, source: '10.0.0.10' },
    { ...second, other: { protocol: 6, payload: second.other!.payload } },
  ];
  expect(others.map((packet) => world.send(packet).verdict)).toEqual(['dropFragment', 'dropFragment', 'dropFragment']);
  world.now += 1000;
  expect(world.send(second).verdict).toBe('fragmentFollowed');
  world.now += 1;
  expect(world.send(second).verdict).toBe('dropFragment');
});

test('no server is up, a first one too short for a header, TTL 1: dropped', () => {
  const world = new World({ ...ALONE, up: [false, false] });
  expect(world.send(parts(query())[0]).verdict).toBe('dropFragment');
  const other = new World(ALONE);
  const [first, second] = parts(query());
  const short = { ...first, other: { protocol: UDP, payload: new Uint8Array(7) } };
  expect(other.send(short).verdict).toBe('dropFragment');
  expect(other.send({ ...first, ttl: 1 }).verdict).toBe('dropFragment');
  expect(other.table.size).toBe(0);
  other.send(first);
  expect(other.send({ ...second, ttl: 1 }).verdict).toBe('dropFragment');
});

test('too large for the way to the server: cut once more, unless it may not be', () => {
  const world = new World({ ...ALONE, mtu: 1000 });
  const outcomes = send(world, parts(query()));
  expect(outcomes.map(({ cut }) => cut)).toEqual(
    [1000, 1000, 1000].map((mtu, i) => (buildIp(parts(query())[i]).length > mtu ? mtu : undefined)),
  );
  expect(world.send({ ...parts(query())[1], dontFragment: true }).verdict).toBe('dropFragment');
});

test('udp_per_packet: all parts go to the server of the first, and the parts of the answer come back', () => {
  const world = new World({ protocol: UDP, perPacket: true });
  const there = [1, 2].map((id) => whole(send(world, parts(query(), id))));
  expect(there.map(({ tuple }) => tuple.split(' > ')[1])).toEqual([`${SERVERS[0]}:8080`, `${SERVERS[1]}:8080`]);
  const port = Number(/:(\d+) >/.exec(there[0].tuple)?.[1]);
  const back = send(world, parts(answer({ to: port })));
  expect(whole(back)).toMatchObject({ tuple: `${VIP}:80 > ${CLIENT}:5000`, wrong: [] });
  expect(world.records.size).toBe(1);
});

test('between interfaces: a service’s are rewritten, all others cross as they came', () => {
  const world = new World({ ...ALONE, inline: between(frontPort(FRONT)) });
  const ethernet = ['02:00:00:00:00:01', '02:00:00:00:00:02'] as const;
  const there = parts(query()).map((packet) => world.send({ ...packet, ethernet }));
  expect(whole(there)).toMatchObject({ tuple: `${VIP}:${PORT} > ${SERVERS[0]}:8080`, wrong: [] });
  expect(there.map(({ frame }) => [frame[12], frame[13], frame[22]])).toEqual([1, 2, 3].map(() => [8, 0, 64]));
  const others = parts({ ...query(), destination: '198.51.100.1' }).map((packet) => ({ ...packet, ethernet }));
  expect(others.map((packet) => [world.send(packet)].map(({ verdict, frame }) => [verdict, Buffer.from(frame)])[0])).toEqual(
    others.map((packet) => ['crossed', Buffer.from(buildFrame(packet))]),
  );
});

test('whoever sends thousands of first ones takes nobody’s memory but their own place', () => {
  const world = new World({ ...ALONE, capacity: 16_384, connections: 8192 });
  for (let i = 0; i < 5000; i++) world.send(parts(query({ from: 1024 + (i % 100) }), i)[0]);
  expect(whole(send(world, parts(query(), 9)))).toMatchObject({ wrong: [] });
  expect(world.records.size).toBe(101);
});

test('nat = "destination": what follows an answer by a link of clients alone is nobody’s', () => {
  for (const more of [{}, { perPacket: true }]) {
    const world = new World({ ...ALONE, mode: 'destination', ...more });
    send(world, parts(query()));
    const [first, second] = parts({ ...answer({ to: 5000 }), destination: CLIENT });
    expect(world.send(first, { interface: BACK }).verdict).toBe('fragmentFollowed');
    expect([FRONT, BACK].map((side) => world.send(second, { interface: side }).verdict)).toEqual(['dropFragment', 'fragmentFollowed']);
  }
});
