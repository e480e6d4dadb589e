/** Tracking that cannot be fooled: a connection is moved by what a segment shows by its numbers, not by its flags. */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import * as T from '../../src/flow/life.ts';
import { CURRENT, frontendLoad, frontendRow, RX, TOTAL, TX } from '../../src/layout/counters.ts';
import * as Flow from '../../src/layout/flow.ts';
import { ALL_PORTS } from '../../src/packet/steering.ts';
import { fromClient, fromServer, PORT } from '../fixtures/frames.ts';
import { pattern, type TcpPart } from '../lab/packets.ts';
import { connectionsIn, TIMEOUTS, World, type WorldOptions } from '../lab/world.ts';

type Tcp = Partial<TcpPart>;
beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

const NAMES = ['', 'OPENING', 'ANSWERED', 'ESTABLISHED', 'CLOSING', 'TIME_WAIT', 'CLOSED'];
const ALONE: WorldOptions = { up: [true, false] };

const stateOf = (world: World) => NAMES[(connectionsIn(world)[0]?.life ?? 0) & T.STATE_MASK];
/** Whether its first flow passes without a look at the connection. */
const isFast = (world: World) => (world.table.words[connectionsIn(world)[0].first + Flow.STATE] & Flow.FAST) !== 0;
const load = (world: World) => [world.loads[frontendLoad(0)], world.statistics[frontendRow(0) + CURRENT]];

/** A world in which a connection is established: both sides begin at 1000, so 1001 is what each sends next. */
function established(options: WorldOptions = ALONE): World {
  const world = new World(options);
  world.send(fromClient({ flags: 'S' }));
  world.send(fromServer({ flags: 'SA' }));
  world.send(fromClient());
  expect(stateOf(world)).toBe('ESTABLISHED');
  world.now += 1000;
  return world;
}

const client = (world: World, tcp: Tcp) => world.send(fromClient(tcp));
const server = (world: World, tcp: Tcp) => world.send(fromServer(tcp));

describe('only an ACK of what the server has sent establishes', () => {
  test.each<[string, Tcp]>([
    ['a segment without flags', { flags: '' }],
    ['an ACK of another number', { acknowledgment: 1002 }],
    ['an older one', { acknowledgment: 1000 }],
    ['data that acknowledge nothing', { flags: 'P', payload: pattern(9) }],
    ['a FIN that acknowledges nothing', { flags: 'F' }],
  ])('not %s, which passes all the same, and renews nothing', (_, tcp) => {
    const world = new World(ALONE);
    client(world, { flags: 'S' });
    server(world, { flags: 'SA' });
    world.now = TIMEOUTS.syn - 1;
    expect(client(world, tcp).verdict).toBe('forwarded');
    expect(stateOf(world)).toBe('ANSWERED');
    world.sweepAll(TIMEOUTS.syn + 1);
    expect(world.table.size).toBe(0);
  });

  test.each<[string, Tcp]>([
    ['that is beyond the server’s window', { sequence: 1001 + 70_000 }],
    ['whose checksum is wrong', { checksum: 0x1234 }],
  ])('nor does an ACK %s: the server never hears it', (_, tcp) => {
    const world = new World(ALONE);
    client(world, { flags: 'S' });
    server(world, { flags: 'SA' });
    expect(client(world, tcp).verdict).toBe('forwarded');
    expect(stateOf(world)).toBe('ANSWERED');
  });

  test('nor a segment that comes before the answer', () => {
    const world = new World(ALONE);
    client(world, { flags: 'S' });
    for (const tcp of [{}, { acknowledgment: 1 }, { flags: 'PA', payload: pattern(3) }]) client(world, tcp);
    expect([stateOf(world), ...load(world)]).toEqual(['OPENING', 1, 0]);
  });

  test('a SYN sent again renews its turn, also where its number is the last before the sign changes', () => {
    const world = new World(ALONE);
    client(world, { flags: 'S', sequence: 0x7fffffff });
    server(world, { flags: 'SA', acknowledgment: 0x80000000 });
    world.now = TIMEOUTS.syn - 1;
    client(world, { flags: 'S', sequence: 0x7fffffff });
    world.sweepAll(TIMEOUTS.syn + 1);
    expect(stateOf(world)).toBe('ANSWERED');
  });

  test('an answer to another SYN is none', () => {
    const world = new World(ALONE);
    client(world, { flags: 'S' });
    server(world, { flags: 'SA', acknowledgment: 999 });
    expect(stateOf(world)).toBe('OPENING');
  });

  test('the first ACK is lost: whatever follows shows the same', () => {
    for (const tcp of [{ flags: 'PA', payload: pattern(100) }, { flags: 'FA' }, {}]) {
      const world = new World(ALONE);
      client(world, { flags: 'S' });
      server(world, { flags: 'SA' });
      client(world, tcp);
      expect(load(world)).toEqual([1, 1]);
    }
  });

  test('TCP Fast Open: data in the SYN, the answer and a FIN before the client’s ACK (RFC 7413)', () => {
    const world = new World(ALONE);
    client(world, { flags: 'S', payload: pattern(10) });
    server(world, { flags: 'SA', acknowledgment: 1011 });
    server(world, { flags: 'PA', acknowledgment: 1011, payload: pattern(20) });
    server(world, { flags: 'FA', sequence: 1021, acknowledgment: 1011 });
    expect(stateOf(world)).toBe('ANSWERED');
    client(world, { sequence: 1011, acknowledgment: 1022 });
    expect(stateOf(world)).toBe('CLOSING');
    client(world, { flags: 'FA', sequence: 1011, acknowledgment: 1022 });
    expect(stateOf(world)).toBe('TIME_WAIT');
  });

  test('a new connection on an old path is judged by its own numbers', () => {
    const world = established();
    for (let i = 0; i < 5; i++) server(world, { sequence: 1001 + i * 1000, payload: pattern(1000) });
    server(world, { flags: 'RA', sequence: 6001 });
    expect(stateOf(world)).toBe('CLOSED');
    client(world, { flags: 'S', sequence: 50 });
    server(world, { flags: 'SA', sequence: 70, acknowledgment: 51 });
    client(world, { sequence: 51, acknowledgment: 72 });
    expect(stateOf(world)).toBe('ANSWERED');
    client(world, { sequence: 51, acknowledgment: 71 });
    expect(stateOf(world)).toBe('ESTABLISHED');
  });
});

describe('an idle connection is ended by no number but one', () => {
  const wrong = [0, 1000, 1002, 1500, 70_000, 0x80000000, 0xffffffff];
  for (const side of ['client', 'server'] as const)
    for (const flags of ['R', 'RA', 'FA', 'F'])
      test(`${flags} from the ${side}`, () => {
        const world = established();
        const send = side === 'client' ? client : server;
        for (const sequence of wrong) expect(send(world, { flags, sequence }).verdict).toBe('forwarded');
        expect([stateOf(world), ...load(world)]).toEqual(['ESTABLISHED', 1, 1]);
        world.sweepAll(TIMEOUTS.established - 1);
        expect(client(world, { flags: 'PA', payload: pattern(3) }).verdict).toBe('forwarded');
        expect(stateOf(world)).toBe('ESTABLISHED');
        expect(send(world, { flags: flags === 'F' ? 'FA' : flags, sequence: side === 'client' ? 1004 : 1001 }).verdict).toBe('forwarded');
        expect(stateOf(world)).not.toBe('ESTABLISHED');
      });

  test('also after it has carried much, some of it twice', () => {
    const world = established();
    for (let i = 0; i < 10; i++) client(world, { sequence: 1001 + i * 1000, payload: pattern(1000) });
    client(world, { sequence: 1001, payload: pattern(1000) });
    server(world, { acknowledgment: 11_001 });
    // For two seconds as much may be in flight as was sent twice.
    world.sweepAll(3000);
    for (const sequence of [11_000, 11_002, 12_001]) client(world, { flags: 'R', sequence });
    expect(stateOf(world)).toBe('ESTABLISHED');
    client(world, { flags: 'R', sequence: 11_001 });
    expect(stateOf(world)).toBe('CLOSED');
  });

  test('behind payload that is forged, too, a reset takes the connection from nobody: its ends go on', () => {
    const world = established();
    for (let i = 0; i < 3000; i++) client(world, { sequence: 0x70000000, payload: pattern(1400) });
    client(world, { flags: 'R', sequence: 1001 + 4_000_000 });
    expect([stateOf(world), ...load(world)]).toEqual(['CLOSED', 0, 0]);
    world.sweepAll(world.now + TIMEOUTS.closed + 1000);
    client(world, { flags: 'PA', payload: pattern(3) });
    server(world, { acknowledgment: 1004 });
    expect([stateOf(world), ...load(world)]).toEqual(['ESTABLISHED', 1, 1]);
    // A real one, behind what was in flight, needs its port no longer than a FIN would.
    client(world, { sequence: 1004, payload: pattern(500) });
    client(world, { flags: 'R', sequence: 1504 });
    world.sweepAll(world.now + TIMEOUTS.fin + 1);
    expect(world.table.size).toBe(0);
  });

  test('a SYN in the middle shows nothing: its ends answer it (RFC 5961 section 4)', () => {
    const world = established();
    expect(client(world, { flags: 'S', sequence: 77 }).verdict).toBe('forwarded');
    expect(server(world, { flags: 'SA', sequence: 77 }).verdict).toBe('forwarded');
    expect([stateOf(world), ...load(world)]).toEqual(['ESTABLISHED', 1, 1]);
  });
});

describe('what ends a connection does so', () => {
  // A server at the end of a bad line: what it sends twice is counted for good (flow/tcp-evidence.ts).
  test.each(['R', 'RA', 'FA'])('%s of a server that has sent 19 MB of 20 twice', (flags) => {
    const world = established();
    const [bytes, twice, piece] = [20_000_000, 19_000_000, 50_000];
    const payload = pattern(piece);
    for (let sent = 0; sent < bytes; sent += piece) {
      server(world, { sequence: 1001 + sent, payload });
      if (sent < twice) server(world, { sequence: 1001 + sent, payload });
      client(world, { acknowledgment: 1001 + sent + piece });
    }
    world.sweepAll(5000);
    for (const wrong of [900, 200_000_000, 0x80000000]) server(world, { flags, sequence: wrong });
    expect(stateOf(world)).toBe('ESTABLISHED');
    server(world, { flags, sequence: 1001 + bytes });
    expect(stateOf(world)).toBe(flags === 'FA' ? 'CLOSING' : 'CLOSED');
  });

  test('a reset behind data in flight', () => {
    const world = established();
    for (let i = 0; i < 3; i++) client(world, { flags: 'PA', sequence: 1001 + i * 500, payload: pattern(500) });
    client(world, { flags: 'R', sequence: 2501 });
    expect([stateOf(world), ...load(world)]).toEqual(['CLOSED', 0, 0]);
  });

  test('a FIN behind data that nobody will acknowledge any more', () => {
    const world = established();
    server(world, { flags: 'PA', payload: pattern(700) });
    world.sweepAll(60_000);
    server(world, { flags: 'PA', payload: pattern(700) });
    world.sweepAll(70_000);
    server(world, { flags: 'FA', sequence: 1701 });
    expect(stateOf(world)).toBe('CLOSING');
    world.sweepAll(world.now + TIMEOUTS.fin + 1);
    expect(world.table.size).toBe(0);
  });

  test('a reset behind a FIN, unacknowledged or not', () => {
    for (const acknowledged of [false, true]) {
      const world = established();
      client(world, { flags: 'FA' });
      if (acknowledged) server(world, { acknowledgment: 1002 });
      client(world, { flags: 'R', sequence: 1002 });
      expect(stateOf(world)).toBe('CLOSED');
    }
  });

  test('a FIN sent again, with the data before it', () => {
    const world = established();
    client(world, { flags: 'FPA', payload: pattern(30) });
    client(world, { flags: 'FPA', payload: pattern(30) });
    server(world, { flags: 'FA', acknowledgment: 1032 });
    expect(stateOf(world)).toBe('TIME_WAIT');
  });

  test('more than four gigabytes, and numbers that begin anew', () => {
    const world = new World(ALONE);
    client(world, { flags: 'S', sequence: 0xffffff00 });
    server(world, { flags: 'SA', acknowledgment: 0xffffff01 });
    client(world, { sequence: 0xffffff01 });
    client(world, { flags: 'PA', sequence: 0xffffff01, payload: pattern(1000) });
    server(world, { acknowledgment: 0xffffff01 + 1000 - 2 ** 32 });
    client(world, { flags: 'FA', sequence: 0xffffff01 + 1000 - 2 ** 32 });
    expect(stateOf(world)).toBe('CLOSING');
  });

  test('refused: by the number of the SYN alone', () => {
    const world = new World(ALONE);
    client(world, { flags: 'S' });
    server(world, { flags: 'RA', sequence: 0, acknowledgment: 7 });
    server(world, { flags: 'R', sequence: 1001 });
    expect(stateOf(world)).toBe('OPENING');
    server(world, { flags: 'RA', sequence: 0 });
    expect(stateOf(world)).toBe('CLOSED');
  });
});

describe('a FIN behind what was lost before lb4 saw it is never sent again', () => {
  /** Silent for so long that nothing should be in flight. */
  function waiting(side: 'client' | 'server', fin: Tcp): World {
    const world = established();
    world.now += 2000;
    const send = side === 'client' ? client : server;
    expect(send(world, fin).verdict).toBe('forwarded');
    expect([stateOf(world), ...load(world)]).toEqual(['ESTABLISHED', 1, 1]);
    return world;
  }

  for (const [side, send, answer] of [
    ['client', client, server],
    ['server', server, client],
  ] as const) {
    test(`a ${side}’s counts once what was missing has passed and all is acknowledged`, () => {
      const world = waiting(side, { flags: 'FPA', sequence: 2001, payload: pattern(100) });
      answer(world, {});
      for (const sequence of [1001, 1501]) {
        world.now += 900;
        send(world, { sequence, payload: pattern(500) });
        answer(world, { acknowledgment: sequence + 500 });
        expect(stateOf(world)).toBe('ESTABLISHED');
      }
      answer(world, { flags: 'FA', acknowledgment: 2102 });
      expect([stateOf(world), ...load(world)]).toEqual(['TIME_WAIT', 0, 0]);
      world.sweepAll(world.now + 1000);
      // What the FIN's own segment carried was counted with it.
      const row = frontendRow(0) + (side === 'client' ? TX : RX);
      expect(world.statistics[row]).toBe(1100);
    });

    test(`a ${side}’s that comes again counts once, with its payload`, () => {
      const world = waiting(side, { flags: 'FPA', sequence: 1501, payload: pattern(100) });
      send(world, { sequence: 1001, payload: pattern(500) });
      send(world, { flags: 'FPA', sequence: 1501, payload: pattern(100) });
      expect([stateOf(world), connectionsIn(world)[0].life & T.WAITING]).toEqual(['CLOSING', 0]);
      answer(world, { acknowledgment: 1602 });
      answer(world, { flags: 'FA', acknowledgment: 1602 });
      expect(stateOf(world)).toBe('TIME_WAIT');
      world.sweepAll(world.now + 1000);
      expect(world.statistics[frontendRow(0) + (side === 'client' ? TX : RX)]).toBe(600);
    });

    test(`one whose ${side} goes on was forged`, () => {
      const world = waiting(side, { flags: 'FA', sequence: 1501 });
      send(world, { sequence: 1001, payload: pattern(501) });
      answer(world, { acknowledgment: 1502 });
      expect([stateOf(world), ...load(world)]).toEqual(['ESTABLISHED', 1, 1]);
      expect(isFast(world)).toBe(true);
    });

    test(`a ${side}’s waits for a minute, or until others have used up its place`, () => {
      const world = waiting(side, { flags: 'FA', sequence: 1501 });
      expect(isFast(world)).toBe(false);
      world.now += 60_001;
      answer(world, {});
      expect([stateOf(world), isFast(world)]).toEqual(['ESTABLISHED', true]);
      answer(world, { acknowledgment: 1502 });
      expect(stateOf(world)).toBe('ESTABLISHED');
    });
  }

  test('nobody is waited for beyond a megabyte, nor twice, nor once it has finished', () => {
    const world = waiting('client', { flags: 'FA', sequence: 1001 + 2 ** 21 });
    expect(isFast(world)).toBe(true);
    client(world, { flags: 'FA' });
    client(world, { flags: 'FA', sequence: 1501 });
    server(world, { acknowledgment: 1502 });
    expect(connectionsIn(world)[0].life & T.WAITING).toBe(0);
  });

  test('both may wait, and one segment bear the other’s out while its own begins to', () => {
    const world = waiting('client', { flags: 'FA', sequence: 1501 });
    client(world, { sequence: 1001, payload: pattern(500) });
    world.now += 2000;
    server(world, { flags: 'FPA', sequence: 1301, payload: pattern(100), acknowledgment: 1502 });
    expect(stateOf(world)).toBe('CLOSING');
    server(world, { sequence: 1001, payload: pattern(300), acknowledgment: 1502 });
    client(world, { sequence: 1502, acknowledgment: 1402 });
    expect([stateOf(world), ...load(world)]).toEqual(['TIME_WAIT', 0, 0]);
    world.sweepAll(world.now + 1000);
    expect([TX, RX].map((way) => world.statistics[frontendRow(0) + way])).toEqual([500, 400]);
  });

  test('a reset ends the waiting', () => {
    const world = waiting('client', { flags: 'FA', sequence: 1501 });
    server(world, { flags: 'R' });
    expect(connectionsIn(world)[0].life & (T.STATE_MASK | T.WAITING)).toBe(T.CLOSED);
  });

  test('another lb4 that goes on with the connection waits no more', () => {
    const world = waiting('client', { flags: 'FA', sequence: 1501 });
    const next = new World({ ...ALONE, found: world.memory });
    next.now = world.now;
    server(next, { acknowledgment: 1001 });
    expect([stateOf(next), isFast(next)]).toEqual(['ESTABLISHED', true]);
  });

  test('with direct server return it counts when all before it has passed', () => {
    const world = new World({ ...ALONE, mode: 'dsr' });
    for (const tcp of [{ flags: 'S' }, {}]) client(world, tcp);
    world.now += 2000;
    client(world, { flags: 'FPA', sequence: 2001, payload: pattern(9) });
    client(world, { sequence: 1001, payload: pattern(500) });
    expect(stateOf(world)).toBe('ESTABLISHED');
    client(world, { sequence: 1501, payload: pattern(500) });
    expect([stateOf(world), ...load(world)]).toEqual(['TIME_WAIT', 0, 0]);
  });
});

test('while packets pass, a reset may follow what was lost before lb4 saw it', () => {
  const world = established();
  server(world, { payload: pattern(100) });
  for (const sequence of [1000, 1101 + 2 ** 21]) server(world, { flags: 'R', sequence });
  expect(stateOf(world)).toBe('ESTABLISHED');
  server(world, { flags: 'R', sequence: 1101 + 30_000 });
  expect(stateOf(world)).toBe('CLOSED');
});

describe('what a client says does not keep what its server has ended', () => {
  test.each<[string, Tcp[], Tcp]>([
    ['a FIN, after an acknowledgement of what was never sent', [{ acknowledgment: 0x40000000 }], { flags: 'FA' }],
    ['a reset, after the same', [{ acknowledgment: 0x40000000 }], { flags: 'R' }],
    ['a FIN, after an old acknowledgement', [{ acknowledgment: 900 }], { flags: 'FA' }],
  ])('%s', (_, forged, end) => {
    const world = established();
    for (const tcp of forged) client(world, tcp);
    world.sweepAll(world.now + 5000);
    server(world, end);
    expect(stateOf(world)).not.toBe('ESTABLISHED');
  });

  test('nor bring it back', () => {
    const world = established();
    server(world, { flags: 'FA' });
    client(world, { acknowledgment: 1003 });
    expect(stateOf(world)).toBe('CLOSING');
    server(world, { flags: 'R', sequence: 1002 });
    for (let i = 0; i < 3; i++) client(world, { acknowledgment: 1003 });
    expect(stateOf(world)).toBe('CLOSED');
  });

  test('nor keep its port, after both have finished', () => {
    const world = established();
    client(world, { flags: 'FA' });
    server(world, { flags: 'FA', acknowledgment: 1002 });
    world.now += TIMEOUTS.timeWait - 1;
    client(world, { sequence: 1002, acknowledgment: 7 });
    world.sweepAll(world.now + 2);
    expect(world.table.size).toBe(0);
  });
});

describe('limits', () => {
  test('are not used up by SYNs alone: what has waited for a second makes way', () => {
    const world = new World({ ...ALONE, frontendMaxconn: 3 });
    for (let from = 1; from <= 3; from++) client(world, { from, flags: 'S' });
    expect(client(world, { from: 9, flags: 'S' }).verdict).toBe('resetFull');
    world.now += 1000;
    expect(client(world, { from: 9, flags: 'S' }).verdict).toBe('opened');
    expect(load(world)[0]).toBe(3);
  });

  test('nor by segments in mid-stream, of which nobody has seen a handshake', () => {
    const world = new World({ ...ALONE, mode: 'dsr', scheduler: 'maglev', frontendMaxconn: 3, connections: 64 });
    for (let from = 1; from <= 100; from++) client(world, { from });
    expect([world.records.size, load(world)[0]]).toEqual([33, 0]);
    expect(client(world, { from: 200, flags: 'S' }).verdict).toBe('opened');
  });
});

test("with GLB's table a frontend's limit refuses SYNs alone: what other balancers have opened goes on", () => {
  const world = new World({ ...ALONE, mode: 'dsr', scheduler: 'glb', frontendMaxconn: 1, connections: 64 });
  client(world, { from: 1, flags: 'S' });
  client(world, { from: 1 });
  expect(client(world, { from: 2, flags: 'S' }).verdict).toBe('resetFull');
  expect(client(world, { from: 3 }).verdict).toBe('adopted');
});

describe('what was believed and is not true is undone', () => {
  test('a FIN: the other side acknowledges more than that', () => {
    const world = established();
    client(world, { flags: 'FA' });
    expect([stateOf(world), ...load(world)]).toEqual(['CLOSING', 1, 1]);
    client(world, { flags: 'PA', payload: pattern(50) });
    expect(stateOf(world)).toBe('CLOSING');
    server(world, { acknowledgment: 1051 });
    expect(stateOf(world)).toBe('ESTABLISHED');
    client(world, { flags: 'FA', sequence: 1051 });
    server(world, { flags: 'FA', acknowledgment: 1052 });
    expect([stateOf(world), ...load(world)]).toEqual(['TIME_WAIT', 0, 0]);
  });

  test('both FINs: state and load come back', () => {
    const world = established();
    client(world, { flags: 'FA' });
    server(world, { flags: 'FA' });
    expect(load(world)).toEqual([0, 0]);
    client(world, { flags: 'PA', payload: pattern(50) });
    server(world, { acknowledgment: 1051 });
    expect([stateOf(world), ...load(world)]).toEqual(['CLOSING', 1, 1]);
    expect(world.statistics[frontendRow(0) + TOTAL]).toBe(1);
  });

  test('a reset: both sides go on a second later; one alone does not bring it back', () => {
    const world = established({ ...ALONE });
    client(world, { flags: 'R' });
    expect([stateOf(world), ...load(world)]).toEqual(['CLOSED', 0, 0]);
    client(world, { flags: 'PA', payload: pattern(5) });
    server(world, { acknowledgment: 1006 });
    expect(stateOf(world)).toBe('CLOSED');
    world.now += TIMEOUTS.closed;
    for (let i = 0; i < 3; i++) client(world, { flags: 'PA', payload: pattern(5) });
    expect(stateOf(world)).toBe('CLOSED');
    server(world, { acknowledgment: 1006 });
    expect([stateOf(world), ...load(world)]).toEqual(['ESTABLISHED', 1, 1]);
  });

  test('a reset that the other side answers with what it said last (RFC 5961): at once', () => {
    const world = established();
    server(world, { payload: pattern(100) });
    client(world, { acknowledgment: 1101 });
    server(world, { flags: 'R', sequence: 1101 + 1000 });
    expect([stateOf(world), ...load(world)]).toEqual(['CLOSED', 0, 0]);
    // What it sent before it heard of it is no answer.
    client(world, { flags: 'PA', acknowledgment: 1101, payload: pattern(5) });
    expect(stateOf(world)).toBe('CLOSED');
    client(world, { acknowledgment: 1101 });
    expect([stateOf(world), ...load(world)]).toEqual(['ESTABLISHED', 1, 1]);
    server(world, { flags: 'R', sequence: 1101 });
    expect(stateOf(world)).toBe('CLOSED');
    server(world, { sequence: 1101 });
    expect(stateOf(world)).toBe('CLOSED');
  });

  test('a stranger’s ACKs keep no connection that was reset', () => {
    const world = established();
    client(world, { flags: 'R' });
    for (let i = 0; i < 3; i++) {
      world.now += TIMEOUTS.closed - 1;
      client(world, {});
    }
    world.sweepAll(world.now);
    expect(world.table.size).toBe(0);
  });
});

describe('direct server return: by the client’s own numbers', () => {
  const DSR: WorldOptions = { ...ALONE, mode: 'dsr' };
  const up = (world: World, ...segments: Tcp[]) => segments.map((tcp) => client(world, tcp).verdict);

  test('its second segment establishes, if it follows the first', () => {
    const world = new World(DSR);
    up(world, { flags: 'S' }, { sequence: 5 }, { flags: '' });
    expect(stateOf(world)).toBe('OPENING');
    up(world, {});
    expect(stateOf(world)).toBe('ESTABLISHED');
  });

  test('FIN and RST count where it has sent to', () => {
    const world = new World(DSR);
    up(world, { flags: 'S' }, {}, { flags: 'PA', payload: pattern(100) });
    world.now = 1000;
    for (const flags of ['R', 'FA']) for (const sequence of [1102, 5000, 0, 0x80000000]) up(world, { flags, sequence });
    expect(stateOf(world)).toBe('ESTABLISHED');
    up(world, { flags: 'FA', sequence: 1101 });
    expect([stateOf(world), ...load(world)]).toEqual(['TIME_WAIT', 0, 0]);
    // Whoever has finished says no more: what goes on was not finished.
    up(world, { flags: 'A', sequence: 1102 });
    expect(stateOf(world)).toBe('TIME_WAIT');
    up(world, { flags: 'PA', sequence: 1101, payload: pattern(10) });
    expect([stateOf(world), ...load(world)]).toEqual(['ESTABLISHED', 1, 1]);
  });

  test('the server may go on for as long as a half-closed connection is kept', () => {
    const world = new World(DSR);
    up(world, { flags: 'S' }, {}, { flags: 'FA' });
    world.sweepAll(TIMEOUTS.fin - 1);
    expect(world.table.size).toBe(1);
    world.sweepAll(TIMEOUTS.fin + 1);
    expect(world.table.size).toBe(0);
  });
});

describe('half-open connections', () => {
  const syns = (world: World, from: number, count: number) =>
    Array.from({ length: count }, (_, i) => client(world, { from: from + i, flags: 'S' }).verdict);
  const room: WorldOptions = { ...ALONE, capacity: 16_384, connections: 8192 };

  test('hold a share of the table: the oldest makes way', () => {
    const world = new World(room);
    expect(new Set(syns(world, 1, 3000))).toEqual(new Set(['opened']));
    expect([world.halfOpen.size, world.connections.evicted]).toEqual([2048, 952]);
    const left = connectionsIn(world).length;
    expect(left).toBe(2048);
    expect(client(world, { from: 1, flags: 'A' }).verdict).toBe('resetUnknown');
    expect(client(world, { from: 3000, flags: 'S' }).verdict).toBe('forwarded');
  });

  test('and of a pool’s ports, so that others of its servers’ clients find one', () => {
    const world = new World({ ...ALONE, capacity: 131_072, connections: 32_768 });
    syns(world, 1, 8000);
    expect(world.halfOpen.size).toBe(Math.ceil(ALL_PORTS.count / 4));
    expect(world.services.pools.at(0)!.available).toBe(ALL_PORTS.count - Math.ceil(ALL_PORTS.count / 4));
  });

  test('the client alone renews its turn: its SYN, nothing else, nobody else', () => {
    const world = new World(room);
    syns(world, 1, 2048);
    client(world, { from: 1, flags: 'S' });
    for (const tcp of [{}, { flags: 'PA', payload: pattern(3) }, { flags: 'R', sequence: 9 }]) client(world, { from: 2, ...tcp });
    server(world, { to: PORT + 2, flags: 'SA' });
    syns(world, 5000, 2);
    const isKnown = (from: number) => client(world, { from }).verdict === 'forwarded';
    expect([1, 2, 3, 4].map(isKnown)).toEqual([true, false, false, true]);
  });

  test('an established one is never taken', () => {
    const world = established(room);
    syns(world, 10_000, 9000);
    expect(client(world, {}).verdict).toBe('forwarded');
    expect(load(world)[1]).toBe(1);
  });

  test('a reset of an unfinished handshake leaves it in its place: SYN and RST in pairs are no way around the share', () => {
    const world = new World(room);
    for (let from = 1; from <= 3000; from++) {
      client(world, { from, flags: 'S' });
      client(world, { from, flags: 'R' });
    }
    expect(world.halfOpen.size).toBe(2048);
    expect(connectionsIn(world)).toHaveLength(2048);
    for (let from = 953; from <= 3000; from++) client(world, { from, flags: 'S' });
    expect(world.halfOpen.size).toBe(2048);
    world.sweepAll(TIMEOUTS.syn + 1);
    expect([world.halfOpen.size, world.table.size]).toEqual([0, 0]);
  });

  test('those that are opened again on an old path count, too', () => {
    const world = new World(room);
    for (let i = 0; i < 2048 + 5; i++) {
      client(world, { from: 1 + i, flags: 'S' });
      server(world, { to: PORT + i, flags: 'SA' });
      client(world, { from: 1 + i });
      client(world, { from: 1 + i, flags: 'R' });
    }
    expect(world.halfOpen.size).toBe(0);
    for (let i = 0; i < 2048 + 5; i++) client(world, { from: 1 + i, flags: 'S', sequence: 5 });
    expect([world.halfOpen.size, world.connections.evicted]).toEqual([2048, 5]);
  });

  test('one service’s flood does not push out another’s handshakes', () => {
    const world = new World({ ...room, ports: [80, 81], mode: 'dsr', scheduler: 'roundrobin' });
    client(world, { from: 1, to: 81, flags: 'S' });
    syns(world, 1, 6000);
    expect(client(world, { from: 1, to: 81, flags: 'S' }).verdict).toBe('forwarded');
    expect(client(world, { from: 2, to: 81, flags: 'S' }).verdict).toBe('opened');
    client(world, { from: 1, to: 81 });
    expect(world.statistics[frontendRow(1) + CURRENT]).toBe(1);
  });

  test('a full table, and a pool without ports, take them below their share', () => {
    const world = new World({ ...ALONE, connections: 64 });
    syns(world, 1, 64);
    expect(syns(world, 100, 5)).toEqual(['opened', 'opened', 'opened', 'opened', 'opened']);
    const full = new World(ALONE);
    syns(full, 1, 1);
    while (full.services.pools.at(0)!.claim() !== 0);
    expect(syns(full, 2, 1)).toEqual(['opened']);
    expect(full.halfOpen.size).toBe(1);
  });

  test('under pressure they get an eighth of the time', () => {
    const world = new World(room);
    syns(world, 1, 1025);
    world.sweepAll(TIMEOUTS.syn / 8 + 1);
    // As many as are more than half of the share, and no more.
    expect(world.halfOpen.size).toBe(1024);
    world.sweepAll(TIMEOUTS.syn + 1);
    expect(world.halfOpen.size).toBe(0);
  });

  test('where a server’s ports are out another server is tried', () => {
    const world = new World();
    while (world.services.pools.at(0)!.claim() !== 0);
    expect(new Set(syns(world, 1, 10))).toEqual(new Set(['opened']));
    expect(connectionsIn(world).map((connection) => connection.server)).toEqual(Array.from({ length: 10 }, () => 1));
  });

  test('nothing is left of them in the books', () => {
    const world = new World({ ...room, up: [true, true] });
    syns(world, 1, 5000);
    world.sweepAll(TIMEOUTS.syn + 1);
    expect([world.halfOpen.size, world.records.size, world.table.size, ...load(world)]).toEqual([0, 0, 0, 0, 0]);
    for (const pool of [0, 1]) expect(world.services.pools.at(pool)!.available).toBe(ALL_PORTS.count);
  });
});
