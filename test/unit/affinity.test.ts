/** Clients that stay with their server after their last connection: in every scheduler, over protocols, in a bounded table. */
import { beforeEach, describe, expect, test } from 'vitest';
import { prepare, SCHEDULERS, type SchedulerName } from '../../src/balance/index.ts';
import { protocols } from '../../src/flow/protocols.ts';
import { Bond, Bonds } from '../../src/forward/affinity.ts';
import type { ServerEntry, ServiceSet } from '../../src/forward/service-set.ts';
import { Ways } from '../../src/forward/ways.ts';
import * as A from '../../src/layout/affinity.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { TCP, UDP } from '../../src/packet/fields.ts';
import type { Packet } from '../lab/packets.ts';
import { BACK, HASH_KEY, MAC, TIMEOUTS, VIP, World, worldsOf } from '../lab/world.ts';

const MS = 60_000;
const CARRIED = protocols.filter(({ hasPorts }) => hasPorts);
const ROOM = { capacity: 4096, connections: 1024 };

interface Pool {
  readonly scheduler?: SchedulerName;
  /** Of servers by index; undefined: it drains. */
  readonly weights?: readonly (number | undefined)[];
  readonly across?: boolean;
  readonly maxconn?: number;
  readonly mode?: 'passthrough' | 'dsr';
}

/** A frontend on port 80 and a backend a protocol, of the same servers. */
function serviceSet({
  scheduler = 'roundrobin',
  weights = [1, 1, 1],
  across = false,
  maxconn = 0,
  mode = 'passthrough',
}: Pool): ServiceSet {
  return {
    frontends: CARRIED.map(({ number: protocol }, index) => {
      return { index, address: parseAddress(VIP), port: 80, protocol, backend: `b${index}`, maxconn: 0, draining: false };
    }),
    backends: CARRIED.map(({ number: protocol }, place) => {
      const servers = weights.map((_, i): ServerEntry => {
        const entry = { index: place * 16 + i, address: parseAddress(`172.16.0.${i + 1}`), port: 8080, protocol };
        return across ? { ...entry, peer: i } : entry;
      });
      const candidates = weights.flatMap((weight, i) =>
        weight === undefined ? [] : [{ name: `172.16.0.${i + 1}:8080`, weight, index: servers[i].index, maxconn }],
      );
      return { name: `b${place}`, mode, servers, choice: prepare(scheduler, candidates), affinity: { ms: MS } };
    }),
  };
}

const ways = new WeakMap<World, Ways>();

function apply(world: World, pool: Pool): void {
  const known = ways.get(world) ?? new Ways();
  ways.set(world, known);
  const set = serviceSet(pool);
  world.services.apply(set, known.apply(set));
}

function worldOf(pool: Pool): World {
  const world = new World(ROOM);
  apply(world, pool);
  return world;
}

let port = 1024;
beforeEach(() => {
  port = 1024;
});

interface Session {
  readonly server: string;
  readonly end: () => void;
}

function exchange(world: World, protocol: number, source: string, from: number) {
  const transport = (ports: { from: number; to: number }, flags: string) =>
    protocol === TCP ? { tcp: { ...ports, flags, ...SEQUENCES[flags] } } : { udp: ports };
  const request = (flags: string): Packet => {
    return { ethernet: [MAC.front, MAC.client], source, destination: VIP, ...transport({ from, to: 80 }, flags) };
  };
  const sent = world.send(request('S'));
  if (sent.out !== 'send') throw new Error(`${source}: ${sent.verdict}`);
  const server = sent.frame.subarray(30, 34).join('.');
  const to = sent.frame[34] * 256 + sent.frame[35];
  const reply = (flags: string): Packet => {
    return { ethernet: [MAC.back, MAC.servers[0]], source: server, destination: VIP, ...transport({ from: 8080, to }, flags) };
  };
  return { server, request, reply };
}

const SEQUENCES: Readonly<Record<string, { seq: number; ack?: number }>> = {
  S: { seq: 100 },
  SA: { seq: 500, ack: 101 },
  A: { seq: 101, ack: 501 },
  R: { seq: 101 },
};

/** A session of a client: established, until it is ended by a reset, or by silence. */
function open(world: World, protocol: number, source: string): Session {
  const { server, request, reply } = exchange(world, protocol, source, port++);
  world.send(reply('SA'), { interface: BACK });
  world.send(request('A'));
  return {
    server,
    end: () => {
      if (protocol === TCP) world.send(request('R'));
      else world.sweepAll(world.now + TIMEOUTS.udpStream + 1);
    },
  };
}

const CLIENT = '10.1.2.3';

describe.each(CARRIED.map((protocol) => [protocol.name, protocol.number] as const))('%s', (_, protocol) => {
  // The file refuses affinity beside `glb`, by whose table each balancer goes alone.
  test.each(SCHEDULERS.filter((name) => name !== 'glb'))('%s: a client stays though others come and the pool grows', (scheduler) => {
    const world = worldOf({ scheduler, weights: [1, 1, undefined] });
    const { server } = open(world, protocol, CLIENT);
    apply(world, { scheduler, weights: [1, 1, 3] });
    const others = Array.from({ length: 30 }, (__, i) => open(world, protocol, `10.9.0.${i}`).server);
    expect(Array.from({ length: 5 }, () => open(world, protocol, CLIENT).server)).toEqual(Array.from({ length: 5 }, () => server));
    if (scheduler !== 'first') expect(new Set(others).size).toBeGreaterThan(1);
  });

  test('for so long after its last connection, which may itself last longer', () => {
    const world = worldOf({});
    const { server, end } = open(world, protocol, CLIENT);
    // Connections that are used live on, and so does what their client is known by.
    const other = exchange(world, protocol, CLIENT, 999);
    expect(other.server).toBe(server);
    for (let second = 1; second <= 90; second++) {
      world.send(other.request('A'));
      world.sweepAll(second * 1000);
    }
    end();
    const last = world.now;
    world.now = last + MS - 1;
    open(world, protocol, '10.9.9.9');
    expect(open(world, protocol, CLIENT).server).toBe(server);
  });

  test('forgotten when its time is over', () => {
    const world = worldOf({});
    const { server, end } = open(world, protocol, CLIENT);
    end();
    world.now += MS;
    // Another one's turn.
    const [, again] = ['10.9.9.9', CLIENT].map((source) => open(world, protocol, source).server);
    expect(again).not.toBe(server);
  });

  test('a server that goes down has others take its clients, which stay there', () => {
    const world = worldOf({});
    const { server } = open(world, protocol, CLIENT);
    const down = Number(server.split('.')[3]) - 1;
    apply(world, { weights: [0, 1, 2].map((i) => (i === down ? undefined : 1)) });
    const moved = open(world, protocol, CLIENT).server;
    expect(moved).not.toBe(server);
    apply(world, {});
    expect([1, 2, 3].map(() => open(world, protocol, CLIENT).server)).toEqual([moved, moved, moved]);
  });

  test('a server that is full does not keep its clients', () => {
    const world = worldOf({ maxconn: 1 });
    const first = open(world, protocol, CLIENT).server;
    expect(open(world, protocol, CLIENT).server).not.toBe(first);
  });

  test('after a death the next process knows', () => {
    const world = worldOf({});
    const { server } = open(world, protocol, CLIENT);
    const next = world.next();
    apply(next, {});
    expect([1, 2, 3].map(() => open(next, protocol, CLIENT).server)).toEqual([server, server, server]);
  });
});

test('protocols keep clients by themselves, or one server for all', () => {
  const alone = worldOf({});
  const tcp = open(alone, TCP, CLIENT).server;
  open(alone, UDP, '10.9.9.9');
  expect(open(alone, UDP, CLIENT).server).not.toBe(tcp);
  const together = worldOf({ across: true });
  const first = open(together, TCP, CLIENT).server;
  open(together, UDP, '10.9.9.9');
  expect([open(together, UDP, CLIENT).server, open(together, TCP, CLIENT).server]).toEqual([first, first]);
});

test('workers share it', () => {
  const [one, two] = worldsOf(2, ROOM);
  for (const world of [one, two]) apply(world, {});
  const { server } = open(one, TCP, CLIENT);
  expect([1, 2, 3].map(() => open(two, TCP, CLIENT).server)).toEqual([server, server, server]);
});

test.each([
  ['passthrough', true],
  ['dsr', false],
] as const)('%s: whether a SYN and its ACK prove that a client is there: %s', (mode, proves) => {
  const world = worldOf({ mode });
  const { request, reply } = exchange(world, TCP, CLIENT, 999);
  if (mode === 'passthrough') world.send(reply('SA'), { interface: BACK });
  world.send(request('A'));
  world.sweepAll(1000);
  const known = [...world.memory.affinity].filter((__, i) => i % A.SET >= A.CLIENTS && ((i % A.SET) - A.CLIENTS) % A.CLIENT === A.SERVER);
  expect(known.filter((word) => word !== 0).map((word) => (word & A.PROVEN) !== 0)).toEqual([proves]);
});

describe('the table', () => {
  const servers = [0, 1].map((index) => ({ index, address: parseAddress(`172.16.0.${index + 1}`) }));
  const bond = new Bond({ ms: MS }, servers, servers);
  const create = (sets: number) => {
    const words = new Int32Array(sets * A.SET);
    return { words, bonds: new Bonds(words, [HASH_KEY[0], HASH_KEY[1], HASH_KEY[2], HASH_KEY[3]]) };
  };

  test('is full: who proves nothing gets no place of those who did, and of these the one goes whose time ends first', () => {
    const { bonds } = create(1);
    for (let client = 1; client <= A.EACH; client++) bonds.renew(bond, client, 1, client, true);
    for (let client = 100; client < 200; client++) bonds.open(bond, client, 0, 50);
    expect([bonds.evicted, ...[1, 2, 3, 4, 5, 100].map((client) => bonds.find(bond, client, 50))]).toEqual([0, 1, 1, 1, 1, 1, -1]);
    bonds.renew(bond, 6, 1, 50, true);
    expect([bonds.evicted, ...[1, 2, 6].map((client) => bonds.find(bond, client, 50))]).toEqual([1, -1, 1, 1]);
  });

  test('lets go first who has proven nothing, and whose time is over without counting it', () => {
    const { bonds } = create(1);
    for (let client = 1; client <= A.EACH; client++) bonds.open(bond, client, 1, client);
    bonds.renew(bond, 6, 0, 50, true);
    expect([bonds.evicted, bonds.find(bond, 1, 50), bonds.find(bond, 6, 50)]).toEqual([1, -1, 0]);
    const later = 50 + 10_000;
    for (let client = 11; client < 15; client++) bonds.renew(bond, client, 0, later, true);
    expect(bonds.evicted).toBe(1);
  });

  test('goes by the last server that a client was sent to, whatever else it has', () => {
    const { bonds } = create(4);
    bonds.renew(bond, 7, 0, 0, true);
    bonds.open(bond, 7, 1, 1);
    expect(bonds.find(bond, 7, 2)).toBe(1);
    // The connection to the first one goes on.
    for (const now of [3, 5]) {
      bonds.renew(bond, 7, 0, now, true);
      expect(bonds.find(bond, 7, now)).toBe(1);
      bonds.renew(bond, 7, 1, now + 1, true);
    }
    expect(bonds.find(bond, 7, MS)).toBe(1);
  });

  test('takes datagrams for no proof: a flood of them, answered as it may be, costs nobody who has shown a handshake', () => {
    const { bonds } = create(1);
    for (let client = 1; client <= 4; client++) bonds.renew(bond, client, 1, 0, true);
    for (let client = 100; client < 200; client++) bonds.renew(bond, client, 0, 50, false);
    expect([1, 2, 3, 4].map((client) => bonds.find(bond, client, 50))).toEqual([1, 1, 1, 1]);
    expect(bonds.find(bond, 199, 50)).toBe(0);
  });

  test('gives places of whom the clock has passed for half of its round to anybody', () => {
    const { bonds } = create(1);
    for (let client = 1; client <= A.EACH; client++) bonds.renew(bond, client, 1, 0, true);
    const later = (MS + 2 ** 31 + 1000) | 0;
    bonds.open(bond, 100, 0, later);
    expect([bonds.evicted, bonds.find(bond, 100, later)]).toEqual([0, 0]);
  });

  test('takes an index for another server once its address is', () => {
    const { bonds } = create(4);
    bonds.renew(bond, 7, 0, 0, true);
    const others = [{ index: 0, address: parseAddress('172.16.9.9') }];
    expect(bonds.find(new Bond({ ms: MS }, others, others), 7, 1)).toBe(-1);
  });

  test('believes no time that is further ahead than any could be: a clock of 32 bits goes round', () => {
    const { bonds } = create(4);
    bonds.renew(bond, 7, 0, 0, true);
    expect(bonds.find(bond, 7, -1_000_000)).toBe(-1);
  });

  test('keeps a client that goes on while its backend asks for less by now, and not for longer than that', () => {
    const { bonds } = create(1);
    const less = new Bond({ ms: MS / 10 }, servers, servers);
    bonds.renew(bond, 7, 1, 0, true);
    // The sweep, while it has a connection.
    bonds.renew(less, 7, 1, 1, true);
    expect(bonds.find(less, 7, MS / 10)).toBe(1);
    expect(bonds.find(less, 7, MS / 10 + 1)).toBe(-1);
  });

  test('waits for nobody', () => {
    const { words, bonds } = create(1);
    bonds.renew(bond, 7, 1, 0, true);
    words[A.LOCK] = 1;
    bonds.renew(bond, 7, 0, 0, true);
    expect(bonds.find(bond, 7, 1)).toBe(-1);
    // Who had it must have died meanwhile.
    expect(bonds.find(bond, 7, 2000)).toBe(1);
    expect(words[A.LOCK]).toBe(0);
  });

  test('has each of many clients, more or less evenly', () => {
    const { bonds } = create(A.affinitySets(80_000));
    for (let client = 0; client < 10_000; client++)
      bonds.renew(bond, parseAddress(`10.0.${client >> 8}.${client & 255}`), client & 1, 0, true);
    expect(bonds.evicted).toBeLessThan(1000);
  });
});
