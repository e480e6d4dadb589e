/** There is room for those that drain while as many others come. */
import { describe, expect, test } from 'vitest';
import { PrefixList } from '../../src/access/prefix-list.ts';
import { prefixTable } from '../../src/access/prefix-table.ts';
import { prepare } from '../../src/balance/index.ts';
import { parseConfig } from '../../src/config/load.ts';
import { bookOf, earlyDropBytes } from '../../src/engine/access-book.ts';
import { GROUP } from '../../src/flow/records.ts';
import { tableCapacity } from '../../src/flow/table.ts';
import { assertServiceSet } from '../../src/forward/assert-set.ts';
import { frontendLoad, frontendRow, MAX_FRONTENDS, MAX_SERVERS, ROW, serverRow } from '../../src/layout/counters.ts';
import { LINE_WORDS } from '../../src/layout/early-drop.ts';
import { ENTRIES, HOP, SERVER_HOPS } from '../../src/layout/hops.ts';
import { CONNECTION_BYTES, LIMITS, MOST_CONNECTIONS, WORKER_BYTES } from '../../src/layout/limits.ts';
import { flowWords, memorySize, ownMemory, synLines } from '../../src/layout/memory.ts';
import { TCP } from '../../src/packet/fields.ts';
import { ALL_PORTS } from '../../src/packet/steering.ts';
import { createMemory, gaugesOf, frontendRow as proxyFrontendRow, serverRow as proxyServerRow } from '../../src/proxy/memory.ts';
import { assertWithin } from '../../src/proxy/plan.ts';
import { memoryShortage } from '../../src/service/memory-room.ts';
import { GOOD } from '../lab/config-lines.ts';
import { planOf } from '../lab/proxy-lab.ts';

const FRONTEND = 2 * LIMITS.frontends - 1;
const SERVER = 2 * LIMITS.servers - 1;

describe('packets', () => {
  test('twice the limits of a file are taken, and a flow names them in 16 bits each', () => {
    assertServiceSet({
      frontends: [{ index: FRONTEND, address: 1, port: 80, protocol: TCP, backend: 'b', maxconn: 0, draining: true }],
      backends: [
        { name: 'b', mode: 'dsr', servers: [{ index: SERVER, address: 2, port: 80, protocol: TCP }], choice: prepare('maglev', []) },
      ],
    });
    expect(Math.max(MAX_FRONTENDS, MAX_SERVERS)).toBeLessThanOrEqual(65536);
  });

  test('a frontend is of the protocol of its servers, and of one that lb4 carries', () => {
    const set = (ofFrontend: number, ofServer: number) => () =>
      assertServiceSet({
        frontends: [{ index: 0, address: 1, port: 80, protocol: ofFrontend, backend: 'b', maxconn: 0, draining: false }],
        backends: [
          { name: 'b', mode: 'dsr', servers: [{ index: 0, address: 2, port: 80, protocol: ofServer }], choice: prepare('maglev', []) },
        ],
      });
    expect(set(TCP, TCP)).not.toThrow();
    expect(set(TCP, 17)).toThrow(RangeError);
    expect(set(132, 132)).toThrow('backend b: protocol 132 is not that of all its servers and frontends, or unknown');
  });

  test.each([1000, 12_345, 100_000, 262_144, 1_000_000, 10_000_000, MOST_CONNECTIONS])(
    'of %i connections each takes at most 256 bytes, everything included',
    (connections) => {
      const capacity = tableCapacity(connections);
      const shared = memorySize({ capacity, connections, workers: 1 }) - memorySize({ capacity: 0, connections: 0, workers: 1 });
      // The worker's own: links of half-open ones, records taken of each group, the queue of each port that came back.
      const links = 2 * Int32Array.BYTES_PER_ELEMENT;
      const groups = 1 / GROUP;
      const port = (Uint16Array.BYTES_PER_ELEMENT * 2 ** Math.ceil(Math.log2(ALL_PORTS.count))) / ALL_PORTS.count;
      expect(shared / connections + links + groups + port).toBeLessThanOrEqual(CONNECTION_BYTES);
    },
  );

  test('a worker takes what is counted for it, what its SYN guard remembers included', () => {
    const shared = (workers: number) => memorySize({ capacity: 0, connections: 0, workers });
    const guard = (synLines(2) - synLines(1)) * LINE_WORDS * Int32Array.BYTES_PER_ELEMENT;
    expect(shared(2) - shared(1) + guard).toBeLessThanOrEqual(WORKER_BYTES);
  });

  test('most of them have words that an index of 31 bits reaches', () => {
    expect(flowWords(tableCapacity(MOST_CONNECTIONS))).toBeLessThan(2 ** 31);
    expect(MOST_CONNECTIONS).toBeGreaterThan(10_000_000);
  });

  test('the last of each has its row, load and hop in the shared memory', () => {
    const room = { capacity: 256, connections: 64 };
    const {
      hops,
      counters: { statistics, loads },
    } = ownMemory(room);
    expect(frontendRow(FRONTEND) + ROW).toBeLessThanOrEqual(serverRow(0));
    expect(serverRow(SERVER) + ROW).toBeLessThanOrEqual(statistics.length);
    expect(SERVER).toBeLessThan(frontendLoad(0));
    expect(frontendLoad(FRONTEND)).toBeLessThan(loads.length);
    expect(8 * (SERVER + 1)).toBeLessThanOrEqual(SERVER_HOPS);
    expect(hops.length).toBe(ENTRIES * HOP);
  });
});

describe('what a host or control group has no room for is told, with the numbers and what to do', () => {
  const { config } = parseConfig(`${GOOD}[passthrough]\nconnection_tracker_capacity = 1000000\nworkers = 2`, 'f');
  const frontend = { index: 0, address: 1, port: 80, protocol: TCP, backend: 'b', maxconn: 0, draining: false };

  test('tables and lb4 itself', () => {
    expect(memoryShortage(config.passthrough, [frontend], 377e6)).toBeUndefined();
    const told = /take 377 MB, and .* has 376 MB at most: .*MemoryMax=.*connection_tracker_capacity/;
    expect(memoryShortage(config.passthrough, [frontend], 376e6)).toMatch(told);
  });

  test('who may connect: lists, once however many frontends share them; sources; with a fast path two books, and counts for each processor', () => {
    const list = new PrefixList();
    for (let address = 0; address < 100_000; address += 2) list.add(4, [address], 32);
    const access = {
      table: prefixTable({ allow: undefined, deny: [list] }, 4),
      sourceRate: 1,
      sourceMaxconn: 0,
      sourceBits: 32,
      resets: false,
      dryRun: false,
    };
    const frontends = [80, 81].map((port, index) => ({ ...frontend, index, port, access }));
    const fast = { ...config.passthrough, fastPath: 'tc' as const };
    expect(memoryShortage(config.passthrough, frontends, 0, 64)).toMatch(
      /flow tables, 18 MB for who may connect, and lb4 itself take 395 MB/,
    );
    expect(memoryShortage(fast, frontends, 0, 64)).toMatch(/flow tables, 37 MB for who may connect, and lb4 itself take 414 MB/);
    const books = 2 * bookOf(frontends).byteLength;
    expect(earlyDropBytes(frontends, 1, 0)).toBeGreaterThanOrEqual(books);
    expect(earlyDropBytes(frontends, 1, 0)).toBeLessThan(1.1 * books);
  });
});

describe('proxy', () => {
  test('twice the limits of a file are taken, also if each server has a backend of its own', () => {
    const { frontends, backends } = planOf(80, { servers: [{ host: '127.0.0.1', port: 80, sockets: [], close: async () => {} }] });
    const [frontend, backend] = [frontends[0], backends[0]];
    assertWithin({
      frontends: [{ ...frontend, index: FRONTEND, backend: `b${SERVER}` }],
      backends: Array.from({ length: SERVER + 1 }, (_, index) => ({
        ...backend,
        name: `b${index}`,
        servers: [{ ...backend.servers[0], index }],
        choice: prepare('roundrobin', []),
      })),
    });
  });

  test('the last of each has its row and gauges in the shared memory', () => {
    const { gauges, counters } = createMemory(1);
    const { loads, serverCurrent, accepted, frontendCurrent, holding, queued } = gaugesOf(gauges);
    for (const array of [loads, serverCurrent]) expect(array.length).toBeGreaterThan(SERVER);
    for (const array of [accepted, frontendCurrent, holding]) expect(array.length).toBeGreaterThan(FRONTEND);
    expect(queued.length).toBe(4 * LIMITS.servers);
    expect(proxyFrontendRow(FRONTEND)).toBeLessThan(proxyServerRow(0));
    expect(proxyServerRow(SERVER + 1) * Float64Array.BYTES_PER_ELEMENT).toBeLessThanOrEqual(counters[0].byteLength);
  });
});
