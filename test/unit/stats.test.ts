import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { z } from 'zod';
import type { Mode } from '../../src/config/modes.ts';
import { addTotals, NOTHING, type ServerState } from '../../src/control/source.ts';
import { statsDocument } from '../../src/control/stats.ts';
import { conveyStats, lb4Stats } from '../fixtures/convey-stats.schema.ts';
import { backendOf, countersOf, frontendOf, PACKETS, serverOf, sourceOf, viewOf } from '../lab/control-world.ts';

/** As a client gets it. */
const documentOf = (...[source, view]: Parameters<typeof statsDocument>) => JSON.parse(JSON.stringify(statsDocument(source, view)));

const numbers = {
  frontends: [countersOf(5, 2, 100, 1000), countersOf(7, 1, 10, 20)],
  servers: [countersOf(3, 1, 60, 600), countersOf(2, 1, 40, 400), countersOf(7, 1, 10, 20)],
};
const view = viewOf({
  frontends: [frontendOf('web', 0), frontendOf('mail', 1)],
  backends: [backendOf('app', [serverOf('one', 0), serverOf('two', 1, { state: 'down' })]), backendOf('smtp', [serverOf('mx', 2)])],
});

test("is Convey's document, with lb4 beside it", () => {
  const { lb4, ...convey } = documentOf(sourceOf('passthrough', numbers), view);
  expect(conveyStats.parse(convey)).toEqual({
    total_connections: 12,
    current_connections: 3,
    total_bytes_tx: 110,
    total_bytes_rx: 1020,
    backends: {
      app: {
        total_connections: 5,
        current_connections: 2,
        bytes_tx: 100,
        bytes_rx: 1000,
        servers: { '10.0.0.0:80': true, '10.0.0.1:80': false },
      },
      smtp: { total_connections: 7, current_connections: 1, bytes_tx: 10, bytes_rx: 20, servers: { '10.0.0.2:80': true } },
    },
    frontends: {
      web: { total_connections: 5, current_connections: 2, bytes_tx: 100, bytes_rx: 1000 },
      mail: { total_connections: 7, current_connections: 1, bytes_tx: 10, bytes_rx: 20 },
    },
  });
  expect(lb4).toMatchObject({
    mode: 'passthrough',
    verdicts: PACKETS.verdicts,
    frames: { received: 20, dropped: 3, transmit_failed: 1 },
    flows: 4,
    flow_capacity: 1000,
    half_open: 3,
    half_open_evicted: 2,
    workers: [
      { frames: { received: 15 } },
      { frames: { received: 5, dropped: 3, transmit_failed: 1 }, flows: 4, half_open: 3, half_open_evicted: 2 },
    ],
    servers: { app: { '10.0.0.1:80': { total_connections: 2, bytes_rx: 400, name: 'two', state: 'down', weight: 1, load: 1 } } },
  });
});

test('what has one name and several protocols is told apart, and nothing else is named after its protocol', () => {
  const { frontends, backends } = documentOf(
    sourceOf('passthrough', numbers),
    viewOf({
      frontends: [frontendOf('web', 0), frontendOf('web', 1, { protocol: 'udp' }), frontendOf('dns', 2, { protocol: 'udp' })],
      backends: [backendOf('app', []), backendOf('app', [], { protocol: 'icmp' }), backendOf('names', [], { protocol: 'udp' })],
    }),
  );
  expect(Object.keys(frontends)).toEqual(['web', 'web/udp', 'dns']);
  expect(Object.keys(backends)).toEqual(['app', 'app/icmp', 'names']);
});

test('proxy mode has no packet keys, and its own counts of servers', () => {
  const servers = [{ ...countersOf(1), connectFailures: 4, retries: 2 }];
  const { lb4 } = documentOf(sourceOf('proxy', { frontends: [], servers }), view);
  expect(Object.keys(lb4)).toEqual(['mode', 'stopping', 'reload', 'dashboard', 'log', 'servers']);
  expect(lb4.servers.app['10.0.0.0:80']).toMatchObject({ connect_failures: 4, retries: 2 });
  expect(lb4.servers.app['10.0.0.1:80']).not.toHaveProperty('retries');
});

test.each<[ServerState, boolean | undefined]>([
  ['unknown', undefined],
  ['up', true],
  ['down', false],
  ['drain', undefined],
])('a server whose state is %s: %s', (state, shown) => {
  const document = documentOf(sourceOf('dsr', numbers), viewOf({ backends: [backendOf('app', [serverOf('one', 0, { state })])] }));
  expect(document.backends.app.servers['10.0.0.0:80']).toBe(shown);
  expect(document.lb4.servers.app['10.0.0.0:80'].state).toBe(state);
});

test('totals keep what frontends and servers that are gone had counted', () => {
  const retired = { total: 100, bytesTx: 200, bytesRx: 300 };
  const gone = viewOf({ frontends: [frontendOf('web', 0)], backends: [backendOf('app', [serverOf('one', 0)], { retired })], retired });
  const document = documentOf(sourceOf('proxy', numbers), gone);
  expect(document).toMatchObject({ total_connections: 105, current_connections: 2, total_bytes_tx: 300, total_bytes_rx: 1300 });
  expect(document.backends.app).toMatchObject({ total_connections: 103, current_connections: 1, bytes_tx: 260, bytes_rx: 900 });
});

test('a failed reload says why', () => {
  const reload = { succeeded: 3, failed: 1, lastSucceeded: false, lastError: 'lb4.toml:3:1: no such backend', at: 1_700_000_000.5 };
  const { lb4 } = documentOf(sourceOf('proxy', numbers), viewOf({ reload, stopping: true }));
  expect(lb4).toMatchObject({
    stopping: true,
    reload: { succeeded: 3, failed: 1, last_succeeded: false, last_error: 'lb4.toml:3:1: no such backend', at: 1_700_000_000.5 },
  });
});

describe('whatever is counted', () => {
  const count = fc.nat();
  const counters = fc.record({ total: count, current: count, bytesTx: count, bytesRx: count, load: count });
  const totals = fc.record({ total: count, bytesTx: count, bytesRx: count });
  const names = fc.uniqueArray(fc.oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('__proto__', 'constructor', '7')), {
    maxLength: 6,
  });
  const world = fc
    .record({
      mode: fc.constantFrom<Mode>('proxy', 'passthrough', 'dsr'),
      names,
      state: fc.constantFrom<ServerState>('unknown', 'up', 'down', 'drain'),
      counted: fc.array(counters, { minLength: 12, maxLength: 12 }),
      retired: totals,
    })
    .map(({ mode, names, state, counted, retired }) => ({
      source: sourceOf(mode, { frontends: counted, servers: counted }),
      counted,
      view: viewOf({
        frontends: names.map((name, index) => frontendOf(name, index)),
        backends: names.map((name, index) =>
          backendOf(name, [serverOf('a', 2 * index, { state }), serverOf('b', 2 * index + 1)], { retired }),
        ),
        retired,
      }),
    }));

  test('the document has the shape, sums agree and every name is there', () => {
    fc.assert(
      fc.property(world, ({ source, view, counted }) => {
        const document = documentOf(source, view) as z.infer<typeof lb4Stats>;
        lb4Stats.parse(document);
        expect(Object.keys(document.frontends)).toHaveLength(view.frontends.length);
        expect(Object.keys(document.backends)).toHaveLength(view.backends.length);
        const sum = Object.values(document.frontends).reduce((all, { bytes_tx }) => all + bytes_tx, view.retired.bytesTx);
        expect(document.total_bytes_tx).toBe(sum);
        for (const [name, backend] of Object.entries(document.backends)) {
          const { servers, retired } = view.backends.find((one) => one.name === name)!;
          const parts = servers.map(({ index }) => counted[index].total);
          expect(backend.total_connections).toBe(parts.reduce((a, b) => a + b, retired.total));
        }
      }),
    );
  });

  test('a frontend that leaves the file takes nothing from the totals', () => {
    fc.assert(
      fc.property(world, ({ source, view }) => {
        const before = statsDocument(source, view);
        const [first, ...rest] = view.frontends;
        const gone = first === undefined ? NOTHING : source.frontend(first.index);
        const after = statsDocument(source, { ...view, frontends: rest, retired: addTotals(view.retired, gone) });
        for (const key of ['total_connections', 'total_bytes_tx', 'total_bytes_rx'] as const) expect(after[key]).toBe(before[key]);
      }),
    );
  });
});
