/** What whoever sees no packet of a connection may send: forged segments and ICMP errors of any number, and what makes lb4 itself send. */
import fc from 'fast-check';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { RateLimit, SharedLimit } from '../../src/forward/rate-limit.ts';
import { Verdict, type VerdictName } from '../../src/forward/verdict.ts';
import { frontendLoad } from '../../src/layout/counters.ts';
import { parseAddress, portsWord } from '../../src/packet/address.ts';
import { UDP } from '../../src/packet/fields.ts';
import { fromClient, fromServer, PORT, toClient, toServer } from '../fixtures/frames.ts';
import { type Packet, pattern } from '../lab/packets.ts';
import { BACK, CLIENT, connectionsIn, SERVERS, VIP, World, type WorldOptions } from '../lab/world.ts';

const ALONE: WorldOptions = { up: [true, false] };
beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

/** Both sides begin at 1000; the client has sent 3,000 bytes, of which the server has 1,000, and the server nothing. */
function established(options: WorldOptions = ALONE): World {
  const world = new World(options);
  world.send(fromClient({ flags: 'S' }));
  if (options.mode !== 'dsr') world.send(fromServer({ flags: 'SA' }));
  world.send(fromClient());
  for (let i = 0; i < 3; i++) world.send(fromClient({ sequence: 1001 + i * 1000, payload: pattern(1000) }));
  if (options.mode !== 'dsr') world.send(fromServer({ acknowledgment: 2001 }));
  world.now += 1000;
  return world;
}

const number = fc.integer({ min: 0, max: 0xffffffff });
/** Beyond what is under way by more than a window, in either direction. */
const aside = number.filter((n) => (n - 1001) >>> 0 > 1 << 20 && (1001 - n) >>> 0 > 1 << 20);

describe('forged segments of any number leave a live connection as it was', () => {
  const life = (world: World) => connectionsIn(world).map((one) => [one.life, one.first, one.second]);

  test.each(['R', 'RA', 'F', 'FA', 'S', 'SA'])('%s, 100 of them from either side', (flags) => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), aside, number), { minLength: 100, maxLength: 100 }), (forged) => {
        const world = established();
        const before = life(world);
        for (const [isClients, sequence, acknowledgment] of forged)
          world.send((isClients ? fromClient : fromServer)({ flags, sequence, acknowledgment }));
        expect(life(world)).toEqual(before);
        // And it goes on, by the fast way.
        expect(world.send(fromClient({ sequence: 4001, payload: pattern(9) })).verdict).toBe('forwarded');
        expect(life(world)).toEqual(before);
      }),
      { numRuns: 5 },
    );
  });
});

describe('an ICMP error that quotes what is not under way goes to nobody (RFC 5927)', () => {
  const TOO_LARGE = { type: 3, code: 4, mtu: 1300, quotedBytes: 28 };
  const aboutClients = (sequence: number): Packet => ({
    source: '198.51.100.7',
    destination: VIP,
    icmp: { ...TOO_LARGE, quote: toServer({ sequence }) },
  });
  const aboutServers = (sequence: number): Packet => ({
    source: '198.51.100.7',
    destination: VIP,
    icmp: { ...TOO_LARGE, quote: toClient({ sequence }) },
  });
  const verdictOf = (world: World, packet: Packet): VerdictName => world.send(packet, { interface: BACK }).verdict;

  test('of either side, in passthrough', () => {
    const world = established();
    fc.assert(
      fc.property(fc.boolean(), aside, (isClients, sequence) => {
        expect(verdictOf(world, (isClients ? aboutClients : aboutServers)(sequence))).toBe('dropIcmpForged');
      }),
    );
    for (const sequence of [2001, 3001, 4000]) expect(verdictOf(world, aboutClients(sequence))).toBe('icmpTranslated');
    // Its SYN+ACK, and where it sends next.
    for (const sequence of [1000, 1001]) expect(verdictOf(world, aboutServers(sequence))).toBe('icmpTranslated');
  });

  test('of a SYN that nobody has answered', () => {
    const world = new World(ALONE);
    world.send(fromClient({ flags: 'S' }));
    expect(verdictOf(world, aboutClients(1000))).toBe('icmpTranslated');
    expect(verdictOf(world, aboutClients(0x70000000))).toBe('dropIcmpForged');
  });

  test('what a side has sent twice, and lost, says no more than what the other side acknowledges', () => {
    const world = established();
    for (let i = 0; i < 400; i++) world.send(fromClient({ sequence: 2001, payload: pattern(1000) }));
    expect(verdictOf(world, aboutClients(2001))).toBe('icmpTranslated');
    expect(verdictOf(world, aboutClients(2001 - (1 << 20)))).toBe('dropIcmpForged');
  });

  test('with direct server return, by what the client acknowledges', () => {
    const world = established({ ...ALONE, mode: 'dsr', scheduler: 'maglev' });
    const about = (sequence: number): Packet => ({
      source: '198.51.100.7',
      destination: VIP,
      icmp: { ...TOO_LARGE, quote: { source: VIP, destination: CLIENT, tcp: { from: 80, to: 5000, sequence } } },
    });
    expect(world.send(about(1001)).verdict).toBe('icmpTranslated');
    expect(world.send(about(0x70000000)).verdict).toBe('dropIcmpForged');
  });

  test('ten a second about each flow are handed on, whoever sends them', () => {
    const world = established();
    const verdicts = Array.from({ length: 40 }, (_, i) => verdictOf(world, { ...aboutClients(2001), source: `198.51.100.${i}` }));
    expect(verdicts.filter((verdict) => verdict === 'icmpTranslated')).toHaveLength(10);
    expect(new Set(verdicts.slice(10))).toEqual(new Set(['dropRateLimited']));
    expect(verdictOf(world, aboutServers(1001))).toBe('icmpTranslated');
    world.now += 1000;
    expect(verdictOf(world, aboutClients(2001))).toBe('icmpTranslated');
  });

  test('and nobody can choose a flow that shares those of another: no key that has no secret would do', () => {
    const openKey = (host: string, from: number) => Math.imul(parseAddress(host), 0x9e3779b1) ^ portsWord(from, 80);
    const [host, from] = ['10.1.102.21', 4921] as const;
    expect(openKey(host, from)).toBe(openKey(CLIENT, 5000));
    const world = established();
    const theirs = (packet: Packet): Packet => ({ ...packet, source: host });
    world.send(theirs(fromClient({ from, flags: 'S' })));
    const about = { source: VIP, destination: host, tcp: { from: 80, to: from, sequence: 1000 } };
    world.send(fromServer({ to: PORT + 1, flags: 'SA' }));
    const error = { source: host, destination: VIP, icmp: { ...TOO_LARGE, quote: about } };
    expect(Array.from({ length: 11 }, () => verdictOf(world, error)).slice(9)).toEqual(['icmpTranslated', 'dropRateLimited']);
    expect(verdictOf(world, aboutServers(1001))).toBe('icmpTranslated');
  });
});

describe('what lb4 sends itself', () => {
  const stray = (host: number): Packet => ({ ...fromClient(), source: `198.51.100.${host}` });

  test('is limited by source: one that floods leaves the others their answers', () => {
    const world = new World({ ...ALONE, answers: 20, answersEach: 5 });
    const flood = Array.from({ length: 1000 }, () => world.send(stray(1)).verdict);
    expect(flood.filter((verdict) => verdict === 'resetUnknown')).toHaveLength(5);
    for (let host = 2; host < 5; host++) expect(world.send(stray(host)).verdict).toBe('resetUnknown');
  });

  test('and in all, however many sources there are', () => {
    const world = new World({ ...ALONE, answers: 20, answersEach: 5 });
    const verdicts = Array.from({ length: 200 }, (_, host) => world.send(stray(host + 1)).verdict);
    expect(verdicts.filter((verdict) => verdict === 'resetUnknown')).toHaveLength(20);
    expect(world.send({ ...stray(1), source: SERVERS[1] }).verdict).toBe('dropRateLimited');
  });
});

describe('a flood of SYNs', () => {
  const SECOND = 1000;
  const syn = (host: number, sequence = 1000): Packet => ({
    ...fromClient({ flags: 'S', sequence }),
    source: `198.18.${host >> 8}.${host & 255}`,
  });

  /** A world whose worker has 64 half-open connections, and has looked. */
  function flooded(options: WorldOptions = {}): World {
    const world = new World({ ...ALONE, capacity: 4096, connections: 1024, floodFrom: 64, ...options });
    for (let host = 0; host < 64; host++) expect(world.send(syn(host)).verdict).toBe('opened');
    look(world);
    expect(world.core.guard.isOn).toBe(true);
    return world;
  }
  function look(world: World, ms = SECOND): void {
    world.now += ms;
    world.core.guard.tick(world.halfOpen.size, world.connections.completed, world.now);
  }

  test('takes in a SYN that comes again after a second, and none that comes once', () => {
    const world = flooded();
    for (let host = 1000; host < 1200; host++) expect(world.send(syn(host)).verdict).toBe('dropFirstSyn');
    expect(world.halfOpen.size).toBe(64);
    // At once it proves nothing, nor with another number.
    expect(world.send(syn(1000)).verdict).toBe('dropFirstSyn');
    look(world);
    expect(world.send(syn(1000, 2000)).verdict).toBe('dropFirstSyn');
    expect(world.send(syn(1001)).verdict).toBe('opened');
    look(world, 2 * SECOND);
    // After three seconds, which its second SYN was lost in.
    expect(world.send(syn(1002)).verdict).toBe('opened');
    look(world, 10 * SECOND);
    expect(world.send(syn(1003)).verdict).toBe('dropFirstSyn');
  });

  test('touches no connection that is there: established, half-open, or opened again from TIME_WAIT', () => {
    const world = new World({ ...ALONE, capacity: 4096, connections: 1024, floodFrom: 64 });
    for (const packet of [fromClient({ flags: 'S' }), fromServer({ flags: 'SA' }), fromClient()]) world.send(packet);
    for (let host = 0; host < 64; host++) world.send(syn(host));
    look(world);
    expect(world.core.guard.isOn).toBe(true);
    expect(world.send(fromClient({ payload: pattern(9) })).verdict).toBe('forwarded');
    expect(world.send(syn(5)).verdict).toBe('forwarded');
    world.send(fromClient({ flags: 'R', sequence: 1010 }));
    expect(world.send(fromClient({ flags: 'S', sequence: 5000 })).verdict).toBe('forwarded');
  });

  test('is none where most that ask are connected, however many are half-open', () => {
    const world = new World({ ...ALONE, capacity: 4096, connections: 1024, floodFrom: 64 });
    for (let host = 0; host < 64; host++) world.send(syn(host));
    world.core.guard.tick(world.halfOpen.size, 40, world.now + SECOND);
    expect(world.core.guard.isOn).toBe(false);
  });

  test('is over when what comes comes again, and few are half-open', () => {
    const world = flooded();
    for (let i = 0; i < 6; i++) look(world, SECOND);
    // They are half-open all the time.
    expect(world.core.guard.isOn).toBe(true);
    world.sweepAll(world.now);
    expect(world.halfOpen.size).toBe(0);
    for (let i = 0; i < 4; i++) look(world, SECOND);
    for (let host = 2000; host < 2040; host++) world.send(syn(host));
    look(world);
    expect(world.core.guard.isOn).toBe(true);
    for (let i = 0; i < 6; i++) look(world, SECOND);
    expect(world.core.guard.isOn).toBe(false);
    expect(world.send(syn(3000)).verdict).toBe('opened');
  });

  test('of 150,000 in half a second hardly any is taken for one that came before', () => {
    const world = flooded();
    const flood = (from: number) => {
      let taken = 0;
      for (let i = from; i < from + 150_000; i++) if (world.core.guard.takes(0, i, 2, 3, i)) taken++;
      return taken;
    };
    let taken = 0;
    for (let half = 0; half < 8; half++) {
      taken += flood(1e6 * half);
      look(world, SECOND / 2);
    }
    expect(taken / (8 * 150_000)).toBeLessThan(0.02);
  });

  test('is one from half of what a small table may hold of them on, whatever the file says', () => {
    const world = new World({ ...ALONE, capacity: 1024, connections: 256, floodFrom: 4096 });
    for (let host = 0; host < 128; host++) expect(world.send(syn(host)).verdict).toBe('opened');
    look(world);
    expect(world.send(syn(500)).verdict).toBe('dropFirstSyn');
  });

  test('never is where the limit is 0', () => {
    const world = new World({ ...ALONE, capacity: 4096, connections: 1024, floodFrom: 0 });
    for (let host = 0; host < 400; host++) world.send(syn(host));
    look(world);
    expect(world.send(syn(500)).verdict).toBe('opened');
  });
});

describe('SYNs that fill a limit far below what makes a flood for all', () => {
  const LIMIT = 20;
  const ROOM: WorldOptions = { ...ALONE, capacity: 4096, connections: 1024, floodFrom: 512, ports: [80, 81] };
  const syn = (host: number, to = 80, sequence = 1000): Packet => ({
    ...fromClient({ flags: 'S', sequence, to }),
    source: `198.18.${host >> 8}.${host & 255}`,
  });
  let hosts = 0;

  function pass(world: World, ms: number): void {
    world.now += ms;
    world.core.guard.tick(world.halfOpen.size, world.connections.completed, world.now);
  }
  /** So many SYNs of new hosts each half second, for `seconds`; returns how many were opened. */
  function flood(world: World, seconds: number, each = 100): number {
    let opened = 0;
    for (let half = 0; half < 2 * seconds; half++) {
      for (let i = 0; i < each; i++) if (world.send(syn(hosts++)).verdict === 'opened') opened++;
      pass(world, 500);
    }
    return opened;
  }
  test.each<[string, WorldOptions]>([
    ['a frontend', { frontendMaxconn: LIMIT }],
    ['its servers', { maxconn: LIMIT }],
    ['both, with direct server return', { frontendMaxconn: LIMIT, maxconn: LIMIT, mode: 'dsr', scheduler: 'maglev' }],
  ])('of %s: they must come twice, a client’s second one is let in, and another frontend’s are not asked for that', (_, limits) => {
    const world = new World({ ...ROOM, ...limits });
    expect(flood(world, 2)).toBeGreaterThan(LIMIT);
    expect(world.core.guard.isOn).toBe(true);
    const before = world.records.size;
    expect(flood(world, 3)).toBe(0);
    expect(world.records.size).toBe(before);
    expect(world.send(syn(60_000)).verdict).toBe('dropFirstSyn');
    expect(flood(world, 1)).toBe(0);
    // The oldest handshake makes way for it.
    expect(world.send(syn(60_000)).verdict).toBe('opened');
    expect(world.loads[frontendLoad(0)]).toBe(LIMIT);
    if (limits.maxconn === undefined) expect(world.send(syn(60_001, 81)).verdict).toBe('opened');
  });

  test('is over when they have stopped for five seconds', () => {
    const world = new World({ ...ROOM, frontendMaxconn: LIMIT });
    flood(world, 3);
    for (let second = 0; second < 4; second++) pass(world, 1000);
    expect(world.core.guard.isOn).toBe(true);
    for (let second = 0; second < 5; second++) pass(world, 1000);
    expect(world.core.guard.isOn).toBe(false);
    expect(world.send(syn(60_000)).verdict).toBe('opened');
    // And begins again.
    flood(world, 3);
    expect(world.core.guard.isOn).toBe(true);
  });

  test('is none where connections fill it, however many are refused', () => {
    const world = new World({ ...ROOM, frontendMaxconn: LIMIT, answers: 100_000 });
    for (let i = 0; i < LIMIT; i++) {
      expect(world.send(fromClient({ from: 5000 + i, flags: 'S' })).verdict).toBe('opened');
      world.send(fromServer({ flags: 'SA', to: PORT + i }));
      world.send(fromClient({ from: 5000 + i }));
    }
    expect(world.connections.completed).toBe(LIMIT);
    expect(flood(world, 6)).toBe(0);
    expect(world.core.guard.isOn).toBe(false);
    expect(world.send(syn(60_000)).verdict).toBe('resetFull');
  });

  test('never is where the file says never', () => {
    const world = new World({ ...ROOM, frontendMaxconn: LIMIT, floodFrom: 0 });
    expect(flood(world, 6)).toBeGreaterThan(3 * LIMIT);
    expect(world.core.guard.isOn).toBe(false);
  });

  test('a full server’s room is made by the handshakes of any frontend, a full frontend’s by its own, whoever waits longer in their list', () => {
    const servers = new World({ ...ROOM, maxconn: LIMIT });
    for (let i = 0; i < LIMIT; i++) servers.send(syn(hosts++, 80));
    pass(servers, 1000);
    expect(servers.send(syn(hosts++, 81)).verdict).toBe('opened');
    const frontends = new World({ ...ROOM, frontendMaxconn: LIMIT });
    for (let i = 0; i < 3; i++) frontends.send(syn(hosts++, 81));
    for (let i = 0; i < LIMIT; i++) frontends.send(syn(hosts++, 80));
    pass(frontends, 1000);
    expect(frontends.send(syn(hosts++, 80)).verdict).toBe('opened');
    expect(frontends.loads[frontendLoad(1)]).toBe(3);
  });

  test('handshakes that were reset are no load, and in nobody’s way', () => {
    const world = new World({ ...ROOM, frontendMaxconn: LIMIT });
    for (let i = 0; i < 10; i++) {
      const { tcp, ...rest } = syn(i);
      world.send(syn(i));
      world.send({ ...rest, tcp: { ...tcp!, flags: 'R', sequence: 1001 } });
    }
    expect(world.loads[frontendLoad(0)]).toBe(0);
    for (let i = 0; i < LIMIT; i++) world.send(syn(1000 + i));
    pass(world, 1000);
    const verdicts = Array.from({ length: 3 }, (_, i) => world.send(syn(2000 + i)).verdict);
    expect(verdicts).toEqual(['resetFull', 'resetFull', 'opened']);
  });
});

describe('what comes from an address that no host has, or from the very one that it is for, is no connection’s (RFC 9293 section 3.9.2.3)', () => {
  const ADDRESSES = [VIP, '0.0.0.0', '0.1.2.3', '127.0.0.1', '224.0.0.1', '255.255.255.255'];

  test.each<[string, string, WorldOptions]>([
    ['a SYN', 'S', {}],
    ['a SYN, with direct server return', 'S', { mode: 'dsr', scheduler: 'maglev' }],
    ['a segment in mid-stream, with direct server return', 'A', { mode: 'dsr', scheduler: 'maglev' }],
  ])('%s', (_, flags, options) => {
    const world = new World(options);
    for (const source of ADDRESSES)
      for (const from of [80, 5000])
        expect(world.send({ ...fromClient({ flags, from }), source }), source).toMatchObject({ verdict: 'dropStray', out: 'drop' });
    expect([world.records.size, world.table.size]).toEqual([0, 0]);
  });

  test('but of this host itself, over its own link', () => {
    const { ethernet: _, ...local } = fromClient({ flags: 'S' });
    expect(new World().send({ ...local, source: VIP }).verdict).toBe('opened');
  });
});

test.each([64, 1024])(
  'segments of a thousand connections that another balancer had: each takes one place at most, and has one make way at most, of %i',
  (connections) => {
    const world = new World({ mode: 'dsr', scheduler: 'maglev', capacity: 4096, connections });
    const work = [vi.spyOn(world.table, 'reserve'), vi.spyOn(world.connections, 'end'), vi.spyOn(world.table, 'remove')];
    for (let from = 5000; from < 6000; from++) {
      for (const one of work) one.mockClear();
      expect(['adopted', 'stateless']).toContain(world.send(fromClient({ from, payload: pattern(9) })).verdict);
      for (const one of work) expect(one.mock.calls.length).toBeLessThanOrEqual(1);
    }
    // The rest goes by the hash alone.
    expect(world.records.size).toBeLessThanOrEqual(connections / 2 + 1);
  },
);

describe('a flood of what belongs to nothing leaves nothing behind, and is answered within limits', () => {
  const LIMITS: WorldOptions = { ...ALONE, answers: 20, answersEach: 5 };
  const DSR: WorldOptions = { ...LIMITS, mode: 'dsr', scheduler: 'maglev' };
  const payload = pattern(64);
  const bare: Packet = { source: CLIENT, destination: VIP };
  const udp = (to: number, more = {}): Packet => ({ ...bare, udp: { from: 5000, to, payload, ...more } });
  const fragment = (more: Partial<Packet>): Packet => ({ ...fromClient({ payload }), dontFragment: false, ...more });
  const error: Packet = { ...bare, icmp: { type: 3, code: 3, quote: toServer({ from: PORT + 7 }), quotedBytes: 28 } };

  test.each<[string, Packet, WorldOptions]>([
    ...['A', 'PA', 'FA', 'SA', 'R', 'RA', ''].map((flags): [string, Packet, WorldOptions] => [
      `TCP ${flags || 'without flags'}`,
      fromClient({ flags, payload: flags === 'PA' ? payload : new Uint8Array() }),
      LIMITS,
    ]),
    ['SYNs with a wrong checksum', fromClient({ flags: 'S', checksum: 1 }), LIMITS],
    ['resets, with direct server return', fromClient({ flags: 'R' }), DSR],
    ['segments with a wrong checksum, with direct server return', fromClient({ checksum: 1 }), DSR],
    ['what says to be a server’s', fromServer({ to: PORT + 9 }), LIMITS],
    ['first fragments of TCP', fragment({ moreFragments: true }), LIMITS],
    ['later fragments', fragment({ fragmentOffset: 64 }), LIMITS],
    ['datagrams to no frontend', udp(53), LIMITS],
    ['datagrams with a wrong checksum', udp(80, { checksum: 1 }), { ...LIMITS, protocol: UDP }],
    ['datagrams while no server is up', udp(80), { ...LIMITS, protocol: UDP, up: [false, false] }],
    ['ICMP errors', error, LIMITS],
    ['pings of nobody', { ...bare, echo: { id: 7, payload } }, LIMITS],
  ])('%s', (_, packet, options) => {
    const world = new World(options);
    const answers = new Map<string, number>();
    for (let i = 0; i < 400; i++) {
      const source = packet.source === CLIENT ? `198.51.100.${i % 8}` : packet.source;
      const before = Float64Array.from(world.verdicts);
      const { out, verdict } = world.send({ ...packet, source }, { interface: packet.source === CLIENT ? 1 : BACK });
      expect(world.verdicts.reduce((sum, n, at) => sum + n - before[at], 0)).toBe(1);
      if (out !== 'drop' && verdict !== 'stateless') answers.set(source, (answers.get(source) ?? 0) + 1);
    }
    expect(Math.max(0, ...answers.values())).toBeLessThanOrEqual(5);
    expect([...answers.values()].reduce((sum, n) => sum + n, 0)).toBeLessThanOrEqual(20);
    expect([world.records.size, world.table.size, world.halfOpen.size, world.datagrams.size]).toEqual([0, 0, 0, 0]);
    expect([...world.loads].every((load) => load === 0)).toBe(true);
  });

  test('pings that lb4 answers itself have limits of their own, by source and in all', () => {
    const world = new World({ ...LIMITS, echo: true });
    const ping = (source: string) => world.send({ ...bare, source, echo: { id: 7, payload } }).verdict;
    const verdicts = Array.from({ length: 1200 }, () => ping('198.51.100.1'));
    expect(verdicts.filter((verdict) => verdict === 'echoAnswered')).toHaveLength(1000);
    expect(verdicts.at(-1)).toBe('dropRateLimited');
    expect(ping('198.51.100.2')).toBe('echoAnswered');
    for (let i = 0; i < 12_000; i++) ping(`198.18.${i & 127}.${i >> 7}`);
    expect(world.verdicts[Verdict.echoAnswered]).toBe(10_000);
    // And use up none of the resets.
    expect(world.send({ ...fromClient(), source: '198.51.100.9' }).verdict).toBe('resetUnknown');
  });
});

describe('a limit for each of many', () => {
  test('gives each its own, and fills again as a single one does', () => {
    const each = new SharedLimit(3, [0x01234567, 0x89abcdef]);
    const one = new RateLimit(3);
    for (const now of [0, 0, 0, 0, 100, 333, 334, 700, 5000, 5000, 5000, 5000, 2 ** 31, -5, 0])
      expect(each.take(7, now)).toBe(one.take(now));
  });

  test('spreads keys over its buckets: of 1,000 neighbours few share one', () => {
    const each = new SharedLimit(1, [0x01234567, 0x89abcdef]);
    const taken = Array.from({ length: 1000 }, (_, i) => each.take((i << 16) | 0x0a, 0)).filter(Boolean).length;
    expect(taken).toBeGreaterThan(800);
  });
});
