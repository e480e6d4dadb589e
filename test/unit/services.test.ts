/** Reloading: what stays, what goes, and that nothing piles up. */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { prepare } from '../../src/balance/index.ts';
import { Counts } from '../../src/engine/counts.ts';
import { PortUse } from '../../src/engine/ports.ts';
import { ESTABLISHED, STATE_MASK } from '../../src/flow/life.ts';
import { assertServiceSet } from '../../src/forward/assert-set.ts';
import { Ledger } from '../../src/forward/ledger.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import { Services } from '../../src/forward/services.ts';
import { PORTS, serverRow } from '../../src/layout/counters.ts';
import { ownMemory } from '../../src/layout/memory.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { TCP } from '../../src/packet/fields.ts';
import { fromClient, fromServer, PORT } from '../fixtures/frames.ts';
import { connectionsIn, World } from '../lab/world.ts';

const create = () => {
  const { counters, hops } = ownMemory({ capacity: 256, connections: 1 });
  return new Services(new Ledger(counters), hops);
};
const VIP = parseAddress('192.0.2.1');

/** One backend with these servers (10.0.0.N:80), behind frontends on these ports. */
function set(numbers: readonly number[], frontends: readonly (readonly [port: number, draining: boolean])[] = [[80, false]]): ServiceSet {
  const servers = numbers.map((n, index) => ({ index, address: parseAddress(`10.0.${n >> 8}.${n & 255}`), port: 80, protocol: TCP }));
  const candidates = servers.map(({ index }) => ({ name: `${numbers[index]}`, weight: 1, index, maxconn: 0 }));
  return {
    frontends: frontends.map(([port, draining], index) => ({
      index,
      address: VIP,
      port,
      protocol: TCP,
      backend: 'b',
      maxconn: 0,
      draining,
    })),
    backends: [{ name: 'b', mode: 'passthrough', servers, choice: prepare('roundrobin', candidates) }],
  };
}

describe('a set that cannot be applied', () => {
  const one = set([1, 2]);
  const [backend] = one.backends;
  const [server] = backend.servers;
  const [frontend] = one.frontends;
  const withServers = (...servers: ServiceSet['backends'][number]['servers'][number][]) => {
    return { ...one, backends: [{ ...backend, servers, choice: prepare('roundrobin', []) }] };
  };

  test.each<[string, ServiceSet]>([
    [
      'server 8192: there is room for 8192 servers, those that still drain included: wait for the drain, or lower drain_timeout',
      withServers({ ...server, index: 8192 }),
    ],
    ['server -1: there', withServers({ ...server, index: -1 })],
    ['server 0.5: there', withServers({ ...server, index: 0.5 })],
    ['server 0 is there twice', withServers(server, server)],
    ['frontend 2048: there is room for 2048 frontends, those', { ...one, frontends: [{ ...frontend, index: 2048 }] }],
    ['frontend 0 is there twice', { ...one, frontends: [frontend, frontend] }],
    ['backend b: candidate 2 has the index of no server, 1', { ...one, backends: [{ ...backend, servers: [server] }] }],
  ])('%s', (message, wrong) => expect(() => assertServiceSet(wrong)).toThrow(message));

  test('all others can', () => {
    assertServiceSet(one);
    assertServiceSet(withServers({ ...server, index: 8191 }));
    assertServiceSet({ frontends: [], backends: [] });
  });
});

describe('ports in use', () => {
  test('servers on one address and port share them; each source address adds 27,233; none without full NAT', () => {
    const [a, b] = [parseAddress('10.0.0.1'), parseAddress('10.0.0.2')];
    const choice = prepare('roundrobin', []);
    const at = (index: number, backend: string, address = VIP) => ({
      index,
      address,
      port: 80 + index,
      protocol: TCP,
      backend,
      maxconn: 0,
      draining: false,
    });
    // What two workers hold is added up.
    const memories = [1, 2].map(() => ownMemory({ capacity: 256, connections: 1 }));
    [0, 1, 2, 3].forEach((server) => (memories[server & 1].counters.statistics[serverRow(server) + PORTS] = 10 ** server));
    const use = new PortUse(new Counts(memories));
    use.apply({
      frontends: [at(0, 'x'), at(1, 'x'), at(2, 'y', a), at(3, 'direct')],
      backends: [
        {
          name: 'x',
          mode: 'passthrough',
          choice,
          servers: [
            { index: 0, address: a, port: 80, protocol: TCP },
            { index: 1, address: b, port: 80, protocol: TCP },
          ],
        },
        { name: 'y', mode: 'passthrough', choice, servers: [{ index: 2, address: a, port: 80, protocol: TCP }] },
        { name: 'direct', mode: 'dsr', choice, servers: [{ index: 3, address: a, port: 80, protocol: TCP }] },
      ],
    });
    expect([0, 1, 2].map((server) => use.of(server))).toEqual([
      { ports: 101, portCapacity: 2 * 27_233 },
      { ports: 10, portCapacity: 27_233 },
      { ports: 101, portCapacity: 2 * 27_233 },
    ]);
    expect(use.of(3)).toEqual({ ports: 0, portCapacity: 0 });
  });
});

describe('schedulers', () => {
  const pick = (services: Services) => services.frontendAt(VIP, 80, TCP)!.scheduler!.pick(0, 0);

  test('go on where they were while their candidates stay', () => {
    const services = create();
    services.apply(set([1, 2, 3]));
    expect([pick(services), pick(services)]).toEqual([0, 1]);
    services.apply(structuredClone(set([1, 2, 3])));
    expect(pick(services)).toBe(2);
    services.apply(set([1, 2]));
    expect(pick(services)).toBe(0);
  });
});

describe('frontends', () => {
  test('of two on one endpoint the one that does not drain is found', () => {
    const services = create();
    services.apply(
      set(
        [1],
        [
          [80, true],
          [80, false],
          [81, true],
        ],
      ),
    );
    expect(services.frontendAt(VIP, 80, TCP)).toMatchObject({ index: 1, draining: false });
    expect(services.frontendAt(VIP, 81, TCP)).toMatchObject({ index: 2, draining: true });
    expect(services.frontendAt(VIP, 82, TCP)).toBeUndefined();
  });

  test('without a backend refuse', () => {
    const services = create();
    services.apply({ ...set([1]), backends: [] });
    expect(services.frontendAt(VIP, 80, TCP)!.scheduler).toBeUndefined();
  });
});

describe('pools', () => {
  test('thousands of reloads with ever new servers leave no more than the last set needs', () => {
    const services = create();
    for (let i = 0; i < 5000; i++) {
      services.apply(set([i, i + 1, i + 2]));
      // A connection that ends before the next reload but one.
      const [pool] = services.frontendAt(VIP, 80, TCP)!.pools;
      services.pools.release(pool, services.pools.at(pool)!.claim());
    }
    expect(services.pools.size).toBe(3);
    expect(services.frontendAt(VIP, 80, TCP)!.pools.every((pool) => pool < 6)).toBe(true);
    services.apply({ frontends: [], backends: [] });
    expect(services.pools.size).toBe(0);
  });

  test('of a server that is gone: kept while a port is out, then given away', () => {
    const services = create();
    services.apply(set([1]));
    const pool = services.frontendAt(VIP, 80, TCP)!.pools[0];
    const [one, two] = [services.pools.at(pool)!.claim(), services.pools.at(pool)!.claim()];
    services.apply(set([2]));
    expect(services.frontendAt(VIP, 80, TCP)!.pools).not.toContain(pool);
    services.pools.release(pool, one);
    expect(services.pools.size).toBe(2);
    // It comes back in between: the same pool, with what is still out.
    services.apply(set([1]));
    expect(services.frontendAt(VIP, 80, TCP)!.pools).toEqual([pool]);
    services.pools.release(pool, two);
    expect(services.pools.at(pool)!.available).toBe(27_233);
    // The last port comes back after the reload: no further one is needed.
    const three = services.pools.at(pool)!.claim();
    services.apply(set([2]));
    expect(services.pools.size).toBe(2);
    services.pools.release(pool, three);
    expect(services.pools.size).toBe(1);
  });

  test('of a server that is down or drains: kept, its ports rest', () => {
    const services = create();
    services.apply(set([1]));
    const pool = services.frontendAt(VIP, 80, TCP)!.pools[0];
    const { frontends, backends } = set([1]);
    services.apply({ frontends, backends: [{ ...backends[0], choice: prepare('roundrobin', []) }] });
    services.apply(set([1]));
    expect(services.frontendAt(VIP, 80, TCP)!.pools).toEqual([pool]);
  });
});

describe('flows', () => {
  beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

  test('of servers that stay are not touched by thousands of reloads', () => {
    const world = new World();
    for (const from of [5000, 5001]) world.send(fromClient({ from, flags: 'S' }));
    for (const server of [0, 1]) world.send(fromServer({ flags: 'SA', to: PORT }, {}, server));
    for (const from of [5000, 5001]) world.send(fromClient({ from }));
    world.sweepAll(0);
    const before = world.table.words.slice();
    expect(connectionsIn(world).map(({ life }) => life & STATE_MASK)).toEqual([ESTABLISHED, ESTABLISHED]);
    for (let i = 0; i < 2000; i++) {
      world.apply([{}, { up: [true, false] }, { draining: [0] }, { up: [false, false] }][i % 4]);
      world.sweepAll(0);
    }
    expect(world.table.words).toEqual(before);
    for (const server of [0, 1]) expect(world.send(fromServer({}, {}, server)).verdict).toBe('forwarded');
  });

  test('of servers that come and go leave nothing: table, ports, pools, loads', () => {
    const world = new World();
    for (let i = 0; i < 3000; i++) {
      for (let from = 5000; from < 5004; from++) world.send(fromClient({ from, flags: i % 3 ? 'S' : 'A' }));
      world.apply([{ gone: [0] }, { gone: [1] }, {}, { gone: [0, 1] }, { goneFrontends: [0] }][i % 5]);
      world.sweepAll(0);
    }
    world.apply({ gone: [0, 1] });
    world.sweepAll(0);
    expect([world.table.size, world.services.pools.size]).toEqual([0, 0]);
    expect(world.loads.every((load) => load === 0)).toBe(true);
    world.apply();
    expect(world.services.pools.size).toBe(2);
    for (const pool of [0, 1]) expect(world.services.pools.at(pool)!.available).toBe(27_233);
  });
});
