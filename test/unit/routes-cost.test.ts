/** What notices of the kernel cost: a flood of them about neighbours that are nobody's server takes a part of the thread only. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ServerRoutes } from '../../src/engine/routes.ts';
import { ROUND } from '../../src/engine/solicitor.ts';
import { addLink, isClientsAlone } from '../../src/forward/links.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import { Ways } from '../../src/forward/ways.ts';
import { ROUTE, SEND } from '../../src/layout/frames.ts';
import { CLIENT_LINKS, ENTRIES, HOP, MTU, OUT, SERVER_HOPS, VERSION, WAY } from '../../src/layout/hops.ts';
import { TCP } from '../../src/packet/fields.ts';

/** In ms, a question to the kernel. */
const COST = 0.02;
const SERVERS = 1000;

const kernel = vi.hoisted(() => ({
  now: 0,
  cost: 0,
  asked: 0,
  mtu: 1500,
  notify: () => {},
  encapsulated: false,
  up: true,
  links: [1],
  solicited: [] as string[],
  isMissing: false,
}));

vi.mock('../../src/io/native.ts', () => ({
  native: () => ({
    RouteSocket: class {
      route() {
        kernel.asked++;
        kernel.now += kernel.cost;
        return {
          ifindex: 1,
          neighbour: 9,
          source: 5,
          mtu: kernel.mtu,
          ownMtu: kernel.mtu,
          local: false,
          kind: 'unicast',
          encapsulated: kernel.encapsulated,
        };
      }
      solicit(ifindex: number, address: number) {
        kernel.solicited.push(`${ifindex} ${address}`);
      }
      links() {
        return kernel.links;
      }
      neighbour() {
        if (kernel.isMissing) return undefined;
        return new Uint8Array([2, 0, 0, 0, 0, 9]);
      }
      interfaces() {
        return [
          {
            index: 1,
            name: 'e',
            mtu: 1500,
            mac: new Uint8Array(6),
            up: kernel.up,
            carrier: true,
            kind: '',
            master: 0,
            link: 0,
            callsIptables: false,
          },
        ];
      }
      watch(changed: () => void) {
        kernel.notify = changed;
      }
      close() {}
    },
  }),
}));

const set: ServiceSet = {
  frontends: [{ index: 0, address: 5, port: 80, protocol: TCP, backend: 'b', maxconn: 0, draining: false }],
  backends: [
    {
      name: 'b',
      mode: 'passthrough',
      servers: Array.from({ length: SERVERS }, (_, index) => ({ index, address: 1000 + index, port: 80, protocol: TCP })),
      choice: { scheduler: 'first', candidates: [], table: undefined, turns: undefined },
    },
  ],
};

/** A worker's, without connections. */
const tables = (hops: Int32Array) => ({ hops, flows: new Int32Array(), connections: new Int32Array() });

beforeEach(() => {
  vi.useFakeTimers();
  kernel.cost = COST;
  vi.spyOn(performance, 'now').mockImplementation(() => kernel.now);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** `ms` pass; the timers' clock follows. */
function pass(ms: number): void {
  kernel.now += ms;
  vi.advanceTimersByTime(ms);
}

test('100 notices a second for ten seconds, 1,000 servers: a tenth of the thread, and the last state is seen', () => {
  const hops = new Int32Array(ENTRIES * HOP);
  const routes = ServerRoutes.open([tables(hops)], new Ways(), () => {});
  routes.apply(set);
  const mtus = () => new Set(Array.from({ length: SERVERS }, (_, way) => hops[(way + 1) * HOP + MTU]));
  expect(mtus()).toEqual(new Set([1500]));
  kernel.asked = 0;
  for (let i = 0; i < 1000; i++) {
    kernel.notify();
    pass(10);
  }
  // Ten seconds, and the burst; asking for all at every notice would take 20.
  expect(kernel.asked * COST).toBeLessThan(1300);
  // One change after it all is followed.
  kernel.mtu = 1400;
  kernel.notify();
  for (let i = 0; i < 200; i++) pass(10);
  expect(mtus()).toEqual(new Set([1400]));
  const { asked } = kernel;
  for (let i = 0; i < 200; i++) pass(10);
  expect(kernel.asked).toBe(asked);
  routes.close();
});

test('a single change is followed at once', () => {
  const hops = new Int32Array(ENTRIES * HOP);
  const routes = ServerRoutes.open([tables(hops)], new Ways(), () => {});
  routes.apply(set);
  kernel.mtu = 1300;
  kernel.notify();
  for (let i = 0; i < 4; i++) pass(1);
  expect(hops[SERVERS * HOP + MTU]).toBe(1300);
  routes.close();
});

test('what a route wraps (MPLS, SRv6, a tunnel) is left to the kernel, from one notice on to another', () => {
  const hops = new Int32Array(ENTRIES * HOP);
  const routes = ServerRoutes.open([tables(hops)], new Ways(), () => {});
  routes.apply(set);
  const seen = [false, true, false].map((encapsulated) => {
    kernel.encapsulated = encapsulated;
    kernel.notify();
    for (let i = 0; i < 200; i++) pass(10);
    return hops[HOP + OUT];
  });
  expect(seen).toEqual([SEND, ROUTE, SEND]);
  routes.close();
});

test('ways of another process keep their places, and are asked about anew', () => {
  const hops = new Int32Array(ENTRIES * HOP);
  const places = new Int32Array(SERVER_HOPS * WAY);
  const reversed = { ...set, backends: set.backends.map((backend) => ({ ...backend, servers: backend.servers.toReversed() })) };
  const first = ServerRoutes.open([tables(hops)], new Ways(places), () => {});
  const before = first.apply(set).get(0);
  first.close();
  kernel.asked = 0;
  kernel.mtu = 1200;
  const next = ServerRoutes.open([tables(hops)], new Ways(places.slice()), () => {});
  expect(next.apply(reversed).get(0)?.toReversed()).toEqual(before);
  expect([kernel.asked, hops[SERVERS * HOP + MTU]]).toEqual([SERVERS, 1200]);
  next.close();
});

test('a notice of nothing new writes nothing: the kernel hands up no packet for it', () => {
  const hops = new Int32Array(ENTRIES * HOP);
  const routes = ServerRoutes.open([tables(hops)], new Ways(), () => {});
  routes.apply(set);
  const versions = () => new Set(Array.from({ length: SERVERS }, (_, way) => hops[(way + 1) * HOP + VERSION]));
  const seen = [1500, 1500, 1450].map((mtu) => {
    kernel.mtu = mtu;
    kernel.notify();
    for (let i = 0; i < 200; i++) pass(10);
    return [...versions()];
  });
  expect([seen[0].length, seen[1]]).toEqual([1, seen[0]]);
  expect(seen[2]).toEqual([seen[0][0] + 2]);
  routes.close();
});

test('an interface that is down is none to send by', () => {
  const routes = ServerRoutes.open([], new Ways(), () => {});
  expect(routes.mtus()).toEqual(new Map([[1, 1500]]));
  kernel.up = false;
  kernel.notify();
  pass(1);
  expect(routes.mtus()).toEqual(new Map());
  kernel.up = true;
  routes.close();
});

test('where servers answer clients, the links of all next hops lead to them, from one notice on to another', () => {
  const hops = new Int32Array(ENTRIES * HOP);
  const routes = ServerRoutes.open([tables(hops)], new Ways(), () => {});
  for (const link of [1, 2, 3]) addLink(hops, CLIENT_LINKS, link);
  const clientsAlone = () => [1, 2, 3].filter((link) => isClientsAlone(hops, link));
  kernel.links = [1, 2];
  routes.apply(set);
  expect(clientsAlone()).toEqual([2, 3]);
  routes.apply({ ...set, backends: set.backends.map((backend) => ({ ...backend, mode: 'destination' })) });
  expect(clientsAlone()).toEqual([3]);
  kernel.links = [1, 3];
  kernel.notify();
  for (let i = 0; i < 200; i++) pass(10);
  expect(clientsAlone()).toEqual([2]);
  routes.close();
});

test('the kernel is asked for a MAC address in use now and then, once for all ways to it; for a missing one of L2 DSR each second', () => {
  const routes = ServerRoutes.open([tables(new Int32Array(ENTRIES * HOP))], new Ways(), () => {});
  const [backend] = set.backends;
  // On the link itself: it is the neighbour (its address is that of the answer).
  routes.apply({ ...set, backends: [{ ...backend, mode: 'dsrL2', servers: [{ ...backend.servers[0], address: 9 }] }] });
  const asked = (ms: number) => {
    kernel.solicited = [];
    for (let i = 0; i < ms / 100; i++) pass(100);
    return kernel.solicited.length;
  };
  expect(asked(2 * ROUND * 1000)).toBe(2);
  kernel.isMissing = true;
  kernel.notify();
  expect(asked(5000)).toBeGreaterThanOrEqual(5);
  kernel.isMissing = false;
  kernel.notify();
  pass(100);
  expect(asked(ROUND * 1000)).toBe(1);
  expect(new Set(kernel.solicited)).toEqual(new Set(['1 9']));
  routes.apply(set);
  expect(asked(ROUND * 1000)).toBe(1);
  routes.close();
});
