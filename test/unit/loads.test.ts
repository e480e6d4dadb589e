/** Loads and limits: what a connection adds it takes away again, whichever way it ends. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ADOPTED, STATE_MASK, TIME_WAIT } from '../../src/flow/life.ts';
import { CURRENT, frontendLoad, frontendRow, PORTS, serverRow, TOTAL } from '../../src/layout/counters.ts';
import { NONE, PORTS as PORTS_WORD } from '../../src/layout/flow.ts';
import { fromClient, fromServer, PORT } from '../fixtures/frames.ts';
import { connectionsIn, type Seen, TIMEOUTS, World, type WorldOptions, worldsOf } from '../lab/world.ts';

/** What the flow tables themselves say: live connections and held ports of each server, live connections of each frontend. */
function counted(worlds: readonly World[]) {
  const count = { servers: [0, 0], ports: [0, 0], frontends: [0, 0] };
  for (const { server, frontend, pool, life } of worlds.flatMap((world) => connectionsIn(world))) {
    if (pool !== NONE) count.ports[server]++;
    if ((life & STATE_MASK) >= TIME_WAIT || (life & ADOPTED) !== 0) continue;
    count.servers[server]++;
    count.frontends[frontend]++;
  }
  return count;
}

/** Loads are shared, ports each worker's own. */
function told(...worlds: readonly [World, ...World[]]) {
  const [{ loads }] = worlds;
  const ports = (server: number) => worlds.reduce((sum, { statistics }) => sum + statistics[serverRow(server) + PORTS], 0);
  return { servers: [loads[0], loads[1]], ports: [ports(0), ports(1)], frontends: [loads[frontendLoad(0)], loads[frontendLoad(1)]] };
}

const NOTHING = { servers: [0, 0], ports: [0, 0], frontends: [0, 0] };

describe('a load goes', () => {
  test.each([
    ['by both FINs', 'c:S s:SA c:A c:FA s:FA'],
    ["by the client's reset", 'c:S s:SA c:A c:R'],
    ["by the server's reset", 'c:S s:SA c:A s:R'],
    ['when refused', 'c:S s:RA'],
    ['by a reset after one FIN', 'c:S s:SA c:A s:FA c:R'],
    ['once, whatever follows', 'c:S s:SA c:A c:FA s:FA c:R s:R c:FA'],
  ])('%s', (_, segments) => {
    const world = new World({ up: [true, false] });
    const go = (text: string) => {
      for (const [side, flags] of text.split(' ').map((part) => part.split(':')))
        world.send(side === 'c' ? fromClient({ flags: flags }) : fromServer({ flags: flags, to: PORT + start(world) }));
    };
    go('c:S');
    expect(told(world)).toEqual({ servers: [1, 0], ports: [1, 0], frontends: [1, 0] });
    go(segments);
    expect(told(world)).toEqual({ servers: [0, 0], ports: [1, 0], frontends: [0, 0] });
    // Opened from TIME_WAIT or CLOSED it is a load again.
    go('c:S');
    expect(told(world)).toEqual({ servers: [1, 0], ports: [1, 0], frontends: [1, 0] });
    world.sweepAll(TIMEOUTS.syn + 1);
    expect(told(world)).toEqual(NOTHING);
  });
});

/** Pools begin anywhere: where this one did. */
function start(world: World): number {
  const [connection] = connectionsIn(world);
  return connection ? portOf(world, connection) - PORT : 0;
}

/** The port that a server sees. */
function portOf({ table: { words } }: World, { second }: Seen): number {
  const port = words[second! + PORTS_WORD] >>> 16;
  return ((port & 0xff) << 8) | (port >>> 8);
}

const step = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(fc.constant('client' as const), fc.nat(9), fc.constantFrom('S', 'S', 'A', 'PA', 'FA', 'R', 'SA')) },
  { weight: 8, arbitrary: fc.tuple(fc.constant('server' as const), fc.nat(9), fc.constantFrom('SA', 'A', 'FA', 'RA', 'S')) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('time' as const), fc.constantFrom(500, 1_500, 6_000, 25_000), fc.constant('')) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('set' as const), fc.nat(7), fc.constant('')) },
);
const CHANGES = [
  {},
  {},
  { up: [true, false] },
  { up: [false, true] },
  { gone: [0] },
  { gone: [1] },
  { draining: [0] },
  { goneFrontends: [1] },
];

test.each<[string, number, WorldOptions]>([
  ['full NAT', 1, {}],
  ['limits', 1, { maxconn: 3, frontendMaxconn: 4 }],
  ['a small table', 1, { connections: 4 }],
  ['DSR', 1, { mode: 'dsr', scheduler: 'maglev' }],
  ['DSR, a small table', 1, { mode: 'dsr', scheduler: 'maglev', connections: 4 }],
  // Each goes by its own set for a while, as workers do that a reload has not reached yet.
  ['three workers', 3, {}],
  ['three workers, limits', 3, { scheduler: 'leastconn', maxconn: 3, frontendMaxconn: 4 }],
])(
  '%s: after any history the books say what the flow tables say, and 0 when they are empty',
  (_, workers, options) => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(workers - 1), step), { minLength: 1, maxLength: 80, size: 'max' }), (steps) => {
        const worlds = worldsOf(workers, { ports: [80, 81], ...options }) as [World, ...World[]];
        for (const [worker, [kind, n, flags]] of steps) {
          const world = worlds[worker];
          if (kind === 'client') world.send(fromClient({ from: 5000 + (n >> 1), to: 80 + (n & 1), flags }));
          else if (kind === 'server') reply(world, n, flags);
          else if (kind === 'time') world.sweepAll((world.now + n) >>> 0);
          else {
            world.apply(CHANGES[n]);
            world.sweepAll(world.now);
          }
          expect(told(...worlds)).toEqual(counted(worlds));
          for (const load of worlds[0].loads.subarray(0, 2)) expect(load).toBeLessThanOrEqual(options.maxconn ?? load);
          for (const row of [serverRow(0), serverRow(1), frontendRow(0), frontendRow(1)])
            expect(world.statistics[row + CURRENT]).toBeGreaterThanOrEqual(0);
        }
        for (const world of worlds) {
          world.sweepAll((world.now + TIMEOUTS.established + 1) >>> 0);
          expect(world.table.size).toBe(0);
          for (const row of [serverRow(0), serverRow(1), frontendRow(0), frontendRow(1)]) expect(world.statistics[row + CURRENT]).toBe(0);
        }
        expect(told(...worlds)).toEqual(NOTHING);
      }),
      { numRuns: 150 },
    );
  },
  60_000,
);

/** A segment of the server of the n-th connection that there is. */
function reply(world: World, n: number, flags: string): void {
  const replies = connectionsIn(world).filter(({ second }) => second !== undefined);
  const connection = replies[n % Math.max(1, replies.length)];
  if (connection === undefined) return;
  world.send(fromServer({ flags, to: portOf(world, connection) }, {}, connection.server));
}

describe('limits', () => {
  test('hold over all workers, which know of each other’s connections, and so does the choice of who has least', () => {
    const worlds = worldsOf(4, { scheduler: 'leastconn', maxconn: 10, frontendMaxconn: 15 }) as [World, ...World[]];
    const verdicts = Array.from({ length: 20 }, (_, i) => worlds[(i * i) % 4].send(fromClient({ from: 5000 + i, flags: 'S' })).verdict);
    expect(verdicts).toEqual(Array.from({ length: 20 }, (_, i) => (i < 15 ? 'opened' : 'resetFull')));
    expect([...told(...worlds).servers].sort()).toEqual([7, 8]);
    expect(told(...worlds)).toEqual(counted(worlds));
  });

  const syn = (world: World, from: number) => world.send(fromClient({ from, flags: 'S' })).verdict;

  test("a full server's connections go to the least loaded of the others, before anything is refused", () => {
    const world = new World({ scheduler: 'maglev', maxconn: 5 });
    expect(Array.from({ length: 10 }, (_, i) => syn(world, 5000 + i))).toEqual(Array.from({ length: 10 }, () => 'opened'));
    expect([world.loads[0], world.loads[1]]).toEqual([5, 5]);
    expect(syn(world, 6000)).toBe('resetFull');
    // It is no connection: nothing stays of it.
    expect(world.table.size).toBe(20);
    world.sweepAll(TIMEOUTS.syn + 1);
    expect(syn(world, 6000)).toBe('opened');
  });

  test('a SYN on an ended connection does not get past them', () => {
    const world = new World({ up: [true, false], maxconn: 1 });
    syn(world, 5000);
    world.send(fromClient({ from: 5000, flags: 'R' }));
    expect(syn(world, 5001)).toBe('opened');
    expect(syn(world, 5000)).toBe('resetFull');
    expect(world.loads[0]).toBe(1);
  });

  test('DSR: a segment in mid-stream is taken up in spite of them', () => {
    const world = new World({ mode: 'dsr', scheduler: 'maglev', up: [true, false], maxconn: 1, frontendMaxconn: 1 });
    expect(syn(world, 5000)).toBe('opened');
    expect(world.send(fromClient({ from: 5001 })).verdict).toBe('adopted');
    expect(syn(world, 5002)).toBe('resetFull');
  });
});

test('DSR with a full table: what the hash cannot have is not sent elsewhere, where its next segment would not go', () => {
  const world = new World({ mode: 'dsr', scheduler: 'maglev', maxconn: 1, connections: 0 });
  const { frame, verdict } = world.send(fromClient({ flags: 'S' }));
  expect(verdict).toBe('stateless');
  const server = frame[33] - 1;
  world.loads[server] = 1;
  expect(world.send(fromClient({ flags: 'S' })).verdict).toBe('resetTableFull');
  expect(world.send(fromClient()).verdict).toBe('stateless');
  world.loads.fill(1, 0, 2);
  expect(world.send(fromClient({ flags: 'S' })).verdict).toBe('resetFull');
});

test('an index that went and came back, or stands for another place, counts from 0', () => {
  const world = new World({ up: [true, false] });
  world.send(fromClient({ flags: 'S' }));
  world.send(fromServer({ flags: 'SA', to: PORT + start(world) }));
  world.send(fromClient({ flags: 'A' }));
  world.apply({ up: [true, false] });
  expect([world.loads[0], world.statistics[serverRow(0) + TOTAL]]).toEqual([1, 1]);
  world.apply({ gone: [0] });
  world.apply({ up: [true, false] });
  expect([world.loads[0], world.statistics[serverRow(0) + TOTAL], world.statistics[serverRow(0) + PORTS]]).toEqual([0, 0, 0]);
  // The frontend never went: what it counted stays, and the old connection, which goes now, leaves it.
  expect([world.loads[frontendLoad(0)], world.statistics[frontendRow(0) + TOTAL]]).toEqual([1, 1]);
  world.send(fromClient({ from: 6000, flags: 'S' }));
  world.sweepAll(1);
  expect(world.table.size).toBe(2);
  expect(told(world)).toEqual({ servers: [1, 0], ports: [1, 0], frontends: [1, 0] });
  expect(world.statistics[frontendRow(0) + CURRENT]).toBe(0);
});
