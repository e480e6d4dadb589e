import { beforeEach, describe, expect, test, vi } from 'vitest';
import { prepare } from '../../src/balance/index.ts';
import { REST_MS } from '../../src/flow/table.ts';
import { Ledger } from '../../src/forward/ledger.ts';
import { Services } from '../../src/forward/services.ts';
import { Verdict } from '../../src/forward/verdict.ts';
import { CURRENT, frontendRow, RX, serverRow, TOTAL, TX } from '../../src/layout/counters.ts';
import { ownMemory } from '../../src/layout/memory.ts';
import { CLIENT_PORTS } from '../../src/layout/ports.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { TCP } from '../../src/packet/fields.ts';
import { fromClient, fromServer, PORT } from '../fixtures/frames.ts';
import { pattern, type TcpPart } from '../lab/packets.ts';
import { connectionsIn, TIMEOUTS, World, type WorldOptions } from '../lab/world.ts';

type Tcp = Partial<TcpPart>;
beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

/** Sends "c:S", "s:SA", … and reads the counters of the frontend, which must be those of its one server too. */
class Life {
  readonly world: World;

  constructor(options: WorldOptions = {}) {
    this.world = new World({ up: [true, false], ...options });
  }

  go(segments: string, tcp: Tcp = {}): this {
    for (const segment of segments.split(' ')) {
      const [side, flags] = segment.split(':') as [string, string];
      this.world.send(side === 'c' ? fromClient({ flags, ...tcp }) : fromServer({ flags, ...tcp }));
    }
    return this;
  }

  counts(): { total: number; current: number; tx: number; rx: number } {
    const row = (at: number) => {
      const { statistics } = this.world;
      return { total: statistics[at + TOTAL], current: statistics[at + CURRENT], tx: statistics[at + TX], rx: statistics[at + RX] };
    };
    expect(row(serverRow(0))).toEqual(row(frontendRow(0)));
    return row(frontendRow(0));
  }

  openAndClosed(): [total: number, current: number] {
    const { total, current } = this.counts();
    return [total, current];
  }

  after(milliseconds: number): this {
    this.world.sweepAll((this.world.now + milliseconds) >>> 0);
    return this;
  }
}

test('opened again at once after the kernel had it: what it may still write of the old one is nothing to the new one', () => {
  const life = new Life({ isInKernel: true }).go('c:S s:SA c:A c:R');
  const { world } = life;
  const syn = () => world.send(fromClient({ flags: 'S', sequence: 9000 })).verdict;
  const [old] = connectionsIn(world);
  world.now += REST_MS - 1;
  // The server's own would open nothing.
  world.send(fromServer({ flags: 'S' }));
  expect(connectionsIn(world)).toEqual([old]);
  expect(syn()).toBe('opened');
  const [anew] = connectionsIn(world);
  expect([old.first, old.second]).not.toContain(anew.first);
  expect([old.first, old.second]).not.toContain(anew.second);
  // One that nobody has had since goes on in its place.
  life.go('s:RA', { acknowledgment: 9001 });
  world.now += REST_MS;
  expect(syn()).toBe('forwarded');
  expect(connectionsIn(world)[0].first).toBe(anew.first);
});

describe('connections are counted', () => {
  test.each([
    ['not by their SYN', 'c:S', 0, 0],
    ['not while only the server has answered', 'c:S s:SA', 0, 0],
    ['when the handshake is complete', 'c:S s:SA c:A', 1, 1],
    ['once, however often its segments come', 'c:S c:S s:SA s:SA c:A c:A c:PA s:PA', 1, 1],
    ['as open while half-closed', 'c:S s:SA c:A c:FA s:A s:PA', 1, 1],
    ['as closed after both FINs', 'c:S s:SA c:A c:FA s:FA', 1, 0],
    ['as closed once', 'c:S s:SA c:A c:FA s:FA c:A c:FA s:FA c:R s:R', 1, 0],
    ['as closed after a reset', 'c:S s:SA c:A s:R', 1, 0],
    ['as closed after a reset in mid-close', 'c:S s:SA c:A c:FA s:R', 1, 0],
    ['not when refused', 'c:S s:RA', 0, 0],
    ['when the first ACK is lost and a FIN comes', 'c:S s:SA c:FA', 1, 1],
    ['anew when opened from TIME_WAIT', 'c:S s:SA c:A c:FA s:FA c:S s:SA c:A', 2, 1],
    ['anew when opened after a reset', 'c:S s:SA c:A c:R c:S s:SA c:A', 2, 1],
  ])('%s', (_, segments, total, current) => {
    const life = new Life().go(segments);
    expect(life.openAndClosed()).toEqual([total, current]);
    // Whatever the state, nothing is open once all has expired.
    expect(life.after(TIMEOUTS.established + 1).openAndClosed()).toEqual([total, 0]);
    expect(life.world.table.size).toBe(0);
  });

  test('DSR: by the second segment of the client, closed by its FIN', () => {
    const life = new Life({ mode: 'dsr' }).go('c:S');
    expect(life.openAndClosed()).toEqual([0, 0]);
    expect(life.go('c:A').openAndClosed()).toEqual([1, 1]);
    expect(life.go('c:FA').openAndClosed()).toEqual([1, 0]);
    expect(life.world.table.size).toBe(1);
    expect(new Life({ mode: 'dsr' }).go('c:S c:FA').openAndClosed()).toEqual([1, 0]);
  });
});

describe('bytes', () => {
  test('payload only, by direction, collected by the sweep', () => {
    const life = new Life()
      .go('c:S s:SA c:A')
      .go('c:PA', { payload: pattern(100) })
      .go('s:PA s:PA', { payload: pattern(1460) });
    life.world.send(fromClient({ payload: pattern(1) }, { padTo: 60, options: [1, 1, 1, 1] }));
    expect(life.counts()).toMatchObject({ tx: 0, rx: 0 });
    expect(life.after(0).counts()).toMatchObject({ tx: 101, rx: 2920 });
    expect(life.after(1).counts()).toMatchObject({ tx: 101, rx: 2920 });
  });

  test('super-packets count whole', () => {
    const life = new Life().go('c:S s:SA c:A');
    life.world.send(fromClient({ payload: pattern(60000), partial: true }, { gso: 1460 }));
    expect(life.after(0).counts()).toMatchObject({ tx: 60000, rx: 0 });
  });

  test('what came since the last sweep is not lost when the connection goes', () => {
    const life = new Life().go('c:S s:SA c:A').go('s:PA', { payload: pattern(7) });
    expect(life.after(TIMEOUTS.established + 1).counts()).toMatchObject({ rx: 7 });
  });

  test('segments that were answered instead of forwarded do not count', () => {
    const life = new Life().go('c:S s:SA c:A');
    life.world.send(fromClient({ payload: pattern(9) }, { ttl: 1 }));
    expect(life.after(0).counts()).toMatchObject({ tx: 0 });
  });
});

describe('expiry', () => {
  const states: [string, string, number][] = [
    ['OPENING', 'c:S', TIMEOUTS.syn],
    ['ANSWERED', 'c:S s:SA', TIMEOUTS.syn],
    ['ESTABLISHED', 'c:S s:SA c:A', TIMEOUTS.established],
    ['CLOSING', 'c:S s:SA c:A s:FA', TIMEOUTS.fin],
    ['TIME_WAIT', 'c:S s:SA c:A s:FA c:FA', TIMEOUTS.timeWait],
    ['CLOSED', 'c:S s:SA c:A s:R', TIMEOUTS.closed],
  ];
  for (const start of [0, 0x7fffff00, 0xffffff00])
    test.each(states)(`%s, the clock at ${start}`, (_, segments, timeout) => {
      const life = new Life();
      life.world.now = start;
      life.go(segments).after(timeout);
      expect(life.world.table.size).toBe(2);
      life.after(1);
      expect(life.world.table.size).toBe(0);
    });

  test('a packet in either direction keeps both', () => {
    const life = new Life().go('c:S s:SA c:A');
    for (let i = 0; i < 5; i++) life.after(TIMEOUTS.established - 1).go(i & 1 ? 'c:A' : 's:A');
    expect(life.world.table.size).toBe(2);
    life.after(TIMEOUTS.established + 1);
    expect(life.world.table.size).toBe(0);
  });

  test('DSR: the one direction decides alone', () => {
    const life = new Life({ mode: 'dsr' }).go('c:S c:A').after(TIMEOUTS.established);
    expect(life.world.table.size).toBe(1);
    expect(life.after(1).world.table.size).toBe(0);
  });

  test('DSR, taken up in mid-stream: never longer than a closing one, until its SYN was seen', () => {
    const life = new Life({ mode: 'dsr', scheduler: 'maglev' }).go('c:A c:PA');
    expect(life.openAndClosed()).toEqual([1, 1]);
    for (let i = 0; i < 3; i++) life.after(TIMEOUTS.fin).go('c:A');
    expect(life.world.verdicts[Verdict.adopted]).toBe(1);
    expect(life.after(TIMEOUTS.fin).world.table.size).toBe(1);
    expect(life.after(1).world.table.size).toBe(0);
    expect(life.openAndClosed()).toEqual([1, 0]);
    // Opened again from its end, by a SYN, it is a connection like any other.
    life.go('c:A c:FA c:S c:A').after(TIMEOUTS.established);
    expect(life.world.table.size).toBe(1);
  });

  test('a sweep in slices visits every connection once, no more of them in a slice than it may', () => {
    const world = new World({ capacity: 1024, connections: 300 });
    for (let from = 1; from <= 300; from++) world.send(fromClient({ from, flags: 'S' }));
    const sweep = (count: number, most: number) => {
      const slices: number[] = [];
      let at = 0;
      do {
        const before = world.records.size;
        at = world.sweep.visit(at, count, most, TIMEOUTS.syn + 1);
        slices.push(before - world.records.size);
      } while (at !== 0);
      return slices;
    };
    expect(sweep(300, 70)).toEqual([70, 70, 70, 70, 20]);
    for (let from = 1; from <= 300; from++) world.send(fromClient({ from, flags: 'S' }));
    expect(sweep(100, 300)).toEqual([100, 100, 100]);
    expect(sweep(300, 1)).toEqual([0]);
  });

  test('what has expired is unknown: a reset', () => {
    const life = new Life().go('c:S s:SA c:A').after(TIMEOUTS.established + 1);
    expect(life.world.send(fromClient()).verdict).toBe('resetUnknown');
    expect(life.world.send(fromServer()).verdict).toBe('resetUnknown');
  });
});

describe('ports', () => {
  const available = (life: Life) => life.world.services.pools.at(0)!.available;

  test('come back after expiry, never before', () => {
    const life = new Life();
    const all = available(life);
    life.go('c:S s:SA c:A c:FA s:FA');
    expect(available(life)).toBe(all - 1);
    life.after(TIMEOUTS.timeWait);
    expect(available(life)).toBe(all - 1);
    life.after(1);
    expect(available(life)).toBe(all);
  });

  test('with all in use a SYN is refused, and taken again when one has come back', () => {
    const life = new Life();
    const pool = life.world.services.pools.at(0);
    life.go('c:S s:SA c:A');
    while (pool!.claim() !== 0);
    expect(life.world.send(fromClient({ from: 6000, flags: 'S' })).verdict).toBe('resetNoPort');
    expect(life.world.table.size).toBe(2);
    life.after(TIMEOUTS.established + 1);
    const { verdict, frame } = life.world.send(fromClient({ from: 6000, flags: 'S' }));
    expect([verdict, frame[34] * 256 + frame[35]]).toEqual(['opened', PORT]);
  });

  test('come back when the table refuses', () => {
    // A neighbourhood of 128 in a table of 256: some SYN finds no room for one of its two directions.
    const life = new Life({ capacity: 256, connections: 1000, answers: 1000 });
    const all = available(life);
    let refused = 0;
    for (let from = 1; from <= 400; from++) if (life.world.send(fromClient({ from, flags: 'S' })).verdict === 'resetTableFull') refused++;
    expect(refused).toBeGreaterThan(0);
    expect(life.world.table.size).toBe((400 - refused) * 2);
    expect(available(life)).toBe(all - (400 - refused));
    life.after(TIMEOUTS.syn + 1);
    expect([available(life), life.world.table.size]).toEqual([all, 0]);
  });

  test("frontends on one address share a server's pool; two servers have one each", () => {
    const world = new World({ ports: [80, 81] });
    expect(world.services.pools.size).toBe(2);
    world.setServers([false, true]);
    world.setServers([true, true]);
    expect(world.services.pools.size).toBe(2);
    expect(world.services.pools.at(0)!.claim()).toBe(CLIENT_PORTS.first);
  });
});

test('each (source address, server) pair has its own ports', () => {
  const { counters, hops } = ownMemory({ capacity: 256, connections: 1 });
  const services = new Services(new Ledger(counters), hops);
  const server = (index: number, address: string, port: number) => ({ index, address: parseAddress(address), port, protocol: TCP });
  const frontend = (index: number, address: string, port: number) => ({
    index,
    address: parseAddress(address),
    port,
    protocol: TCP,
    backend: 'b',
    maxconn: 0,
    draining: false,
  });
  const candidates = [0, 1, 2].map((index) => ({ name: String(index), weight: 1, index, maxconn: 0 }));
  services.apply({
    frontends: [frontend(0, '192.0.2.1', 80), frontend(1, '192.0.2.1', 81), frontend(2, '192.0.2.2', 80)],
    backends: [
      {
        name: 'b',
        mode: 'passthrough',
        choice: prepare('roundrobin', candidates),
        servers: [server(0, '172.16.0.1', 8080), server(1, '172.16.0.1', 8081), server(2, '172.16.0.2', 8080)],
      },
    ],
  });
  const pools = (address: string, port: number) => services.frontendAt(parseAddress(address), port, TCP)!.pools;
  expect(new Set(pools('192.0.2.1', 80)).size).toBe(3);
  expect(pools('192.0.2.1', 81)).toEqual(pools('192.0.2.1', 80));
  expect(new Set([...pools('192.0.2.1', 80), ...pools('192.0.2.2', 80)]).size).toBe(6);
});

test('DSR, a full neighbourhood: segments go by the hash, to the server that flows go to', () => {
  const life = new Life({ mode: 'dsr', scheduler: 'maglev', up: [true, true], capacity: 256, connections: 1000 });
  const sent = Array.from({ length: 400 }, (_, i) => life.world.send(fromClient({ from: i + 1, flags: 'S' })));
  const without = sent.flatMap(({ verdict }, i) => (verdict === 'stateless' ? [i] : []));
  expect(without.length).toBeGreaterThan(0);
  expect(new Set(sent.map(({ verdict }) => verdict))).toEqual(new Set(['opened', 'stateless']));
  expect(life.world.table.size).toBe(400 - without.length);
  const address = ({ frame }: { frame: Uint8Array }) => frame.slice(30, 34).join('.');
  const roomy = new Life({ mode: 'dsr', scheduler: 'maglev', up: [true, true], capacity: 1024 });
  for (const i of without) {
    const packet = fromClient({ from: i + 1, flags: 'S' });
    expect(address(sent[i])).toBe(address(roomy.world.send(packet)));
  }
  expect(life.world.loads[0] + life.world.loads[1]).toBe(400 - without.length);
});

test('the table takes no more connections than there is room for: more are reset, and none of those that it has makes way', () => {
  const { world } = new Life({ connections: 10 });
  const open = (i: number) => {
    const { verdict } = world.send(fromClient({ from: 1000 + i, flags: 'S' }));
    world.send(fromServer({ to: PORT + i, flags: 'SA' }));
    world.send(fromClient({ from: 1000 + i }));
    return verdict;
  };
  const verdicts = Array.from({ length: 10 }, (_, i) => open(i));
  expect(verdicts).toEqual(verdicts.map(() => 'opened'));
  for (let i = 0; i < 50; i++) {
    const { verdict, out, frame } = world.send(fromClient({ from: 2000 + i, flags: 'S' }));
    expect([verdict, out, frame[47] & 4]).toEqual(['resetTableFull', 'send', 4]);
  }
  expect([world.records.size, world.connections.evicted, world.verdicts[Verdict.resetTableFull]]).toEqual([10, 0, 50]);
  for (let i = 0; i < 10; i++) expect(world.send(fromClient({ from: 1000 + i, acknowledgment: 2 })).verdict).toBe('forwarded');
  // One that has ended leaves room.
  world.sweepAll(TIMEOUTS.established + 1);
  expect(open(10)).toBe('opened');
});

describe('a segment whose checksum is wrong, which no server would take', () => {
  test('a SYN opens nothing', () => {
    const world = new World();
    expect(world.send(fromClient({ flags: 'S', checksum: 0x1234 })).verdict).toBe('dropMalformed');
    expect(world.table.size).toBe(0);
    expect(world.send(fromClient({ flags: 'S' })).verdict).toBe('opened');
  });

  test('with DSR nothing is taken up in mid-stream', () => {
    const world = new World({ mode: 'dsr', scheduler: 'maglev' });
    expect(world.send(fromClient({ flags: 'A', checksum: 0x1234, payload: pattern(33) })).verdict).toBe('dropMalformed');
    expect(world.table.size).toBe(0);
    expect(world.send(fromClient({ flags: 'A', payload: pattern(33) })).verdict).toBe('adopted');
  });
});
