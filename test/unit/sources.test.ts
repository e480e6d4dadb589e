/** A backend's source addresses: each has ports of its own towards every server, and old connections stay with theirs. */
import { describe, expect, test, vi } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { PORTS, serverRow } from '../../src/layout/counters.ts';
import { PORTS as FLOW_PORTS, NEW_PORTS, NEW_SOURCE, NEXT_HOP } from '../../src/layout/flow.ts';
import { formatAddress, parseAddress } from '../../src/packet/address.ts';
import { TCP } from '../../src/packet/fields.ts';
import { ALL_PORTS } from '../../src/packet/steering.ts';
import { Members } from '../../src/service/members.ts';
import { membersAfter, textOf } from '../../src/service/members-file.ts';
import { settingsOf } from '../../src/service/packet-path.ts';
import { makePlan, UNCHECKED } from '../../src/service/plan.ts';
import { Sources } from '../../src/service/sources.ts';
import { fromClient } from '../fixtures/frames.ts';
import { connectionsIn, SERVERS, TIMEOUTS, VIP, World, type WorldOptions } from '../lab/world.ts';

const [A, B, C] = ['172.16.0.101', '172.16.0.102', '172.16.0.103'] as const;
const ALONE: WorldOptions = { up: [true, false], sources: [A, B] };

const from = (i: number) => 1024 + i;
const open = (world: World, i: number) =>
  world.send(fromClient({ from: from(i % 60_000), flags: 'S', sequence: 1000 }, { source: clientOf(i) }));
const clientOf = (i: number) => `10.0.1.${1 + Math.floor(i / 60_000)}`;
/** What server 1 sees of them, and what it sends back. */
const seen = ({ frame }: { frame: Uint8Array }) => ({ source: frame.subarray(26, 30).join('.'), port: (frame[34] << 8) | frame[35] });
function reply(world: World, to: { source: string; port: number }, flags: string, sequence: number, acknowledgment: number) {
  const tcp = { from: 8080, to: to.port, flags, sequence, acknowledgment };
  return world.send({ ...fromClient(), source: SERVERS[0], destination: to.source, tcp });
}

/** Opens connection `i` and completes its handshake: what its server sees, and what became of both answers. */
function shakeHands(world: World, i: number) {
  const there = seen(open(world, i));
  const { verdict } = reply(world, there, 'SA', 5000, 1001);
  const ack = { from: from(i), flags: 'A', sequence: 1001, acknowledgment: 5001 };
  return { there, verdicts: [verdict, world.send(fromClient(ack, { source: clientOf(i) })).verdict] };
}

/** The same, which is sure to pass. Returns what its server sees. */
function establish(world: World, i: number) {
  const { there, verdicts } = shakeHands(world, i);
  expect(verdicts).toEqual(['forwarded', 'forwarded']);
  return there;
}

const sourcesIn = (world: World) => world.services.pools.sources().map(formatAddress).toSorted();

describe('where connections leave from', () => {
  test('both in turn, never the address that the client called; answers find their way back', () => {
    const world = new World(ALONE);
    const all = Array.from({ length: 6 }, (_, i) => establish(world, i));
    expect(all.map(({ source }) => source).toSorted()).toEqual([A, A, A, B, B, B]);
    for (const there of all) {
      const { verdict, frame } = reply(world, there, 'PA', 5001, 1001);
      expect([verdict, frame.subarray(26, 30).join('.'), frame.subarray(30, 34).join('.')]).toEqual(['forwarded', VIP, '10.0.1.1']);
    }
  });

  test('past the ports of one address the other one is used; with both at their end the oldest half-open one makes way, none established', () => {
    const world = new World({ ...ALONE, capacity: 262_144, connections: 65_536 });
    // One expectation for all: that many would take longer than the packets.
    const verdicts = new Set<string>();
    for (let i = 0; i < 2 * ALL_PORTS.count; i++) for (const verdict of shakeHands(world, i % 60_000).verdicts) verdicts.add(verdict);
    expect([...verdicts]).toEqual(['forwarded']);
    expect(world.statistics[serverRow(0) + PORTS]).toBe(2 * ALL_PORTS.count);
    expect([0, 1].map((pool) => world.services.pools.at(pool)?.available)).toEqual([0, 0]);
    // Refused with a reset, counted, and nobody is put out for it.
    const refused = world.send(fromClient({ from: 80, flags: 'S', sequence: 1 }, { source: '10.0.9.9' }));
    expect([refused.verdict, refused.out, refused.frame[47] & 4]).toEqual(['resetNoPort', 'send', 4]);
    expect([world.records.size, world.connections.evicted]).toEqual([2 * ALL_PORTS.count, 0]);
  });

  test('what is half-open makes way at either address', () => {
    const world = new World({ ...ALONE, capacity: 262_144, connections: 65_536 });
    const { pools } = world.services;
    open(world, 0);
    open(world, 1);
    for (const pool of [0, 1]) while (pools.at(pool)!.claim() !== 0);
    const verdicts = Array.from({ length: 3 }, (_, i) => open(world, 2 + i).verdict);
    expect([verdicts, world.connections.evicted, world.records.size]).toEqual([['opened', 'opened', 'opened'], 3, 2]);
  });

  test('a SYN that finds no port asks 16 lists for one that is half-open, and others with each SYN', () => {
    const sources = Array.from({ length: 32 }, (_, i) => `172.16.0.${101 + i}`);
    const world = new World({ sources });
    for (let pool = 0; pool < world.services.pools.size; pool++) while (world.services.pools.at(pool)!.claim() !== 0);
    const evict = vi.spyOn(world.connections, 'evict');
    const asked = Array.from({ length: 24 }, (_, i) => {
      evict.mockClear();
      expect(open(world, i).verdict).toBe('resetNoPort');
      return evict.mock.calls.map(([list]) => list);
    });
    expect(new Set(asked.map((lists) => lists.length))).toEqual(new Set([16]));
    expect(new Set(asked.flat()).size).toBe(world.services.pools.size);
  });

  test('a SYN to a full frontend asks 16 lists for one that waits too long, and others with each SYN', () => {
    const sources = Array.from({ length: 32 }, (_, i) => `172.16.0.${101 + i}`);
    const world = new World({ sources, frontendMaxconn: 1 });
    open(world, 0);
    const ask = vi.spyOn(world.connections, 'evictStale');
    const asked = Array.from({ length: 24 }, (_, i) => {
      ask.mockClear();
      expect(open(world, 1 + i).verdict).toBe('resetFull');
      return ask.mock.calls.map(([list]) => list);
    });
    expect(new Set(asked.map((lists) => lists.length))).toEqual(new Set([16]));
    expect(new Set(asked.flat()).size).toBe(world.services.pools.size);
  });

  test('two frontends of a backend share the ports', () => {
    const world = new World({ ...ALONE, ports: [80, 81] });
    const [one, other] = [80, 81].map((port) => world.services.frontendAt(parseAddress(VIP), port, TCP)?.pools);
    expect(other).toBe(one);
    const all = [80, 81, 80, 81].map((to, i) => seen(world.send(fromClient({ from: 3000 + i, to, flags: 'S', sequence: 1 }))));
    expect(world.services.pools.size).toBe(2);
    expect(new Set(all.map(({ source, port }) => `${source}:${port}`)).size).toBe(4);
  });
});

describe('a change of them', () => {
  test('an address that is added takes new connections; one that is taken out takes none, and keeps those it has until they end', () => {
    const world = new World(ALONE);
    const old = Array.from({ length: 4 }, (_, i) => establish(world, i));
    world.apply({ up: [true, false], sources: [B, C], formerSources: [A] });
    const fresh = Array.from({ length: 4 }, (_, i) => seen(open(world, 10 + i)).source);
    expect(new Set(fresh)).toEqual(new Set([B, C]));
    for (const there of old) expect(reply(world, there, 'PA', 5001, 1001).verdict).toBe('forwarded');
    expect(sourcesIn(world)).toEqual([A, B, C, VIP].filter((one) => one !== VIP));
    const { version } = world.services.pools;
    world.sweepAll(TIMEOUTS.established + 1);
    // Its last connection has ended: nobody needs it any more.
    expect([sourcesIn(world), world.services.pools.version > version]).toEqual([[B, C], true]);
  });

  test('one that comes back before they have ended goes on with the ports it has', () => {
    const world = new World(ALONE);
    const old = Array.from({ length: 4 }, (_, i) => establish(world, i));
    world.apply({ up: [true, false], sources: [B], formerSources: [A] });
    world.apply({ up: [true, false], sources: [A], formerSources: [B] });
    const fresh = seen(open(world, 10));
    expect(fresh.source).toBe(A);
    expect(old.some(({ source, port }) => source === A && port === fresh.port)).toBe(false);
  });

  test('from the address that clients call to others: the old ones pass as before', () => {
    const world = new World({ up: [true, false] });
    const old = establish(world, 0);
    expect(old.source).toBe(VIP);
    world.apply({ up: [true, false], sources: [A] });
    expect([seen(open(world, 1)).source, reply(world, old, 'PA', 5001, 1001).verdict]).toEqual([A, 'forwarded']);
  });

  test('answers to an address that nobody leaves from any more are none of ours', () => {
    const world = new World(ALONE);
    const there = { source: C, port: 40_000 };
    expect(reply(world, there, 'PA', 1, 1).verdict).toBe('dropNotOurs');
    expect(reply(world, { ...there, source: A }, 'PA', 1, 1).verdict).toBe('resetUnknown');
  });
});

describe('after a kill', () => {
  const used = () => {
    const world = new World(ALONE);
    return { world, all: Array.from({ length: 6 }, (_, i) => establish(world, i)) };
  };

  test('each goes on by the address, port and way it had, and no port is given out twice', () => {
    const { world, all } = used();
    const before = connectionsIn(world).map(({ first }) =>
      [NEW_SOURCE, NEW_PORTS, NEXT_HOP].map((word) => world.table.words[first + word]),
    );
    const next = world.next();
    expect(next.recovered).toBe(6);
    expect(connectionsIn(next).map(({ first }) => [NEW_SOURCE, NEW_PORTS, NEXT_HOP].map((word) => next.table.words[first + word]))).toEqual(
      before,
    );
    for (const there of all) expect(reply(next, there, 'PA', 5001, 1001).verdict).toBe('forwarded');
    expect([A, B].map((source) => poolOf(next, source)?.available)).toEqual([ALL_PORTS.count - 3, ALL_PORTS.count - 3]);
    const fresh = Array.from({ length: 32 }, (_, i) => seen(open(next, 100 + i)));
    const taken = new Set(all.map(({ source, port }) => `${source}:${port}`));
    for (const { source, port } of fresh) expect(taken.has(`${source}:${port}`)).toBe(false);
  });

  test('an address that the file has no more keeps its own until they end', () => {
    const { world, all } = used();
    const next = world.next({ sources: [B], formerSources: [A] });
    expect([next.recovered, sourcesIn(next)]).toEqual([6, [A, B]]);
    for (const there of all) expect(reply(next, there, 'PA', 5001, 1001).verdict).toBe('forwarded');
    expect(seen(open(next, 100)).source).toBe(B);
    next.sweepAll(TIMEOUTS.established + 1);
    expect(sourcesIn(next)).toEqual([B]);
  });

  test('one that nothing is known of: its connections end, since no answer would be taken', () => {
    const { world } = used();
    const next = world.next({ sources: [B] });
    expect([next.recovered, sourcesIn(next)]).toEqual([3, [B]]);
  });
});

/** The pool of a source towards server 1. */
function poolOf(world: World, source: string) {
  const connection = connectionsIn(world).find(({ first }) => world.table.words[first + NEW_SOURCE] === parseAddress(source));
  expect(connection && world.table.words[(connection.second ?? 0) + FLOW_PORTS]).toBeDefined();
  return world.services.pools.at(connection?.pool ?? -1);
}

describe('what a service knows of them', () => {
  const configOf = (addresses: string) =>
    parseConfig(
      `frontends.web = { listen_addr = "192.0.2.1:80", backend = "app" }\nbackends.app = { source_addrs = ${addresses}, servers.a = { addr = "10.0.0.1:80" } }`,
      'test.toml',
    ).config;
  const nothing = () => ({ total: 0, current: 0, bytesTx: 0, bytesRx: 0, load: 0 });

  test('those of before stay until no connection leaves from them', () => {
    const members = new Members(configOf(`["${A}", "${B}"]`));
    const planned = () => {
      const config = configOf(`["${B}"]`);
      return settingsOf(makePlan(config, 'passthrough', members, UNCHECKED, undefined), 'passthrough').services;
    };
    members.enrol(configOf(`["${B}"]`));
    expect([planned().formerSources, planned().backends[0].sources]).toEqual([[parseAddress(A)], [parseAddress(B)]]);
    expect([members.isSettling, members.expire({ frontend: nothing, server: nothing, usesSource: () => true })]).toEqual([true, false]);
    expect(members.expire({ frontend: nothing, server: nothing, usesSource: (ip) => ip !== A })).toBe(true);
    expect([members.isSettling, planned().formerSources]).toEqual([false, []]);
  });

  test('the next lb4 knows them, too', () => {
    const before = new Members(configOf(`["${A}", "${B}"]`));
    const log = { warn: (...line: unknown[]) => expect(line).toEqual([]) } as unknown as Parameters<typeof membersAfter>[2];
    const after = membersAfter(configOf(`["${C}"]`), 'passthrough', log, () => textOf(before.state()));
    expect(after.sources.former).toEqual([A, B]);
  });

  test('a reload that fails takes back what it named', () => {
    const sources = new Sources();
    sources.set([A]);
    const takeBack = sources.set([B]);
    takeBack();
    expect([sources.all, sources.former]).toEqual([[A], []]);
  });
});
