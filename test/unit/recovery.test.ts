/** The next process goes on with the memory of one that was killed. */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { attempt, type Origin, obstacleIn, suspect, takeUp, trust, writeHeader } from '../../src/engine/origin.ts';
import { COUNTED, DATAGRAM, isFast, isReplyFast, STATE_MASK, TIME_WAIT } from '../../src/flow/life.ts';
import * as C from '../../src/layout/connection.ts';
import { CURRENT, frontendLoad, frontendRow, PORTS, RX, serverRow, TOTAL, TX } from '../../src/layout/counters.ts';
import * as Flow from '../../src/layout/flow.ts';
import { BOOT, CAPACITY, CONNECTIONS, DIRECTIONS, LAYOUT, LAYOUT_VERSION, MAGIC_WORD, NETWORK, WORKERS } from '../../src/layout/header.ts';
import { keyIn, ownMemory } from '../../src/layout/memory.ts';
import { UDP } from '../../src/packet/fields.ts';
import { ALL_PORTS } from '../../src/packet/steering.ts';
import { fromClient, fromServer, PORT, toClient, toServer } from '../fixtures/frames.ts';
import { buildFrame, pattern, type UdpPart } from '../lab/packets.ts';
import { CLIENT, connectionsIn, SERVERS, TIMEOUTS, VIP, World, type WorldOptions, worldAfter } from '../lab/world.ts';

beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

/** One server, whose connections get the ports from PORT on, one after the other. */
const ALONE: WorldOptions = { up: [true, false] };

/** The first packets of connection `i`, which comes from the client's port 5000 + i. */
function packets(i: number) {
  const [from, to] = [5000 + i, PORT + i];
  return [
    fromClient({ from, flags: 'S', sequence: 1000 }),
    fromServer({ to, flags: 'SA', sequence: 5000, acknowledgment: 1001 }),
    fromClient({ from, flags: 'A', sequence: 1001, acknowledgment: 5001 }),
    fromServer({ to, flags: 'PA', sequence: 5001, acknowledgment: 1001, payload: Uint8Array.of(7) }),
    fromClient({ from, flags: 'FA', sequence: 1001, acknowledgment: 5002 }),
    fromServer({ to, flags: 'FA', sequence: 5002, acknowledgment: 1002 }),
  ];
}

const SYN = 1;
const ESTABLISHED = 4;
const CLOSED = 6;

function open(world: World, i: number, upTo: number): void {
  for (const packet of packets(i).slice(0, upTo)) world.send(packet);
}

/** The books of a world as its records say. */
function expectTrueBooks({ records, table, loads, statistics, halfOpen, datagrams: listed, services }: World): void {
  const { words } = records;
  let [live, current, open, slots] = [0, 0, 0, 0];
  for (let record = 0; record < records.capacity; record++) {
    const r = record * C.RECORD;
    const life = words[r + C.LIFE];
    if (life === 0) continue;
    const state = life & STATE_MASK;
    open++;
    if (state < TIME_WAIT) live++;
    if (state < TIME_WAIT && life & COUNTED) current++;
    for (const slot of [words[r + C.FIRST], words[r + C.SECOND]].filter((one) => one !== Flow.NONE)) {
      slots++;
      const isGiven = (table.words[slot * Flow.ENTRY + Flow.STATE] & Flow.FAST) !== 0;
      expect([table.isLive(slot), table.words[slot * Flow.ENTRY + Flow.CONNECTION]]).toEqual([true, record]);
      expect(isGiven).toBe(slot === words[r + C.FIRST] ? isFast(life) : isReplyFast(life));
    }
  }
  expect([records.size, table.size]).toEqual([open, slots]);
  expect([loads[0], loads[frontendLoad(0)]]).toEqual([live, live]);
  expect(statistics[serverRow(0) + CURRENT]).toBe(current);
  const lives = [...Array(records.capacity).keys()].map((one) => words[one * C.RECORD + C.LIFE]).filter((life) => life !== 0);
  expect(halfOpen.size).toBe(lives.filter((life) => (life & (COUNTED | DATAGRAM)) === 0).length);
  expect(listed.size).toBe(lives.filter((life) => (life & DATAGRAM) !== 0).length);
  const isFull = table.words.length > 0 && slots > open;
  if (isFull || open === 0) {
    expect(statistics[serverRow(0) + PORTS]).toBe(open);
    expect(services.pools.at(0)?.available).toBe(ALL_PORTS.count - open);
  }
}

const payload = (world: World, i: number) => world.send(fromClient({ from: 5000 + i, flags: 'A', sequence: 1001, acknowledgment: 5002 }));

describe('after a kill', () => {
  test('every connection goes on by the server and port it had, and the books are as before', () => {
    const world = new World(ALONE);
    [SYN, 2, 3, ESTABLISHED, 5, CLOSED, ESTABLISHED].forEach((upTo, i) => open(world, i, upTo));
    const before = { loads: [...world.loads], statistics: [...world.statistics], size: world.table.size, half: world.halfOpen.size };
    const next = world.next();
    expect(next.recovered).toBe(7);
    expectTrueBooks(next);
    expect({ loads: [...next.loads], statistics: [...next.statistics], size: next.table.size, half: next.halfOpen.size }).toEqual(before);
    expect(payload(next, 3).verdict).toBe('forwarded');
    expect(payload(next, 3).frame).toEqual(buildFrame(toServer({ from: PORT + 3, flags: 'A', sequence: 1001, acknowledgment: 5002 })));
    const reply = next.send(fromServer({ to: PORT + 3, flags: 'PA', sequence: 5002, acknowledgment: 1001 }));
    expect([reply.verdict, reply.frame]).toEqual([
      'forwarded',
      buildFrame(toClient({ to: 5003, flags: 'PA', sequence: 5002, acknowledgment: 1001 })),
    ]);
    // A handshake under way is completed.
    for (const packet of packets(0).slice(1, ESTABLISHED)) expect(next.send(packet).verdict).toBe('forwarded');
    expect(next.statistics[serverRow(0) + TOTAL]).toBe(before.statistics[serverRow(0) + TOTAL] + 1);
  });

  test('a port that is in use is not given out again; all others are', () => {
    const world = new World({ ...ALONE, capacity: 131_072, connections: 32_768 });
    for (let i = 0; i < 10; i++) open(world, i, ESTABLISHED);
    const next = world.next();
    const ports = new Set<number>();
    for (let i = 0; i < ALL_PORTS.count - 10; i++) {
      const { verdict, frame } = next.send(fromClient({ from: 1024 + i, flags: 'S', sequence: 1 }, { source: '10.0.0.77' }));
      if (verdict !== 'opened') throw new Error(`${i}: ${verdict}`);
      ports.add((frame[34] << 8) | frame[35]);
    }
    expect(ports.size).toBe(ALL_PORTS.count - 10);
    for (let i = 0; i < 10; i++) expect(ports.has(PORT + i)).toBe(false);
  });

  test('the oldest half-open connection is the first to make way, as before', () => {
    const world = new World(ALONE);
    for (let i = 0; i < 5; i++) {
      world.now += 100;
      open(world, 4 - i, SYN);
    }
    const next = world.next();
    const list = next.halfOpen.longest;
    const order = Array.from({ length: 5 }, () => {
      const record = next.halfOpen.oldest(list);
      const client = next.table.words[next.records.words[record * C.RECORD + C.FIRST] * Flow.ENTRY + Flow.SEEN];
      next.connections.evict(list, false, next.now);
      return client;
    });
    expect(order).toEqual([100, 200, 300, 400, 500]);
  });

  test('they end as they would have: idle ones, and closed ones, whose ports come back', () => {
    const world = new World(ALONE);
    for (let i = 0; i < 5; i++) open(world, i, i < 3 ? ESTABLISHED : CLOSED);
    const next = world.next();
    next.sweepAll(next.now + TIMEOUTS.timeWait + 1);
    expect(next.records.size).toBe(3);
    next.sweepAll(next.now + TIMEOUTS.established + 1);
    expect([next.records.size, next.table.size, next.services.pools.at(0)?.available]).toEqual([0, 0, ALL_PORTS.count]);
    expectTrueBooks(next);
  });

  test('direct server return: one flow a connection, taken up likewise', () => {
    const world = new World({ mode: 'dsr', scheduler: 'maglev', up: [true, false] });
    for (let i = 0; i < 5; i++) {
      world.send(fromClient({ from: 5000 + i, flags: 'S', sequence: 1000 }));
      world.send(fromClient({ from: 5000 + i, flags: 'A', sequence: 1001, acknowledgment: 5001 }));
    }
    const next = world.next();
    expect([next.recovered, next.table.size, next.statistics[serverRow(0) + CURRENT], next.loads[0]]).toEqual([5, 5, 5, 5]);
    expect(payload(next, 2).verdict).toBe('forwarded');
  });

  test('and once more: what was found is found again', () => {
    let world = new World(ALONE);
    for (let life = 0; life < 5; life++) {
      open(world, life, ESTABLISHED);
      world = world.next();
      expect(world.recovered).toBe(life + 1);
      expectTrueBooks(world);
    }
  });
});

describe('who is somebody else by now loses its connections, and nobody gets another’s', () => {
  const used = (): World => {
    const world = new World(ALONE);
    for (let i = 0; i < 3; i++) open(world, i, ESTABLISHED);
    return world;
  };

  test('another server under the same index', () => {
    const next = used().next({ servers: [...SERVERS].reverse() });
    expect([next.recovered, next.table.size]).toEqual([0, 0]);
    expectTrueBooks(next);
  });

  test('another frontend under the same index', () => {
    const next = used().next({ ports: [81] });
    expect([next.recovered, next.table.size]).toEqual([0, 0]);
    // Nothing is known of them: whoever sends on is told so.
    expect(payload(next, 0).verdict).not.toBe('forwarded');
  });
});

describe('a frontend that has changed its backend while nobody ran', () => {
  const opened = (mode: 'passthrough' | 'dsrL2'): World => {
    const world = new World({ mode, up: [true, false] });
    open(world, 0, mode === 'passthrough' ? ESTABLISHED : SYN);
    return world;
  };
  const ack = (world: World) => world.send(fromClient({ from: 5000, flags: 'A', sequence: 1001, acknowledgment: 5002 }));

  test.each(['passthrough', 'dsrL2'] as const)('%s: the same servers under another name are reached as before', (mode) => {
    const next = opened(mode).next({ successor: SERVERS });
    const { verdict, out, frame } = ack(next);
    expect([next.recovered, verdict, out, Array.from(frame.subarray(0, 6))]).toEqual([1, 'forwarded', 'send', [2, 0, 0, 0, 5, 1]]);
  });

  test('passthrough: where no way is known any more the kernel routes', () => {
    const next = opened('passthrough').next({ successor: ['172.16.0.9'] });
    expect([next.recovered, ack(next).out]).toEqual([1, 'route']);
  });

  test('L2 DSR: the kernel would take what is for its own address, so the connection ends', () => {
    const next = opened('dsrL2').next({ successor: ['172.16.0.9'] });
    expect([next.recovered, next.table.size, next.loads[0]]).toEqual([0, 0, 0]);
    expect(ack(next).out).not.toBe('route');
  });
});

test('what the kernel has carried meanwhile counts to the byte, however much', () => {
  const world = new World(ALONE);
  open(world, 0, ESTABLISHED);
  world.sweepAll(1);
  const before = [TX, RX].map((column) => world.statistics[serverRow(0) + column]);
  const [connection] = connectionsIn(world);
  const amounts = [2 ** 31 + 5, 40 * 2 ** 32 + 6];
  for (const [i, at] of [connection.first, connection.second!].entries())
    new BigInt64Array(world.memory.flows.buffer, world.memory.flows.byteOffset + (at + Flow.KERNEL_BYTES) * 4, 1)[0] += BigInt(amounts[i]);
  const next = world.next();
  next.sweepAll(2);
  next.sweepAll(3);
  const after = [TX, RX].map((column) => next.statistics[serverRow(0) + column]);
  expect(after.map((bytes, i) => bytes - before[i])).toEqual(amounts);
});

test('what the kernel has carried of a connection that does not go on counts, too, and its slots rest', () => {
  const world = new World({ ...ALONE, isInKernel: true });
  open(world, 0, ESTABLISHED);
  world.now = 50;
  const [{ first, second }] = connectionsIn(world);
  for (const at of [first, second!]) world.memory.flows[at + Flow.KERNEL_BYTES] = 1000 + at;
  const carried = (one: World) => [TX, RX].map((column) => one.statistics[frontendRow(0) + column]);
  const before = carried(world);
  world.now = 5000;
  // Its server is another one by now.
  const next = world.next({ servers: SERVERS.toReversed() });
  expect(next.recovered).toBe(0);
  // The byte that its server had sent was not collected yet.
  expect(carried(next).map((bytes, i) => bytes - before[i])).toEqual([1000 + first, 1000 + second! + 1]);
  expect([first, second!].map((at) => next.table.rests(at / Flow.ENTRY, 5001))).toEqual([true, true]);
});

/** More bytes than are sent there. */
const SENT = 10_000;

/** A world that is killed at its stores, each time with another process that goes on with a copy of what it has left: at every so manyth of them. */
function killed(options: WorldOptions, play: (world: World, every: (stores: number) => void) => void): void {
  const memory = ownMemory({ capacity: 256, connections: 64 });
  let world: World | undefined;
  let stores = 0;
  let checked = 0;
  // Not at each, of which there are thousands, but at another one each time.
  let every = 7;
  const spied = (words: Int32Array): Int32Array =>
    new Proxy(words, {
      get: (target, name) => Reflect.get(target, name, target) as unknown,
      set(target, name, value) {
        Reflect.set(target, name, value, target);
        if (world !== undefined && stores++ % every === 0) {
          const next = worldAfter(memory, options, world.now);
          expectTrueBooks(next);
          next.sweepAll(world.now);
          for (const column of [TX, RX]) expect(next.statistics[serverRow(0) + column]).toBeLessThanOrEqual(SENT);
          checked++;
        }
        return true;
      },
    });
  world = new World({ ...options, memory: { ...memory, flows: spied(memory.flows), connections: spied(memory.connections) } });
  play(world, (to) => (every = to));
  world.sweepAll(TIMEOUTS.established * 2);
  expect([world.table.size, checked > 100]).toEqual([0, true]);
}

test('killed at any store: the next process has whole connections, true books, and no port twice', () => {
  killed(ALONE, (world, every) => {
    for (let i = 0; i < 8; i++) open(world, i, 1 + (i % CLOSED));
    // What has ended begins anew.
    every(1);
    const [from, to] = [4999 + CLOSED, PORT - 1 + CLOSED];
    world.send(fromClient({ from, flags: 'A', sequence: 1002, acknowledgment: 5003 }));
    expect(world.send(fromClient({ from, flags: 'S', sequence: 100_000 })).verdict).toBe('forwarded');
    world.send(fromServer({ to, flags: 'SA', sequence: 100_000, acknowledgment: 100_001 }));
    every(7);
    for (let i = 0; i < 8; i++) open(world, i, SYN);
    world.sweepAll(TIMEOUTS.timeWait + 1);
  });
});

test.each([false, true])('the same with datagrams, each by itself: %s', (perPacket) => {
  killed({ ...ALONE, protocol: UDP, perPacket }, (world, every) => {
    every(3);
    const [client, server] = [datagrams(CLIENT, { to: 80 }), datagrams(SERVERS[0], { from: 8080 })];
    for (let i = 0; i < 6; i++) {
      for (let sent = 0; sent <= i; sent++) world.send(client({ from: 5000 + i }));
      if (i % 2 === 0) world.send(server({ to: PORT + i }));
    }
    world.apply({ up: [false, true], lost: [0] });
    world.sweepAll(1);
    expect(world.table.size).toBe(0);
  });
});

const datagrams = (source: string, ends: Partial<UdpPart>) => (others: Partial<UdpPart>) => ({
  source,
  destination: VIP,
  udp: { from: 0, to: 0, payload: pattern(12), ...ends, ...others },
});

describe('what cannot be followed', () => {
  const room = { capacity: 256, connections: 64, workers: 2 };
  const origin: Origin = {
    room,
    directions: 2,
    takesMaps: true,
    boot: Int32Array.of(1, 2, 3, 4),
    network: Int32Array.of(5, 6),
    isUnmistakable: true,
  };
  const written = () => {
    const memory = ownMemory(room);
    writeHeader(memory, origin, [7, 9, 11, 13]);
    return memory.header;
  };

  test('what this lb4 has written can be', () => {
    expect([obstacleIn(written(), origin), keyIn(written())]).toEqual([undefined, [7, 9, 11, 13]]);
  });

  test.each([
    ['half-written', MAGIC_WORD, 'it is not complete'],
    ['another version', LAYOUT, `its layout is version -1, this lb4 has version ${LAYOUT_VERSION}`],
    ['another boot', BOOT + 3, 'it is from before this host was started'],
    ['another network namespace', NETWORK + 1, 'it is of a network namespace that is gone'],
    ['another mode', DIRECTIONS, 'it is of the other packet mode'],
    ['other workers', WORKERS, 'it was written by lb4 with workers = -1, it is 2 now'],
    ['another size', CONNECTIONS, 'it has room for -2 connections, connection_tracker_capacity is 128 now'],
    ['another table', CAPACITY, 'it has room for 128 connections, connection_tracker_capacity is 128 now'],
  ])('%s', (_, word, reason) => {
    const header = written();
    header[word] = -1;
    expect(obstacleIn(header, origin)).toBe(reason);
  });

  test('a kernel that may take one network namespace for another', () => {
    expect(obstacleIn(written(), { ...origin, isUnmistakable: false })).toMatch(/does not tell a network namespace from one that is gone/);
  });

  test('what three processes in a row have died of, by any of their workers, however many had begun', async () => {
    const memory = ownMemory(room);
    writeHeader(memory, origin, [7, 9, 11, 13]);
    const { header, counters } = memory;
    const obstacle = () => obstacleIn(header, origin);
    const die = () => {
      throw new Error('of what is in it');
    };
    const start = (second: () => number) => {
      counters.loads[0] = 5;
      return takeUp(memory, async (attempts) => attempt(header, attempts, () => counters.loads[0]) + attempt(header, attempts, second));
    };
    const dieAtOnce = () => takeUp(memory, async (attempts) => attempt(header, attempts, die));
    for (const failing of [dieAtOnce, () => start(die)]) await expect(failing()).rejects.toThrow();
    expect(obstacle()).toBe(undefined);
    // No load of theirs is left.
    expect(await start(() => 7)).toBe(7);
    trust(memory);
    for (let i = 0; i < 3; i++) {
      expect(obstacle()).toBe(undefined);
      await expect(start(die)).rejects.toThrow();
    }
    expect(obstacle()).toBe('3 starts in a row failed with it, or had a worker that hung');
  });

  test('what three processes in a row have hung by; one that came round does not count, nor do those before one that went well', async () => {
    const memory = ownMemory(room);
    writeHeader(memory, origin, [7, 9, 11, 13]);
    const live = () => takeUp(memory, async () => {});
    const obstacle = () => obstacleIn(memory.header, origin);
    suspect(memory, true);
    await live();
    suspect(memory, true);
    trust(memory);
    for (let i = 0; i < 3; i++) {
      expect(obstacle()).toBe(undefined);
      await live();
      suspect(memory, true);
      suspect(memory, false);
      suspect(memory, true);
    }
    expect(obstacle()).toMatch(/^3 starts/);
  });
});
