/** What a core tells the connection log: whom, once, how it ended, what it carried, and no more than was asked for. */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { type EndedFlow, endedFlows } from '../../src/engine/ended.ts';
import type { EndingOrders } from '../../src/forward/endings.ts';
import { How, ROW } from '../../src/forward/endings.ts';
import { CLIENT_PORTS } from '../../src/layout/ports.ts';
import { UDP } from '../../src/packet/fields.ts';
import { EndingLog, type Endings } from '../../src/proxy/endings.ts';
import { endingOrders } from '../../src/service/ended.ts';
import { fromClient, fromServer } from '../fixtures/frames.ts';
import { pattern, type TcpPart } from '../lab/packets.ts';
import { CLIENT, SERVERS, TIMEOUTS, VIP, World, type WorldOptions } from '../lab/world.ts';

const ALL: EndingOrders = { share: 1, rate: 1000, attempts: false };
/** No packet has come before: a clock that is far from both ends of its 32 bits, and where it becomes negative. */
const START = 2 ** 31 - 5_000;
const ALONE: WorldOptions = { up: [true, false], now: START };
beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

const client = (world: World, tcp: Partial<TcpPart>) => world.send(fromClient(tcp));
const server = (world: World, tcp: Partial<TcpPart>) => world.send(fromServer(tcp));

function worldWith(options: WorldOptions = ALONE, orders: Partial<EndingOrders> = {}): World {
  const world = new World(options);
  world.core.endings.apply({ ...ALL, ...orders }, world.now | 0);
  return world;
}

/** A connection that has carried 300 bytes, and 5,000 back, a second after its SYN. */
function carried(world: World): World {
  shake(world);
  world.now += 1000;
  client(world, { flags: 'PA', payload: pattern(300) });
  server(world, { flags: 'PA', payload: pattern(1400), acknowledgment: 1301 });
  return world;
}

function shake(world: World): void {
  client(world, { flags: 'S' });
  server(world, { flags: 'SA' });
  client(world, {});
}

/** At the next sweep, `later` ms from now. */
function told(world: World, later = 500): EndedFlow[] {
  world.sweepAll(world.now + later);
  return taken(world);
}

function taken(world: World): EndedFlow[] {
  return endedFlows(world.core.endings.take());
}

const BOTH = { tx: 300, rx: 1400 };
const ends = (flows: readonly EndedFlow[]) => flows.map(({ end, bytesTx: tx, bytesRx: rx }) => ({ end, tx, rx }));

function finish(world: World): void {
  client(world, { flags: 'FA', sequence: 1301, acknowledgment: 2401 });
  server(world, { flags: 'FA', sequence: 2401, acknowledgment: 1302 });
  client(world, { sequence: 1302, acknowledgment: 2402 });
}

describe('a connection of TCP', () => {
  test('that both have finished: between whom, since when, and what it has carried; once', () => {
    const world = carried(worldWith());
    expect(told(world)).toEqual([]);
    finish(world);
    const flows = told(world, 700);
    expect(flows).toEqual([
      {
        protocol: 'tcp',
        client: `${CLIENT}:5000`,
        to: `${VIP}:80`,
        via: `${VIP}:${CLIENT_PORTS.first}`,
        address: `${SERVERS[0]}:8080`,
        frontend: 0,
        server: 0,
        end: 'fin',
        at: expect.any(Number) as number,
        ageMs: 2200,
        quietMs: 700,
        bytesTx: 300,
        bytesRx: 1400,
      },
    ]);
    expect(told(world)).toEqual([]);
    // Its record and its port are free, and nobody is told again.
    expect(told(world, TIMEOUTS.timeWait)).toEqual([]);
    expect(world.table.size).toBe(0);
  });

  test('that somebody has reset', () => {
    const byClient = carried(worldWith());
    client(byClient, { flags: 'R', sequence: 1301 });
    expect(ends(told(byClient))).toEqual([{ end: 'reset-by-client', ...BOTH }]);
    const byServer = carried(worldWith());
    server(byServer, { flags: 'R', sequence: 2401 });
    expect(ends(told(byServer))).toEqual([{ end: 'reset-by-server', ...BOTH }]);
  });

  test('that goes on after a reset that was not true is told of again, with all that it has carried', () => {
    const world = carried(worldWith());
    server(world, { flags: 'R', sequence: 2401 });
    expect(ends(told(world, 1))).toEqual([{ end: 'reset-by-server', ...BOTH }]);
    world.now += 1500;
    client(world, { sequence: 1301, acknowledgment: 2401 });
    server(world, { flags: 'PA', sequence: 2401, acknowledgment: 1301, payload: pattern(10) });
    client(world, { sequence: 1301, acknowledgment: 2411 });
    expect(told(world)).toEqual([]);
    client(world, { flags: 'R', sequence: 1301 });
    expect(told(world).map(({ end }) => end)).toEqual(['reset-by-client']);
  });

  test.each<[string, (world: World) => void]>([
    ['idle', (world) => world.sweepAll(world.now + TIMEOUTS.established + 1)],
    ['killed', (world) => world.connections.end(0, How.killed, world.now | 0)],
    ['gone', (world) => void world.apply({ gone: [0] })],
    ['gone', (world) => void world.apply({ goneFrontends: [0] })],
  ])('%s', (end, act) => {
    const world = carried(worldWith());
    act(world);
    expect(ends(told(world))).toEqual([{ end, ...BOTH }]);
    expect(world.table.size).toBe(0);
  });

  test('in whose place its client opens another one at once: both, each by itself', () => {
    const world = carried(worldWith());
    finish(world);
    client(world, { flags: 'S', sequence: 50_000 });
    expect(ends(taken(world))).toEqual([{ end: 'fin', ...BOTH }]);
    server(world, { flags: 'SA', sequence: 7000, acknowledgment: 50_001 });
    client(world, { sequence: 50_001, acknowledgment: 7001 });
    client(world, { flags: 'R', sequence: 50_001 });
    const flows = told(world);
    expect(ends(flows)).toEqual([{ end: 'reset-by-client', tx: 0, rx: 0 }]);
    expect(flows[0]?.ageMs).toBe(500);
  });

  test('that was never established is told of where attempts are', () => {
    for (const attempts of [false, true]) {
      const world = worldWith(ALONE, { attempts });
      client(world, { flags: 'S' });
      expect(ends(told(world, TIMEOUTS.syn + 1))).toEqual(attempts ? [{ end: 'unanswered', tx: 0, rx: 0 }] : []);
      client(world, { flags: 'S', sequence: 9000 });
      world.send(fromServer({ flags: 'RA', acknowledgment: 9001, to: CLIENT_PORTS.first + 1 }));
      expect(ends(told(world))).toEqual(attempts ? [{ end: 'reset-by-server', tx: 0, rx: 0 }] : []);
    }
  });

  test('with direct server return: what the server sends is nobody’s to know', () => {
    const world = worldWith({ ...ALONE, mode: 'dsr' });
    client(world, { flags: 'S' });
    client(world, { flags: 'PA', payload: pattern(300) });
    client(world, { flags: 'FA', sequence: 1301 });
    expect(ends(told(world))).toEqual([{ end: 'fin', tx: 300, rx: undefined }]);
    // Taken up in mid-stream: nobody knows when it began.
    client(world, { from: 6000, flags: 'PA', payload: pattern(10) });
    expect(told(world, TIMEOUTS.fin + 1)).toEqual([]);
    const adopting = worldWith({ ...ALONE, mode: 'dsr', scheduler: 'maglev' });
    client(adopting, { flags: 'PA', payload: pattern(10) });
    const [adopted] = told(adopting, TIMEOUTS.fin + 1);
    expect(adopted).toMatchObject({ end: 'idle', ageMs: undefined, bytesTx: 10 });
  });
});

describe('a flow of UDP', () => {
  const datagram = { source: CLIENT, destination: VIP, udp: { from: 5000, to: 80, payload: pattern(12) } };
  const answer = { source: SERVERS[0], destination: VIP, udp: { from: 8080, to: CLIENT_PORTS.first, payload: pattern(40) } };
  const OF_UDP: WorldOptions = { ...ALONE, protocol: UDP };

  test('that has been silent for long enough, and one that nobody answers', () => {
    const world = worldWith(OF_UDP, { attempts: true });
    world.send(datagram);
    world.send(answer);
    world.send({ ...datagram, udp: { ...datagram.udp, from: 5001 } });
    const flows = told(world, TIMEOUTS.udp + 1);
    expect(ends(flows)).toEqual([{ end: 'unanswered', tx: 12, rx: 0 }]);
    expect(ends(told(world, TIMEOUTS.udpStream))).toEqual([{ end: 'idle', tx: 12, rx: 40 }]);
  });

  test('whose server is down while another one is up', () => {
    const world = worldWith({ ...OF_UDP, up: [true, true] });
    world.send(datagram);
    world.send(answer);
    world.apply({ up: [false, true], lost: [0] });
    expect(ends(told(world))).toEqual([{ end: 'server-down', tx: 12, rx: 40 }]);
  });

  test('a server for each datagram: its answer; one that nobody answers is an attempt', () => {
    for (const attempts of [false, true]) {
      const deaf = worldWith({ ...OF_UDP, perPacket: true }, { attempts });
      deaf.send(datagram);
      expect(told(deaf, TIMEOUTS.udpStream + 1).map(({ end }) => end)).toEqual(attempts ? ['unanswered'] : []);
    }
    const world = worldWith({ ...OF_UDP, perPacket: true });
    world.send(datagram);
    world.send(answer);
    const [flow] = taken(world);
    expect(flow).toMatchObject({ end: 'answered', client: `${CLIENT}:5000`, to: `${VIP}:80`, bytesTx: undefined, bytesRx: 40 });
  });
});

test('proxy mode tells of what ends in the first second of the process as well', () => {
  vi.spyOn(performance, 'now').mockReturnValue(500);
  const told: Endings[] = [];
  const log = new EndingLog((endings) => told.push(endings));
  log.apply(ALL);
  log.add(() => ({}) as never);
  log.flush();
  vi.mocked(performance.now).mockRestore();
  expect(told).toMatchObject([{ ended: [{}], overRate: 0 }]);
});

test('each worker has its part of the rate', () => {
  const keys = { target: { to: 'journal' }, format: 'text', sample: 0.5, rate: 1000, attempts: true } as const;
  expect(endingOrders(keys, 8)).toEqual({ share: 0.5, rate: 125, attempts: true });
  expect(endingOrders({ ...keys, rate: 1 }, 3)?.rate).toBe(1);
  // In proxy mode likewise: the rest is a number.
  const told: Endings[] = [];
  const log = new EndingLog((endings) => told.push(endings));
  log.apply({ share: 1, rate: 2, attempts: false });
  vi.spyOn(performance, 'now').mockReturnValue(5000);
  for (let i = 0; i < 5; i++) log.add(() => ({}) as never);
  log.flush();
  vi.restoreAllMocks();
  expect(told).toMatchObject([{ ended: [{}, {}], overRate: 3, noRoom: 0 }]);
});

describe('the log', () => {
  test('that is off tells nothing; turned on it tells of who is there, without a beginning, and not of who has ended before', () => {
    const world = carried(new World(ALONE));
    finish(world);
    client(world, { from: 5001, flags: 'S' });
    server(world, { flags: 'SA', to: CLIENT_PORTS.first + 1 });
    client(world, { from: 5001 });
    expect(told(world)).toEqual([]);
    world.now += 1000;
    world.core.endings.apply(ALL, world.now | 0);
    client(world, { from: 5001, flags: 'PA', payload: pattern(7) });
    expect(told(world)).toEqual([]);
    client(world, { from: 5001, flags: 'R', sequence: 1008 });
    expect(told(world)).toMatchObject([{ end: 'reset-by-client', client: `${CLIENT}:5001`, ageMs: undefined, bytesTx: 7 }]);
    world.core.endings.apply(undefined, world.now | 0);
    expect(told(world, TIMEOUTS.timeWait + 1)).toEqual([]);
  });

  test('goes on in the next process: who was told of is not told of again, who lives has no beginning', () => {
    const world = carried(worldWith());
    finish(world);
    client(world, { from: 5001, flags: 'S' });
    server(world, { flags: 'SA', to: CLIENT_PORTS.first + 1 });
    client(world, { from: 5001 });
    expect(told(world)).toHaveLength(1);
    const next = world.next();
    next.core.endings.apply(ALL, next.now | 0);
    expect(told(next)).toEqual([]);
    client(next, { from: 5001, flags: 'R', sequence: 1001 });
    expect(told(next)).toMatchObject([{ end: 'reset-by-client', ageMs: undefined }]);
  });

  test('a share of them, drawn by lot', () => {
    const world = worldWith(ALONE, { share: 0.25, rate: 100_000 });
    const { endings } = world.core;
    carried(world);
    finish(world);
    for (let i = 0; i < 4000; i++) endings.again(0, world.records.words[2], world.now | 0);
    const share = endings.take().rows.length / ROW / 4000;
    expect(share).toBeGreaterThan(0.22);
    expect(share).toBeLessThan(0.28);
  });

  test('no more than its rate, and no more than there is room for until the next tick: the rest is counted', () => {
    const world = worldWith(ALONE, { rate: 10 });
    carried(world);
    finish(world);
    const { endings } = world.core;
    const tellMany = (count: number) => {
      for (let i = 0; i < count; i++) endings.again(0, world.records.words[2], world.now | 0);
      const { rows, overRate, noRoom } = endings.take();
      return { rows: rows.length / ROW, overRate, noRoom };
    };
    expect(tellMany(25)).toEqual({ rows: 10, overRate: 15, noRoom: 0 });
    world.now += 500;
    expect(tellMany(25)).toEqual({ rows: 5, overRate: 20, noRoom: 0 });
    endings.apply({ ...ALL, rate: 100_000 }, world.now | 0);
    expect(tellMany(5000)).toEqual({ rows: 4096, overRate: 0, noRoom: 904 });
    expect(endings.isWaiting).toBe(false);
  });

  test('whose clock has come round goes on counting', () => {
    const world = worldWith({ ...ALONE, now: 2 ** 32 - 1500 });
    carried(world);
    world.now += 1000;
    world.core.endings.tick(world.now | 0);
    finish(world);
    expect(told(world)).toMatchObject([{ end: 'fin', ageMs: 2500, quietMs: 500 }]);
  });

  test('for which there is no memory is off, and says so once', () => {
    const world = new World(ALONE);
    vi.stubGlobal('Float64Array', function refuse() {
      throw new RangeError('Array buffer allocation failed');
    });
    const { endings } = world.core;
    endings.apply(ALL, world.now | 0);
    vi.unstubAllGlobals();
    expect([endings.isOn, endings.isWaiting, endings.take().isOff, endings.isWaiting]).toEqual([false, true, true, false]);
    carried(world);
    finish(world);
    expect(told(world)).toEqual([]);
  });
});
