/** UDP through the passes and the slow path: states and what they are given, who makes way, checksums, refusals, the books. */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { prepare } from '../../src/balance/index.ts';
import * as T from '../../src/flow/life.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import { ANSWERED, CURRENT, DUE, frontendRow, PORTS, RX, serverRow, TOTAL, TX } from '../../src/layout/counters.ts';
import { BYTES, FAST, LENT, SEEN, STATE } from '../../src/layout/flow.ts';
import { CLIENT_PORTS } from '../../src/layout/ports.ts';
import { parseAddress, portsWord } from '../../src/packet/address.ts';
import { ICMP, ICMP_UNREACHABLE, TCP, UDP } from '../../src/packet/fields.ts';
import { type Packet, pattern, type UdpPart, wrongChecksums } from '../lab/packets.ts';
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

const PORT = CLIENT_PORTS.first;
const ALONE: WorldOptions = { protocol: UDP, up: [true, false] };
beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

function datagram(udp: Partial<UdpPart> = {}, more: Partial<Packet> = {}): Packet {
  return { source: CLIENT, destination: VIP, udp: { from: 5000, to: 80, payload: pattern(12), ...udp }, ...more };
}

/** What the first server sends to the first connection, unless it is said otherwise. */
function answer(udp: Partial<UdpPart> = {}, more: Partial<Packet> = {}): Packet {
  return datagram({ from: 8080, to: PORT, ...udp }, { source: SERVERS[0], destination: VIP, ...more });
}

/** What left, from its IP header on. */
function read({ frame }: Pick<Outcome, 'frame'>) {
  const ip = frame.subarray(14);
  const at = (offset: number) => ip[offset] * 256 + ip[offset + 1];
  const address = (offset: number) => ip.subarray(offset, offset + 4).join('.');
  const header = (ip[0] & 0xf) * 4;
  const tuple = `${address(12)}:${at(header)} > ${address(16)}:${at(header + 2)}`;
  return { tuple, port: at(header), checksum: at(header + 6), wrong: wrongChecksums(ip) };
}

function lifeOf(world: World, at = 0): number {
  return connectionsIn(world)[at].life;
}

/** Of the first connection: whether its directions need the slow path no more. */
function fast(world: World): boolean[] {
  const [{ first, second }] = connectionsIn(world);
  return [first, second ?? first].map((at) => (world.table.words[at + STATE] & FAST) !== 0);
}

/** Two protocols at one port of the VIP, each with the first server's port 8080. */
function both(options: WorldOptions = {}): World {
  const world = new World(options);
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

const syn = (from: number): Packet => ({ source: CLIENT, destination: VIP, tcp: { from, to: 80, flags: 'S' } });

test('datagrams are balanced, and answers come back, beside a TCP connection of the same ports', () => {
  const world = both();
  const request = [world.send(syn(5000)), world.send(datagram())];
  expect([...request.map(({ verdict }) => verdict), world.table.size, world.services.pools.size]).toEqual(['opened', 'opened', 4, 2]);
  const out = read(request[1]);
  expect(out).toMatchObject({ tuple: `${VIP}:${PORT} > ${SERVERS[0]}:8080`, wrong: [] });
  const back = world.send(answer());
  expect([back.verdict, read(back)]).toMatchObject(['forwarded', { tuple: `${VIP}:80 > ${CLIENT}:5000`, wrong: [] }]);
  // Established by now: pass 3 alone.
  const second = world.send(datagram());
  expect([second.verdict, read(second)]).toEqual(['forwarded', out]);
});

describe('what a flow is given', () => {
  test('while SYNs flood one without an answer has as long as ever, and handshakes an eighth', () => {
    const world = both({ capacity: 131_072, connections: 50_000, floodFrom: 50 });
    world.send(datagram());
    for (let i = 0; i < 100; i++) world.send(syn(10_000 + i));
    world.core.guard.tick(world.halfOpen.size, 0, 1000);
    expect(world.core.guard.isFlooded).toBe(true);
    world.sweepAll(TIMEOUTS.syn / 8 + 1);
    expect([world.halfOpen.size, world.datagrams.size]).toEqual([0, 1]);
    world.sweepAll(TIMEOUTS.udp);
    expect(world.datagrams.size).toBe(1);
  });

  test('one datagram without an answer: `udp`', () => {
    const world = new World(ALONE);
    world.send(datagram());
    expect([lifeOf(world) & T.STATE_MASK, fast(world)]).toEqual([T.OPENING, [false, false]]);
    world.sweepAll(TIMEOUTS.udp);
    expect(world.table.size).toBe(2);
    world.sweepAll(TIMEOUTS.udp + 1);
    expect([world.table.size, world.datagrams.size, world.services.pools.at(0)?.available]).toEqual([0, 0, world.services.pools.portsEach]);
  });

  test('once both sides have spoken: `udp_stream`, and both leave the slow path', () => {
    const world = new World(ALONE);
    world.send(datagram());
    world.send(answer());
    expect([lifeOf(world) & T.STATE_MASK, lifeOf(world) & T.SPOKEN, fast(world)]).toEqual([T.ESTABLISHED, T.SPOKEN, [true, true]]);
    world.sweepAll(TIMEOUTS.udpStream);
    expect(world.table.size).toBe(2);
    world.sweepAll(TIMEOUTS.udpStream + 1);
    expect(world.table.size).toBe(0);
  });

  test('a client whom nobody answers leaves the slow path with its third, and is still given `udp`; the answer that comes late is heard', () => {
    const world = new World(ALONE);
    for (let i = 0; i < 2; i++) world.send(datagram());
    expect(fast(world)).toEqual([false, false]);
    world.send(datagram());
    expect([lifeOf(world) & T.STATE_MASK, fast(world)]).toEqual([T.ESTABLISHED, [true, false]]);
    world.sweepAll(TIMEOUTS.udp);
    expect(world.table.size).toBe(2);
    expect([world.send(answer()).verdict, fast(world)]).toEqual(['forwarded', [true, true]]);
    world.sweepAll(2 * TIMEOUTS.udp + 1);
    expect(world.table.size).toBe(2);
    const silent = new World(ALONE);
    for (let i = 0; i < 3; i++) silent.send(datagram());
    silent.sweepAll(TIMEOUTS.udp + 1);
    expect(silent.table.size).toBe(0);
  });

  test('the server alone moves nothing that its checksum does not vouch for', () => {
    const world = new World(ALONE);
    world.send(datagram());
    world.send(answer({ checksum: 0x1234 }));
    expect(lifeOf(world) & T.SPOKEN).toBe(0);
    for (let i = 0; i < 5; i++) world.send(datagram({ checksum: 0x1234 }));
    expect(fast(world)).toEqual([false, false]);
  });

  test('direct server return: the second datagram, and `udp_stream` from then on', () => {
    const world = new World({ ...ALONE, mode: 'dsr' });
    expect([1, 2, 3].map(() => world.send(datagram()).verdict)).toEqual(['opened', 'forwarded', 'forwarded']);
    expect(fast(world)).toEqual([true, true]);
    world.sweepAll(TIMEOUTS.udpStream);
    expect(world.table.size).toBe(1);
    world.sweepAll(TIMEOUTS.udpStream + 1);
    expect(world.table.size).toBe(0);
  });
});

describe('the books', () => {
  const row = (world: World, at: number, columns: number[]) => columns.map((column) => world.statistics[at + column]);

  test('a flow counts when it is established, its answer when it comes; no server is suspected', () => {
    const world = new World(ALONE);
    const columns = [TOTAL, CURRENT, TX, RX, DUE, ANSWERED];
    for (let i = 0; i < 2; i++) world.send(datagram());
    expect([world.loads[0], ...row(world, frontendRow(0), columns)]).toEqual([1, 0, 0, 0, 0, 1, 0]);
    world.send(answer());
    world.sweepAll(1);
    expect(row(world, frontendRow(0), columns)).toEqual([1, 1, 24, 12, 1, 1]);
    expect(row(world, serverRow(0), [...columns, PORTS])).toEqual([1, 1, 24, 12, 1, 1, 1]);
    world.sweepAll(TIMEOUTS.udpStream + 2);
    expect([world.loads[0], ...row(world, serverRow(0), [TOTAL, CURRENT, PORTS])]).toEqual([0, 1, 0, 0]);
    expect(world.signals.isNoted).toBe(false);
  });

  test('a process that goes on has them all, and who may make way is in order', () => {
    const world = new World(ALONE);
    for (let i = 0; i < 3; i++) {
      world.now += 100;
      world.send(datagram({ from: 5000 + i }));
    }
    world.send(answer({ to: PORT + 1 }));
    const next = world.next();
    expect([next.recovered, next.datagrams.size, next.halfOpen.size, next.loads[0]]).toEqual([3, 3, 0, 1 + 2]);
    expect(next.send(answer({ to: PORT + 1 })).verdict).toBe('forwarded');
    next.sweepAll(TIMEOUTS.udpStream * 2);
    expect([next.table.size, next.datagrams.size, next.loads[0]]).toEqual([0, 0, 0]);
  });
});

describe('who makes way', () => {
  const room: WorldOptions = { capacity: 16_384, connections: 8192 };

  test('a flood of forged datagrams has half of the table, answered or not; TCP keeps the rest, and its handshakes their turn', () => {
    const world = both(room);
    for (let i = 0; i < 1000; i++) world.send(syn(1024 + i));
    for (let i = 0; i < 12_000; i++) {
      const [from, source] = [1024 + (i % 6000), `10.9.0.${Math.floor(i / 6000)}`];
      const request = world.send(datagram({ from }, { source }));
      if (i % 2 === 0) world.send(answer({ to: read(request).port }));
    }
    expect([world.datagrams.size, world.halfOpen.size, world.connections.evicted]).toEqual([4096, 1000, 0]);
    expect(world.connections.evictedDatagrams).toBe(12_000 - 4096);
    expect(world.send(syn(60_000)).verdict).toBe('opened');
  });

  test('in a full table who has more of what may go makes way', () => {
    const world = both({ capacity: 4096, connections: 1024 });
    for (let i = 0; i < 1024; i++) world.send(datagram({ from: 1024 + i }));
    expect([world.records.isFull, world.send(syn(5000)).verdict]).toEqual([true, 'opened']);
    expect([world.datagrams.size, world.halfOpen.size]).toEqual([1023, 1]);
    const flooded = both({ capacity: 4096, connections: 1024 });
    flooded.send(datagram());
    for (let i = 0; i < 1100; i++) flooded.send(syn(1024 + i));
    expect([flooded.datagrams.size, flooded.send(datagram()).verdict]).toEqual([1, 'forwarded']);
  });

  test('whoever was seen since stays: the oldest is the one that has been silent for longest', () => {
    const world = new World({ ...ALONE, ...room });
    for (let i = 0; i < 4096; i++) world.send(datagram({ from: 1024 + i }));
    // Established, so that only the sweep sees the second one; a datagram without payload counts as well.
    for (const payload of [pattern(3), pattern(3), new Uint8Array()]) {
      world.send(datagram({ from: 1024, payload }));
      world.send(answer({ to: PORT + 1, payload }));
    }
    world.sweepAll(1500);
    world.sweepAll(3000);
    world.send(datagram({ from: 1026, payload: new Uint8Array() }));
    world.sweepAll(3500);
    for (let i = 0; i < 2; i++) world.send(datagram({ from: 10_000 + i }));
    const isKnown = (from: number) => world.send(datagram({ from })).verdict === 'forwarded';
    expect(isKnown(1026)).toBe(true);
    expect(world.connections.evictedDatagrams).toBe(2);
  });

  test('seven eighths of a server’s ports may be theirs: what the oldest gives back waits behind the rest, where a late answer finds nobody', () => {
    const world = new World({ ...ALONE, capacity: 131_072, connections: 65_536 });
    const most = Math.ceil((world.services.pools.portsEach * 7) / 8);
    for (let i = 0; i < most; i++) world.send(datagram({ from: 1024 + i }));
    expect([world.datagrams.size, world.connections.evictedDatagrams]).toEqual([most, 0]);
    expect(read(world.send(datagram({ from: 1 }))).port).toBe(PORT + most);
    expect([world.datagrams.size, world.connections.evictedDatagrams]).toEqual([most, 1]);
    expect(world.send(answer())).toMatchObject({ verdict: 'dropStray', out: 'drop' });
  });

  test('of the oldest rather one that was never answered', () => {
    const world = new World({ ...ALONE, ...room });
    for (let i = 0; i < 4096; i++) world.send(datagram({ from: 1024 + i }));
    for (let i = 0; i < 3; i++) world.send(answer({ to: PORT + i }));
    world.send(datagram({ from: 10_000 }));
    const clients = new Set(connectionsIn(world).map(({ first }) => world.table.words[first + 3]));
    expect([1024, 1026, 1027].map((from) => clients.has(portsWord(from, 80)))).toEqual([true, true, false]);
  });

  test('under a limit one that waits for its first answer for a second, and sessions only when they have been quiet for longer than such are', () => {
    const world = new World({ ...ALONE, maxconn: 1 });
    world.send(datagram());
    expect(world.send(datagram({ from: 5001 })).verdict).toBe('resetFull');
    world.now += 1000;
    expect([world.send(datagram({ from: 5001 })).verdict, world.table.size]).toEqual(['opened', 2]);
    world.send(answer({ to: PORT + 1 }));
    world.now += 29_999;
    expect(world.send(datagram()).verdict).toBe('resetFull');
    // The server alone goes on.
    world.send(answer({ to: PORT + 1 }));
    world.now += 29_999;
    expect(world.send(datagram()).verdict).toBe('resetFull');
    world.now += 1;
    expect(world.send(datagram()).verdict).toBe('opened');
  });

  test('a limit that sessions fill is not kept from newcomers by what was forged meanwhile', () => {
    const world = new World({ ...ALONE, frontendMaxconn: 3 });
    world.send(datagram());
    world.send(answer());
    for (let i = 1; i < 3; i++) world.send(datagram({ from: 5000 + i }));
    world.now += 1000;
    expect(world.send(datagram({ from: 6000 })).verdict).toBe('opened');
    expect(world.send(answer()).verdict).toBe('forwarded');
  });

  test('what the kernel may have in hand rests, though it had to make way', () => {
    const world = new World({ ...ALONE, isInKernel: true, maxconn: 1 });
    world.send(datagram());
    world.send(answer());
    const [{ first }] = connectionsIn(world);
    world.now += 30_000;
    world.send(datagram({ from: 5001 }));
    expect([world.table.words[first + STATE] & LENT, world.table.words[first + SEEN]]).toEqual([LENT, 30_000]);
    expect(connectionsIn(world)[0].first).not.toBe(first);
  });
});

describe('a server that may not be chosen any more', () => {
  test('its answer still goes to the client; the client’s next datagram goes elsewhere while nothing was answered', () => {
    const world = new World(ALONE);
    world.send(datagram());
    world.setServers([false, true]);
    expect([world.send(answer()).verdict, world.records.size]).toEqual(['forwarded', 1]);
    const other = new World(ALONE);
    other.send(datagram());
    other.setServers([false, true]);
    expect(read(other.send(datagram())).tuple).toContain(SERVERS[1]);
    expect(other.records.size).toBe(1);
  });
});

describe('a server that is lost', () => {
  test('its flows end with the next sweep, answered or not, so that their clients find another; others, and TCP, stay', () => {
    for (const protocol of [UDP, TCP]) {
      const world = new World({ protocol });
      const ask = (from: number) =>
        world.send(protocol === UDP ? datagram({ from }) : { source: CLIENT, destination: VIP, tcp: { from, to: 80, flags: 'S' } });
      for (let i = 0; i < 10; i++) ask(5000 + i);
      for (let i = 0; i < 5; i++) world.send(answer({ to: PORT + i }));
      world.apply({ up: [false, true], lost: [0] });
      world.sweepAll(1);
      expect(connectionsIn(world).map(({ server }) => server)).toEqual(
        Array.from({ length: protocol === UDP ? 5 : 10 }, (_, i) => (protocol === UDP ? 1 : i % 2)),
      );
      if (protocol === UDP) expect(read(ask(5000)).tuple).toContain(SERVERS[1]);
    }
  });

  test('down, but nobody else is up: they stay', () => {
    const world = new World({ ...ALONE });
    world.send(datagram());
    world.apply({ up: [false, false] });
    world.sweepAll(1);
    expect(world.records.size).toBe(1);
  });

  test('the slot of one that the kernel had rests: the same client goes on in another', () => {
    const world = new World({ protocol: UDP, isInKernel: true });
    world.send(datagram());
    world.send(answer());
    const [{ first }] = connectionsIn(world);
    world.apply({ up: [false, true], lost: [0] });
    world.sweepAll(1);
    expect([world.send(datagram()).verdict, connectionsIn(world)[0].first === first]).toEqual(['opened', false]);
  });
});

describe('udp_per_packet', () => {
  const EACH: WorldOptions = { protocol: UDP, perPacket: true };
  const row = (world: World, at: number) => [TOTAL, CURRENT, TX, RX, PORTS].map((column) => world.statistics[at + column]);

  test('each datagram of a client goes to the next server, and each answer comes back to it', () => {
    const world = new World(EACH);
    const sent = [1, 2, 3, 4].map(() => world.send(datagram()));
    expect(sent.map(({ verdict }) => verdict)).toEqual(['opened', 'opened', 'opened', 'opened']);
    const there = sent.map(read);
    expect(there.map(({ tuple }) => tuple.split(' > ')[1])).toEqual([0, 1, 0, 1].map((i) => `${SERVERS[i]}:8080`));
    // No flow of the client's.
    expect([world.table.size, world.records.size, world.datagrams.size]).toEqual([4, 4, 4]);
    there.toReversed().forEach(({ port }, i) => {
      const back = world.send(answer({ to: port }, { source: SERVERS[(i + 1) % 2] }));
      expect([back.verdict, read(back)]).toMatchObject(['forwarded', { tuple: `${VIP}:80 > ${CLIENT}:5000`, wrong: [] }]);
    });
    expect([world.table.size, world.records.size, world.datagrams.size]).toEqual([0, 0, 0]);
  });

  test('the first answer takes the way with it, and its port; without any it goes after `udp`', () => {
    const world = new World({ ...EACH, up: [true, false] });
    const { port } = read(world.send(datagram()));
    expect([1, 2].map(() => world.send(answer({ to: port })).verdict)).toEqual(['forwarded', 'dropStray']);
    expect(world.services.pools.at(0)?.available).toBe(world.services.pools.portsEach);
    world.send(datagram());
    world.sweepAll(TIMEOUTS.udp);
    expect(world.records.size).toBe(1);
    world.sweepAll(TIMEOUTS.udp + 1);
    expect([world.records.size, world.services.pools.at(0)?.available]).toEqual([0, world.services.pools.portsEach]);
  });

  test('a broken answer leaves the way as it is', () => {
    const world = new World({ ...EACH, up: [true, false] });
    const { port } = read(world.send(datagram()));
    world.send(answer({ to: port, checksum: 0x1234 }));
    expect(world.send(answer({ to: port })).verdict).toBe('forwarded');
  });

  test('the books have a connection a datagram, and bytes by their direction', () => {
    const world = new World({ ...EACH, up: [true, false] });
    const ports = [1, 2].map(() => read(world.send(datagram())).port);
    expect([world.loads[0], row(world, serverRow(0))]).toEqual([2, [2, 2, 24, 0, 2]]);
    world.send(answer({ to: ports[0], payload: pattern(100) }));
    expect([world.loads[0], row(world, serverRow(0))]).toEqual([1, [2, 1, 24, 100, 1]]);
    world.sweepAll(TIMEOUTS.udp + 1);
    expect([world.loads[0], row(world, serverRow(0)), row(world, frontendRow(0))]).toEqual([0, [2, 0, 24, 100, 0], [2, 0, 24, 100, 0]]);
  });

  test('under a limit the oldest waits for its answer no longer: log lines have none', () => {
    const world = new World({ ...EACH, maxconn: 1 });
    const verdicts = [1, 2, 3, 4].map(() => world.send(datagram()).verdict);
    expect([verdicts, world.records.size]).toEqual([['opened', 'opened', 'opened', 'opened'], 2]);
  });

  test('a flow that was there before a reload asked for it ends with the next sweep', () => {
    const world = new World({ protocol: UDP });
    world.send(datagram());
    world.send(answer());
    const { set, hops } = world.apply();
    world.services.apply({ ...set, frontends: set.frontends.map((frontend) => ({ ...frontend, perPacket: true })) }, hops);
    world.sweepAll(1);
    expect(world.records.size).toBe(0);
    const sent = [1, 2].map(() => read(world.send(datagram())).tuple.split(' > ')[1]);
    expect(new Set(sent).size).toBe(2);
    world.sweepAll(2);
    expect(world.records.size).toBe(2);
  });

  test('direct server return: nothing is remembered, but counted', () => {
    const world = new World({ ...EACH, mode: 'dsr' });
    const sent = [1, 2, 3, 4].map(() => read(world.send(datagram())));
    expect(sent.map(({ tuple }) => tuple.split(' > ')[1])).toEqual([0, 1, 0, 1].map((i) => `${SERVERS[i]}:8080`));
    expect([world.table.size, world.records.size, world.loads[0], row(world, serverRow(0))]).toEqual([0, 0, 0, [2, 0, 24, 0, 0]]);
  });

  test('servers that see their clients: a second query before the first answer has an answer of its own', () => {
    const world = new World({ ...EACH, mode: 'destination' });
    const there = [1, 2, 3].map(() => read(world.send(datagram())));
    expect(there.slice(0, 2).map(({ tuple }) => tuple)).toEqual([0, 1].map((i) => `${CLIENT}:5000 > ${SERVERS[i]}:8080`));
    // The port stays its own, which the answers of one server share: however many a client sends, none moves it.
    expect(there[2].tuple).toBe(there[0].tuple);
    for (const { tuple } of there) {
      const [from, to] = tuple.split(' > ').map((end) => end.split(':') as [string, string]);
      const back = world.send(datagram({ from: Number(to[1]), to: Number(from[1]) }, { source: to[0], destination: from[0] }), {
        interface: BACK,
      });
      expect(read(back)).toMatchObject({ tuple: `${VIP}:80 > ${CLIENT}:5000`, wrong: [] });
    }
    expect(world.table.size).toBe(0);
  });

  test('an error about a datagram goes on to its client', () => {
    const world = new World({ ...EACH, up: [true, false] });
    const { port } = read(world.send(datagram()));
    const quote = datagram({ from: port, to: 8080 }, { source: VIP, destination: SERVERS[0] });
    const { verdict, frame } = world.send({ source: SERVERS[0], destination: VIP, icmp: { type: 3, code: 3, quote } });
    expect([verdict, read({ frame: frame.subarray(28) }).tuple]).toEqual(['icmpTranslated', `${CLIENT}:5000 > ${VIP}:80`]);
    expect(world.signals.take()).toEqual([{ index: 0, reason: 'unreachable' }]);
  });

  test('a server that may not be chosen any more still answers; the next process begins anew, with all ports', () => {
    const world = new World({ ...EACH, up: [true, false] });
    const { port } = read(world.send(datagram()));
    world.setServers([false, true]);
    expect(world.send(answer({ to: port })).verdict).toBe('forwarded');
    world.setServers([true, false]);
    world.send(datagram());
    const next = world.next();
    expect([next.recovered, next.table.size, next.datagrams.size, next.loads[0]]).toEqual([0, 0, 0, 0]);
    expect(row(next, serverRow(0))).toEqual([2, 0, 24, 12, 0]);
  });
});

describe('checksums', () => {
  test('zero is none, and stays none, in either direction', () => {
    const world = new World(ALONE);
    for (let i = 0; i < 4; i++) {
      const [there, back] = [read(world.send(datagram({ checksum: 0 }))), read(world.send(answer({ checksum: 0 })))];
      expect([there, back]).toMatchObject([
        { tuple: `${VIP}:${PORT} > ${SERVERS[0]}:8080`, checksum: 0, wrong: [] },
        { tuple: `${VIP}:80 > ${CLIENT}:5000`, checksum: 0, wrong: [] },
      ]);
    }
  });

  test('between interfaces, where Ethernet headers stay as they came', () => {
    const world = new World({ ...ALONE, inline: between(frontPort(FRONT)) });
    for (let i = 0; i < 4; i++) {
      for (const checksum of [0, undefined]) {
        const packet = datagram(checksum === undefined ? {} : { checksum }, { ethernet: ['02:00:00:00:00:01', '02:00:00:00:00:02'] });
        const { frame } = world.send(packet);
        expect([...frame.subarray(0, 14)]).toEqual([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        expect([read({ frame }).wrong, read({ frame }).checksum === 0]).toEqual([[], checksum === 0]);
      }
    }
  });

  test('no payload, header options and Ethernet addresses change nothing about that', () => {
    const world = new World(ALONE);
    const options = [1, 1, 1, 0];
    for (const more of [{}, { options }, { options: [...options, ...options] }]) {
      for (const udp of [{ checksum: 0 }, { payload: new Uint8Array() }, { checksum: 0, payload: new Uint8Array() }]) {
        const out = world.send(datagram(udp, more));
        expect([out.frame[12], out.frame[13], read(out).wrong]).toEqual([8, 0, []]);
        expect(read(out).checksum === 0).toBe('checksum' in udp);
      }
    }
  });

  test('one that comes out as zero is sent as all ones', () => {
    const world = new World(ALONE);
    world.send(datagram());
    world.send(answer());
    for (let i = 0; i < 500; i++) {
      const before = Uint8Array.of(0, 0, i >> 8, i & 255);
      const { checksum } = read(world.send(datagram({ payload: before })));
      // What the checksum was is what the payload lacks for it to be zero.
      const { checksum: after, wrong } = read(
        world.send(datagram({ payload: Uint8Array.of(checksum >> 8, checksum & 255, i >> 8, i & 255) })),
      );
      expect([after, wrong]).toEqual([0xffff, []]);
    }
  });

  test('a partial one stays one', () => {
    const world = new World(ALONE);
    for (let i = 0; i < 3; i++) {
      const { frame } = world.send(datagram({ partial: true, from: 5000 }));
      expect(wrongChecksums(frame.subarray(14), true)).toEqual([]);
    }
  });

  test('a datagram is as long as it says, whatever the packet has behind it', () => {
    const world = new World(ALONE);
    const behind = { totalLength: 20 + 8 + 12 + 6, padTo: 60 };
    expect(world.send(datagram({}, behind)).verdict).toBe('opened');
    expect(read(world.send(datagram({}, behind))).wrong).toEqual(['UDP']); // whose reference goes by the packet's length
    expect(world.table.words[connectionsIn(world)[0].first + BYTES]).toBe(24);
  });
});

describe('lengths', () => {
  test.each([
    ['shorter than a header', { other: { protocol: UDP, payload: new Uint8Array(7) } }],
    ['a length below that of a header', { udp: { from: 5000, to: 80, length: 7 } }],
    ['a length beyond the packet', { udp: { from: 5000, to: 80, length: 9 } }],
  ])('%s: malformed', (_, packet) => {
    expect(new World(ALONE).send({ source: CLIENT, destination: VIP, ...packet }).verdict).toBe('dropMalformed');
  });

  test('a wrong checksum opens nothing', () => {
    const world = new World(ALONE);
    expect([world.send(datagram({ checksum: 0x1234 })).verdict, world.table.size]).toEqual(['dropMalformed', 0]);
  });

  test('a protocol that lb4 does not carry', () => {
    const packet = { source: CLIENT, destination: VIP, other: { protocol: 132, payload: new Uint8Array(20) } };
    expect(new World(ALONE).send(packet).verdict).toBe('dropNotOurs');
  });
});

describe('who may ask', () => {
  const ethernet = ['02:00:00:00:00:f1', '02:00:00:00:00:c1'] as const;

  test('one service in another’s name, or in its own: nobody answers that, however it is cut', () => {
    const world = new World({ ...ALONE, ports: [80, 81] });
    for (const source of [VIP, '127.0.0.1', '0.1.2.3', '224.0.0.1', '255.255.255.255']) {
      for (const from of [80, 81]) {
        const packet = datagram({ from }, { source, ethernet });
        expect(world.send(packet).verdict).toBe('dropStray');
        expect(world.send({ ...packet, moreFragments: true, dontFragment: false }).verdict).toBe('dropFragment');
        expect(world.send(packet, { noEthernet: true }).verdict).toBe('dropStray');
      }
    }
    expect(world.table.size).toBe(0);
  });

  test('a program of this host, over its own link', () => {
    const world = new World(ALONE);
    expect(world.send(datagram({}, { source: VIP })).verdict).toBe('opened');
  });

  test('a service on a port of the pools: what its servers answer too late is no client’s', () => {
    const world = new World({ ...ALONE, ports: [PORT] });
    expect(world.send(answer({ to: PORT })).verdict).toBe('dropStray');
    expect(world.send(datagram({ to: PORT })).verdict).toBe('opened');
  });

  test('port 0, where servers see their clients', () => {
    const world = new World({ ...ALONE, mode: 'destination' });
    expect(world.send(datagram({ from: 0 })).verdict).toBe('opened');
  });
});

describe('refusals', () => {
  const refused = (frame: Uint8Array) => [frame[14 + 9], frame[14 + 20], frame[14 + 21]];

  test('port unreachable where no server is up, under the limit of answers', () => {
    const world = new World({ ...ALONE, up: [false, false], answers: 2 });
    const { verdict, frame } = world.send(datagram());
    expect([verdict, refused(frame)]).toEqual(['resetNoServer', [ICMP, ICMP_UNREACHABLE, 3]]);
    expect(wrongChecksums(frame.subarray(14))).toEqual([]);
    expect([world.send(datagram()).verdict, world.send(datagram()).verdict]).toEqual(['resetNoServer', 'dropRateLimited']);
  });

  test('from a frontend that drains', () => {
    const world = new World(ALONE);
    world.apply({ up: [true, false], draining: [0] });
    expect(world.send(datagram()).verdict).toBe('resetUnknown');
  });

  test.each(['0.0.0.0', '0.1.2.3', '224.0.0.1', '239.255.255.255', '240.0.0.1', '255.255.255.255'])('never to %s', (source) => {
    const world = new World({ ...ALONE, up: [false, false] });
    expect([world.send(datagram({}, { source })), world.send(datagram({}, { source, ttl: 1 }))]).toMatchObject([
      { verdict: 'dropStray', out: 'drop' },
      { verdict: 'dropStray', out: 'drop' },
    ]);
  });

  test('an answer that comes too late is dropped without a word: its server has done nothing wrong', () => {
    const world = new World(ALONE);
    expect(world.send(answer())).toMatchObject({ verdict: 'dropStray', out: 'drop' });
  });
});

describe('ICMP errors that quote a datagram', () => {
  const error = (quote: Packet) => ({ source: SERVERS[0], destination: VIP, icmp: { type: 3, code: 3, quote } });

  test.each([
    ['with a checksum', {}],
    ['without', { checksum: 0 }],
  ])('%s: go on to its client', (_, udp) => {
    const world = new World(ALONE);
    world.send(datagram(udp));
    const { verdict, frame } = world.send(error(datagram({ from: PORT, to: 8080, ...udp }, { source: VIP, destination: SERVERS[0] })));
    expect([verdict, wrongChecksums(frame.subarray(14))]).toEqual(['icmpTranslated', []]);
    const quoted = read({ frame: frame.subarray(28) });
    expect([quoted.tuple, quoted.checksum === 0]).toEqual([`${CLIENT}:5000 > ${VIP}:80`, 'checksum' in udp]);
  });

  test('port unreachable from the server itself brings its check forward; from others, about anything else, or of another kind it does not', () => {
    const quote = datagram({ from: PORT, to: 8080 }, { source: VIP, destination: SERVERS[0] });
    const signalsOf = (packet: Packet, arrival = BACK) => {
      const world = new World(ALONE);
      world.send(datagram());
      return [world.send(packet, { interface: arrival }).verdict, world.signals.take()];
    };
    expect(signalsOf(error(quote))).toEqual(['icmpTranslated', [{ index: 0, reason: 'unreachable' }]]);
    // Its address alone: that comes from elsewhere.
    expect(signalsOf(error(quote), FRONT)).toEqual(['icmpTranslated', []]);
    expect(signalsOf({ ...error(quote), source: '198.51.100.7' })).toEqual(['icmpTranslated', []]);
    const kinds = [0, 1, 2, 4, 13].map((code) => ({ ...error(quote), icmp: { type: 3, code, quote } }));
    for (const packet of [...kinds, { ...error(quote), icmp: { type: 11, code: 0, quote } }])
      expect(signalsOf(packet)).toEqual(['icmpTranslated', []]);
    // A client's about what the server has answered.
    const back = datagram({ from: 80, to: 5000 }, { source: VIP, destination: CLIENT });
    expect(signalsOf({ source: CLIENT, destination: VIP, icmp: { type: 3, code: 3, quote: back } })).toEqual(['icmpTranslated', []]);
  });

  test('where servers see their clients a client can write it himself: the check comes, and its silence passes all the same', () => {
    const world = new World({ ...ALONE, mode: 'destination' });
    world.send(datagram());
    const quote = datagram({ to: 8080 }, { destination: SERVERS[0] });
    expect(world.send({ ...error(quote), destination: CLIENT }, { interface: BACK }).verdict).toBe('icmpTranslated');
    expect(world.signals.take()).toEqual([{ index: 0, reason: 'claimed' }]);
  });

  test('a quoted checksum that comes out as zero is all ones', () => {
    const world = new World(ALONE);
    const payload = Uint8Array.of(0, 0);
    world.send(datagram({ payload }));
    const there = datagram({ from: PORT, to: 8080, payload }, { source: VIP, destination: SERVERS[0] });
    // The payload that has the checksum towards the client come out as zero: what was there before, added to nothing.
    const { frame } = world.send(error(there));
    const word = read({ frame: frame.subarray(28) }).checksum;
    const zero = Uint8Array.of(word >> 8, word & 255);
    const { frame: after } = world.send(error(datagram({ from: PORT, to: 8080, payload: zero }, { source: VIP, destination: SERVERS[0] })));
    expect(read({ frame: after.subarray(28) }).checksum).toBe(0xffff);
  });
});
