/** The books when frontends and servers come and go. */
import { expect, test } from 'vitest';
import { prepare } from '../../src/balance/index.ts';
import { Ledger } from '../../src/forward/ledger.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import {
  CURRENT,
  frontendLoad,
  frontendRow,
  PLACE_ADDRESS,
  PLACE_PORT,
  PORTS,
  RX,
  serverRow,
  TOTAL,
  TX,
} from '../../src/layout/counters.ts';
import { ownMemory } from '../../src/layout/memory.ts';
import { TCP } from '../../src/packet/fields.ts';

/** Flow owner: frontend 0, server 0. */
const OWNER = 0;

function set(servers: readonly { index: number; address: number }[]): ServiceSet {
  return {
    frontends: [{ index: 0, address: 1, port: 80, protocol: TCP, backend: 'b', maxconn: 0, draining: false }],
    backends: [
      {
        name: 'b',
        mode: 'passthrough',
        servers: servers.map((one) => ({ ...one, port: 80, protocol: TCP })),
        choice: prepare('roundrobin', []),
      },
    ],
  };
}

/** A connection to server 0, which then leaves the set. */
function world() {
  const { counters } = ownMemory({ capacity: 256, connections: 1 });
  const { statistics, loads } = counters;
  const ledger = new Ledger(counters);
  ledger.apply(set([{ index: 0, address: 2 }]));
  const generation = ledger.generation(OWNER);
  for (const column of [TOTAL, CURRENT]) ledger.add(OWNER, generation, column, 1);
  ledger.addLoad(OWNER, generation, 1);
  ledger.addPorts(OWNER, generation, 1);
  ledger.addBytes(OWNER, generation, TX, 100);
  ledger.apply(set([]));
  const row = (at: number) => [TOTAL, CURRENT, TX, RX, PORTS].map((column) => statistics[at + column]);
  return { ledger, generation, loads, server: () => row(serverRow(0)), frontend: () => row(frontendRow(0)) };
}

test('what a server had carried stays when it leaves; nothing of it is open any more', () => {
  const { server, frontend, loads } = world();
  expect(server()).toEqual([1, 0, 100, 0, 0]);
  expect(loads[0]).toBe(0);
  expect(frontend()).toEqual([1, 1, 100, 0, 0]);
});

test('bytes that are collected later count, and the end of its connections changes nothing', () => {
  const { ledger, generation, server, frontend, loads } = world();
  ledger.addBytes(OWNER, generation, RX, 50);
  ledger.add(OWNER, generation, CURRENT, -1);
  ledger.addLoad(OWNER, generation, -1);
  ledger.addPorts(OWNER, generation, -1);
  expect(server()).toEqual([1, 0, 100, 50, 0]);
  expect(loads[0]).toBe(0);
  expect(frontend()).toEqual([1, 0, 100, 50, 0]);
});

test('whoever has the index next begins at 0, and gets nothing of what was before', () => {
  const { ledger, generation, server } = world();
  ledger.apply(set([{ index: 0, address: 3 }]));
  expect(server()).toEqual([0, 0, 0, 0, 0]);
  ledger.addBytes(OWNER, generation, TX, 1);
  ledger.add(OWNER, generation, TOTAL, 1);
  expect(server()).toEqual([0, 0, 0, 0, 0]);
  ledger.addBytes(OWNER, ledger.generation(OWNER), TX, 7);
  expect(server()).toEqual([0, 0, 7, 0, 0]);
});

test('the same at once, without a time in which nobody had it', () => {
  const { ledger, server } = world();
  ledger.apply(set([{ index: 0, address: 3 }]));
  const generation = ledger.generation(OWNER);
  ledger.addBytes(OWNER, generation, TX, 7);
  ledger.apply(set([{ index: 0, address: 4 }]));
  ledger.addBytes(OWNER, generation, TX, 7);
  expect(server()).toEqual([0, 0, 0, 0, 0]);
});

test('killed at any store of the places: who stands there begins at 0', () => {
  const { counters } = ownMemory({ capacity: 256, connections: 1 });
  let isUsed = false;
  const at = serverRow(0) + TOTAL;
  const places = new Proxy(counters.places, {
    get: (target, name) => Reflect.get(target, name, target) as unknown,
    set(target, name, value) {
      Reflect.set(target, name, value, target);
      const [address, port] = [target[PLACE_ADDRESS], target[PLACE_PORT]];
      if (isUsed && address === 3 && port !== 0) expect(counters.statistics[at]).toBe(0);
      return true;
    },
  });
  const ledger = new Ledger({ ...counters, places });
  ledger.apply(set([{ index: 0, address: 2 }]));
  ledger.add(OWNER, ledger.generation(OWNER), TOTAL, 1);
  isUsed = true;
  expect(counters.statistics[at]).toBe(1);
  ledger.apply(set([{ index: 0, address: 3 }]));
  expect.assertions(3);
});

test('who finds the frontend with room and its server without leaves no load behind', () => {
  const { counters } = ownMemory({ capacity: 256, connections: 1 });
  const ledger = new Ledger(counters);
  ledger.apply(set([{ index: 0, address: 2 }]));
  const loads = () => [counters.loads[frontendLoad(0)], counters.loads[0]];
  expect([ledger.tryEnter(OWNER, 3, 1, -1), loads()]).toEqual([true, [1, 1]]);
  expect([ledger.tryEnter(OWNER, 3, 1, -1), loads()]).toEqual([false, [1, 1]]);
  // Another's choice in between.
  expect([ledger.tryEnter(OWNER, 3, 0, 0), loads()]).toEqual([false, [1, 1]]);
  expect([ledger.tryEnter(OWNER, 1, 0, 1), loads()]).toEqual([false, [1, 1]]);
});
