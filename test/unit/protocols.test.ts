/**
 * A second protocol is a file and a line in the table: here test/fixtures/udp.ts, in place of that line. Passes, slow path, endpoints,
 * pools and the forwarding of ICMP errors take it as they are.
 */
import { expect, test, vi } from 'vitest';
import { prepare } from '../../src/balance/index.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import { parseAddress, swap16 } from '../../src/packet/address.ts';
import { isTransportIntact } from '../../src/packet/build.ts';
import { ICMP, ICMP_UNREACHABLE, slabOf, TCP } from '../../src/packet/fields.ts';
import { type Packet, pattern } from '../lab/packets.ts';
import { CLIENT, SERVERS, VIP, World } from '../lab/world.ts';

const UDP = 17;
const HEADER = 8;

vi.mock(import('../../src/flow/protocols.ts'), async (original) => {
  const { protocols } = await original();
  const { udp } = await import('../fixtures/udp.ts');
  const both = [protocols[0], udp] as const;
  return { protocols: both, byNumber: Array.from({ length: 256 }, (_, number) => both.find((one) => one.number === number)) };
});

/** A frontend of either protocol on port 80 of the VIP, each with the first server's port 8080. */
function both(): World {
  const world = new World();
  const numbers = [TCP, UDP];
  const set: ServiceSet = {
    frontends: numbers.map((protocol, index) => {
      return { index, address: parseAddress(VIP), port: 80, protocol, backend: `${protocol}`, maxconn: 0, draining: false };
    }),
    backends: numbers.map((protocol, index) => ({
      name: `${protocol}`,
      mode: 'passthrough',
      servers: [{ index, address: parseAddress(SERVERS[0]), port: 8080, protocol }],
      choice: prepare('roundrobin', [{ name: 's', weight: 1, index, maxconn: 0 }]),
    })),
  };
  world.services.apply(set, new Map(numbers.map((_, index) => [index, [1]])));
  return world;
}

function datagram(source: string, from: number, destination: string, to: number): Packet {
  const payload = Uint8Array.from([from >> 8, from & 255, to >> 8, to & 255, 0, HEADER + 12, 0, 0, ...pattern(12)]);
  const pseudo = [...source.split('.'), ...destination.split('.')].map(Number).concat([0, UDP, 0, payload.length]);
  let sum = 0;
  [...pseudo, ...payload].forEach((byte, i) => (sum += i & 1 ? byte : byte << 8));
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  payload.set([(~sum >> 8) & 255, ~sum & 255], 6);
  return { source, destination, other: { protocol: UDP, payload } };
}

/** What left, from its IP header on: addresses, ports, and whether its checksum is right. */
function read(frame: Uint8Array) {
  const slab = slabOf(new ArrayBuffer(2048));
  slab.bytes.set(frame.subarray(14));
  const at = (offset: number) => swap16(slab.halves[offset / 2]);
  const address = (offset: number) => slab.bytes.subarray(offset, offset + 4).join('.');
  return { tuple: `${address(12)}:${at(20)} > ${address(16)}:${at(22)}`, port: at(20), intact: isTransportIntact(slab, 0) };
}

test('datagrams are balanced, and answers come back, beside a TCP connection of the same ports', () => {
  const world = both();
  const tcp = world.send({ source: CLIENT, destination: VIP, tcp: { from: 5000, to: 80, flags: 'S' } });
  const request = world.send(datagram(CLIENT, 5000, VIP, 80));
  expect([tcp.verdict, request.verdict, world.table.size, world.services.pools.size]).toEqual(['opened', 'opened', 4, 2]);
  const out = read(request.frame);
  expect(out).toMatchObject({ tuple: `${VIP}:${out.port} > ${SERVERS[0]}:8080`, intact: true });
  const answer = world.send(datagram(SERVERS[0], 8080, VIP, out.port));
  expect(answer.verdict).toBe('forwarded');
  expect(read(answer.frame)).toMatchObject({ tuple: `${VIP}:80 > ${CLIENT}:5000`, intact: true });
  // Established by now: pass 3 alone.
  const second = world.send(datagram(CLIENT, 5000, VIP, 80));
  expect([second.verdict, read(second.frame)]).toEqual(['forwarded', out]);
});

test('an ICMP error that quotes a datagram goes on to its client', () => {
  const world = both();
  const { port } = read(world.send(datagram(CLIENT, 5000, VIP, 80)).frame);
  const error = world.send({
    source: SERVERS[0],
    destination: VIP,
    icmp: { type: 3, code: 3, quote: datagram(VIP, port, SERVERS[0], 8080) },
  });
  expect(error.verdict).toBe('icmpTranslated');
  const quoted = Uint8Array.from([...new Uint8Array(14), ...error.frame.subarray(14 + 28)]);
  expect(read(quoted)).toMatchObject({ tuple: `${CLIENT}:5000 > ${VIP}:80`, intact: true });
});

test('what no server takes is refused as the protocol has it', () => {
  const world = both();
  world.services.apply({
    frontends: [{ index: 1, address: parseAddress(VIP), port: 80, protocol: UDP, backend: 'x', maxconn: 0, draining: false }],
    backends: [],
  });
  const { verdict, frame } = world.send(datagram(CLIENT, 5000, VIP, 80));
  expect([verdict, frame[14 + 9], frame[14 + 20]]).toEqual(['resetNoServer', ICMP, ICMP_UNREACHABLE]);
});

test('too short to be one, or of a third protocol: dropped', () => {
  const world = both();
  const other = (protocol: number, length: number): Packet => ({
    source: CLIENT,
    destination: VIP,
    other: { protocol, payload: new Uint8Array(length) },
  });
  expect([other(UDP, 7), other(132, 20)].map((packet) => world.send(packet).verdict)).toEqual(['dropMalformed', 'dropNotOurs']);
});

test('a silent one is forgotten after its own timeout', () => {
  const world = both();
  world.send(datagram(CLIENT, 5000, VIP, 80));
  world.sweepAll(20_000);
  expect(world.table.size).toBe(2);
  world.sweepAll(20_001);
  expect(world.table.size).toBe(0);
});
