/** nat = "destination" beyond what one packet shows (test/fixtures/destination.ts): several workers, datagrams one by one, the next process. */
import { describe, expect, test } from 'vitest';
import { hashKey } from '../../src/flow/table.ts';
import { addLink, FORGOTTEN_MS, isClientsAlone } from '../../src/forward/links.ts';
import * as Flow from '../../src/layout/flow.ts';
import { CLIENT_LINKS } from '../../src/layout/hops.ts';
import { CLIENT_PORTS } from '../../src/layout/ports.ts';
import { destinationPort, parseAddress, portsWord } from '../../src/packet/address.ts';
import { UDP } from '../../src/packet/fields.ts';
import { steeringKey, workerOf } from '../../src/packet/steering.ts';
import * as datagrams from '../fixtures/datagrams.ts';
import { fromClient, fromServer } from '../fixtures/frames.ts';
import type { Packet } from '../lab/packets.ts';
import {
  type Arrival,
  BACK,
  CLIENT,
  connectionsIn,
  FRONT,
  HASH_KEY,
  type Outcome,
  SERVERS,
  VIP,
  World,
  type WorldOptions,
  worldsOf,
} from '../lab/world.ts';

const ONE: WorldOptions = { mode: 'destination', servers: [SERVERS[0]] };
/** By the servers' link. */
const BEHIND: Arrival = { interface: BACK };
const answer = (to = 5000): Packet => fromServer({ to, flags: 'SA' }, { destination: CLIENT });

/** The ports of what has left. */
function portsOf({ frame }: Outcome): [from: number, to: number] {
  const at = 14 + (frame[14] & 0xf) * 4;
  return [frame[at] * 256 + frame[at + 1], frame[at + 2] * 256 + frame[at + 3]];
}

describe('several workers', () => {
  const WORKERS = 3;
  const key = steeringKey(hashKey(HASH_KEY));
  const ours = new Set([parseAddress(VIP)]);
  const ownerOf = (source: string, destination: string, from: number, to: number) => {
    return workerOf(parseAddress(source), parseAddress(destination), portsWord(from, to), key, WORKERS, ours);
  };

  const prefix = { mask: parseAddress('255.255.255.0'), from: parseAddress('10.0.0.0'), to: parseAddress('20.0.5.0') };

  test.each<[string, number, string, WorldOptions]>([
    ['any frontend', 80, CLIENT, {}],
    ['a frontend on a port of the pools, all of whose clients have one worker', CLIENT_PORTS.first + 100, CLIENT, {}],
    ['clients of a prefix, whom servers see under another', 80, '20.0.5.9', { prefix }],
  ])('each answer comes to who has its connection: %s', (_, port, client, more) => {
    const worlds = worldsOf(WORKERS, { ...ONE, ...more, ports: [port], capacity: 1024 });
    for (let from = 2000; from < 2100; from++) {
      const world = worlds[ownerOf(CLIENT, VIP, from, port)];
      const opened = world.send(fromClient({ from, to: port, flags: 'S' }));
      expect(opened.verdict).toBe('opened');
      const [seen] = portsOf(opened);
      if (port === 80 && client === CLIENT) expect(seen).toBe(from);
      expect(worlds[ownerOf(SERVERS[0], client, 8080, seen)]).toBe(world);
      expect(portsOf(world.send({ ...answer(seen), destination: client }, BEHIND))).toEqual([port, from]);
    }
  });
});

test('datagrams one by one: those of one port wait for their answers together, and so does another service by another port', () => {
  const world = new World({ ...ONE, protocol: UDP, perPacket: true, ports: [80, 81], scheduler: 'maglev' });
  const datagram = (to: number): Packet => {
    return { source: CLIENT, destination: VIP, ethernet: fromClient().ethernet!, udp: { from: 5000, to } };
  };
  const back = (to: number): Packet => ({ ...answer(), tcp: undefined as never, udp: { from: 8080, to } });
  const sent = [80, 80, 80].map((port) => world.send(datagram(port)));
  expect(sent.map((one) => [one.verdict, ...portsOf(one)])).toEqual(sent.map(() => ['opened', 5000, 8080]));
  const other = world.send(datagram(81));
  const [port] = portsOf(other);
  expect([other.verdict, port !== 5000]).toEqual(['opened', true]);
  expect(world.records.size).toBe(2);
  for (let i = 0; i < 3; i++) expect(portsOf(world.send(back(5000), BEHIND))).toEqual([80, 5000]);
  expect(portsOf(world.send(back(port), BEHIND))).toEqual([81, 5000]);
  expect([world.send(back(5000), BEHIND).verdict, world.records.size, world.loads[0]]).toEqual(['passed', 0, 0]);
});

test('the next process goes on with connections of either kind, and gives no port twice', () => {
  const world = new World({ mode: 'destination' });
  const inside = { ...fromClient({ from: 7000, flags: 'S' }), source: SERVERS[1] };
  expect(world.send(fromClient({ flags: 'S' })).verdict).toBe('opened');
  const [port] = portsOf(world.send(inside));
  expect(port).toBeGreaterThanOrEqual(CLIENT_PORTS.first);
  const before = connectionsIn(world);

  const next = world.next();
  expect(next.recovered).toBe(2);
  expect(connectionsIn(next).map(({ pool }) => pool < 0)).toEqual(before.map(({ pool }) => pool < 0));
  expect(next.send(answer(), BEHIND).verdict).toBe('forwarded');
  const [server] = [SERVERS[0], SERVERS[1]].filter(
    (one) => next.send({ ...fromServer({ to: port, flags: 'SA' }), source: one }).verdict === 'forwarded',
  );
  expect(server).toBeDefined();
  const free = next.services.pools;
  const total = Array.from({ length: free.size }, (_, i) => free.at(i)!.available).reduce((sum, one) => sum + one, 0);
  expect(total).toBe(free.size * free.portsEach - 1);
  // Idle for long: none is left.
  next.sweepAll(10_000_000);
  next.sweepAll(10_000_001);
  expect([next.records.size, next.table.size]).toEqual([0, 0]);
});

describe('the next process has another nat', () => {
  const handshake = (world: World) => {
    world.send(fromClient({ flags: 'S' }));
    return world.send(answer(), BEHIND).verdict;
  };

  test('full: a connection whose answers nobody would take any more ends, and its client is told', () => {
    const world = new World(ONE);
    expect(handshake(world)).toBe('forwarded');
    const next = world.next({ mode: 'passthrough' });
    expect([next.recovered, next.records.size, next.table.size]).toEqual([0, 0, 0]);
    expect(next.send(fromClient()).verdict).toBe('resetUnknown');
    // And back: nothing of it is left.
    expect(next.next({ mode: 'destination' }).recovered).toBe(0);
  });

  test('destination: one that leaves from the VIP goes on, as answers to it are taken', () => {
    const world = new World({ ...ONE, mode: 'passthrough' });
    world.send(fromClient({ flags: 'S' }));
    const [{ second }] = connectionsIn(world);
    const to = destinationPort(world.table.words[second! + Flow.PORTS]);
    const next = world.next({ mode: 'destination' });
    expect(next.recovered).toBe(1);
    expect(next.send(fromServer({ to, flags: 'SA' })).verdict).toBe('forwarded');
    expect(next.send(fromClient()).verdict).toBe('forwarded');
  });
});

test('while no frontend leads to a server, what it sends to others goes on all the same', () => {
  const world = new World(ONE);
  world.apply({ goneFrontends: [0] });
  expect(world.send(answer(), BEHIND).verdict).toBe('passed');
});
describe('which links are of clients alone', () => {
  const syn = fromClient({ flags: 'S' });
  /** As the server's, by the clients' link. */
  const byFront = (world: World) => world.send(answer()).verdict;
  const connect = (world: World, from = 5000) => {
    world.send(fromClient({ from, flags: 'S' }));
    world.send(answer(from), BEHIND);
    world.send(fromClient({ from }));
  };

  test('one SYN, or three, make none: anybody forges them; an established connection does', () => {
    const world = new World(ONE);
    for (let i = 0; i < 3; i++) world.send(syn);
    expect(isClientsAlone(world.hops, FRONT)).toBe(false);
    connect(world);
    expect(isClientsAlone(world.hops, FRONT)).toBe(true);
    expect(byFront(world)).toBe('dropOtherLink');
  });

  test.each([false, true])('datagrams make none until one is answered; one by one: %s', (perPacket) => {
    const world = new World({ ...ONE, protocol: UDP, perPacket });
    for (let i = 0; i < 4; i++) world.send(datagrams.fromClient({ from: 5000 }));
    expect(isClientsAlone(world.hops, FRONT)).toBe(false);
    world.send(datagrams.fromServer({ to: 5000 }, { destination: CLIENT }), BEHIND);
    expect(isClientsAlone(world.hops, FRONT)).toBe(true);
  });

  test('it is one for as long as a connection lives, and some minutes more; what one forged costs then ends', () => {
    const world = new World(ONE);
    connect(world);
    const alone = (at: number) => {
      world.sweepAll(at);
      return isClientsAlone(world.hops, FRONT);
    };
    // Established for 100 s, then gone.
    expect([1, 1 + FORGOTTEN_MS, 2 + 2 * FORGOTTEN_MS].map(alone)).toEqual([true, true, false]);
    expect(world.records.size).toBe(0);
  });

  test('the next process knows those of the connections that go on, and no other', () => {
    const world = new World(ONE);
    addLink(world.hops, CLIENT_LINKS, 9);
    connect(world);
    const next = world.next();
    expect([FRONT, 9].map((link) => isClientsAlone(next.hops, link))).toEqual([true, false]);
  });

  test('and so it is where interfaces come and go', () => {
    const world = new World(ONE);
    connect(world);
    world.lastHops.setInterfaces(
      new Map([
        [FRONT, 1500],
        [7, 1500],
      ]),
    );
    expect(isClientsAlone(world.hops, FRONT)).toBe(false);
    world.sweepAll(1000);
    expect(isClientsAlone(world.hops, FRONT)).toBe(true);
  });
});
