/** Where a connection would go: what trace says is what schedulers, limits and affinity come to. Its data path answers what the test says. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Candidate, createScheduler, foresee, isFull, leastLoaded, prepare, SCHEDULERS } from '../../src/balance/index.ts';
import { traceText } from '../../src/cli/trace.ts';
import { parseConfig } from '../../src/config/load.ts';
import type { Mode } from '../../src/config/modes.ts';
import type { Trace } from '../../src/control/orders.ts';
import type { CarriedFlow } from '../../src/engine/flow-list.ts';
import { Bond, Bonds } from '../../src/forward/affinity.ts';
import * as A from '../../src/layout/affinity.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { Members } from '../../src/service/members.ts';
import { makePlan, type ServerStatus, UNCHECKED } from '../../src/service/plan.ts';
import { type TraceParts, trace } from '../../src/service/trace.ts';
import { PACKETS } from '../lab/control-world.ts';

const CLIENT = '198.51.100.7:4711';

interface World {
  readonly mode?: Mode;
  /** Of the frontend, and of the backend. */
  readonly frontend?: string;
  readonly backend?: string;
  /** More of each server. */
  readonly server?: string;
  readonly isDown?: (server: string) => boolean;
  /** By the server's index, and of the frontend. */
  readonly loads?: readonly number[];
  readonly load?: number;
  readonly ports?: readonly number[];
  readonly queued?: number;
  readonly flow?: Partial<CarriedFlow>;
  readonly kept?: { readonly server: number; readonly leftMs: number };
}

const FLOW: CarriedFlow = {
  protocol: 'tcp',
  client: CLIENT,
  to: '192.0.2.1:80',
  frontend: 0,
  server: 2,
  via: '192.0.2.1:32768',
  address: '10.0.0.3:80',
  state: 'established',
  bytesTx: 1,
  bytesRx: 2,
  idleMs: 0,
};

/** Servers a, b and c behind `web`. */
async function traceIn(world: World, client = CLIENT, frontend = 'web'): Promise<Trace> {
  const { mode = 'passthrough', loads = [], ports = [], load = 0, queued = 0, flow, kept, isDown = () => false } = world;
  const lines = ['a', 'b', 'c'].map(
    (name, i) => `${name} = { ${[`addr = "10.0.0.${i + 1}:80"`, ...(world.server === undefined ? [] : [world.server])].join(', ')} }`,
  );
  const text =
    `[frontends.web]\nlisten_addr = "192.0.2.1:80"\nbackend = "app"\n${world.frontend ?? ''}\n` +
    `[backends.app]\n${world.backend ?? ''}\n[backends.app.servers]\n${lines.join('\n')}\n`;
  const { config } = parseConfig(text, 'test.toml');
  const status: ServerStatus = {
    ...UNCHECKED,
    state: (key) => (['a', 'b', 'c'].some((one) => isDown(one) && key.includes(`/ ${one} /`)) ? 'down' : 'up'),
  };
  const counters = { total: 0, current: 0, bytesTx: 0, bytesRx: 0 };
  const parts: TraceParts = {
    mode,
    plan: makePlan(config, mode, new Members(config), status, undefined),
    isStopping: false,
    path: {
      frontend: () => ({ ...counters, load }),
      server: (index) => ({ ...counters, load: loads[index] ?? 0, ports: ports[index] ?? 0, portCapacity: 100 }),
      flows: async () => ({ flows: flow === undefined ? [] : [{ ...FLOW, ...flow }], more: false }),
      ...(mode === 'proxy' ? { queued: () => queued } : { packets: () => PACKETS, kept: () => kept }),
    },
    health: { history: () => undefined, damped: () => false },
    hold: { waits: () => undefined },
    monitors: { listening: { isSilent: () => false }, deadEnds: { of: () => 0 } } as unknown as TraceParts['monitors'],
  };
  const [one, ...more] = await trace(client, frontend, parts);
  expect(more).toEqual([]);
  if (one === undefined) throw new Error('no answer');
  return one;
}

describe('trace', () => {
  test('a hash names the server exactly, in every mode the same', async () => {
    const [packets, proxy] = [await traceIn({ mode: 'dsr' }), await traceIn({ mode: 'proxy', backend: 'balance = "maglev"' })];
    expect(packets).toMatchObject({ outcome: 'goes', balance: 'maglev', to: '192.0.2.1:80', flow: null, affinity: null });
    expect(packets.server).toBe(proxy.server);
    expect(packets.among).toEqual([packets.server]);
    expect(packets.servers.map(({ eligible }) => eligible)).toEqual([true, true, true]);
  });

  test('another one where the hash names a full one, and who may not be chosen says why', async () => {
    const { server } = await traceIn({});
    const named = ['app/a', 'app/b', 'app/c'].indexOf(server ?? '');
    const loads = [0, 1, 2].map((i) => (i === named ? 5 : 1 + ((i - named + 3) % 3)));
    const full = await traceIn({ loads, server: 'maxconn = 5' });
    expect(full.outcome).toBe('goes');
    expect(full.server).toBe(['app/a', 'app/b', 'app/c'][(named + 1) % 3]);
    expect(full.reasons.join()).toMatch(/which is full/);
    expect(full.servers[named]).toMatchObject({
      eligible: false,
      reasons: expect.arrayContaining(['full: 5 connections of maxconn 5']) as string[],
    });
    const down = await traceIn({ isDown: (name) => name === 'b', backend: 'balance = "roundrobin"' });
    expect(down).toMatchObject({ outcome: 'open', server: null, among: ['app/a', 'app/c'] });
    expect(down.servers[1]).toMatchObject({ state: 'down', eligible: false });
    expect(down.servers[1]?.reasons).not.toEqual([]);
  });

  test.each<[string, World, Partial<Trace>, RegExp]>([
    ['by load: one is least', { backend: 'balance = "leastconn"', loads: [3, 1, 2] }, { outcome: 'goes', server: 'app/b' }, /leastconn/],
    [
      'by load: equals',
      { backend: 'balance = "leastconn"', loads: [3, 1, 1] },
      { outcome: 'open', among: ['app/b', 'app/c'] },
      /take turns/,
    ],
    ['the first', { backend: 'balance = "first"', loads: [1], server: 'maxconn = 1' }, { outcome: 'goes', server: 'app/b' }, /not full/],
    ['a connection', { flow: {} }, { outcome: 'flow', server: 'app/c', address: '10.0.0.3:80' }, /established/],
    ['one that has ended', { flow: { state: 'time wait' } }, { outcome: 'flow', server: 'app/c' }, /a new one goes to the same server/],
    [
      'one that has ended, whose server is down',
      { flow: { state: 'time wait' }, isDown: (name) => name === 'c', backend: 'balance = "random"' },
      { outcome: 'open', among: ['app/a', 'app/b'] },
      /drawn by lot/,
    ],
    [
      'affinity',
      { kept: { server: 1, leftMs: 1500 } },
      { outcome: 'goes', server: 'app/b', affinity: { server: 'app/b', seconds: 2 } },
      /stays with app\/b for 2 s/,
    ],
    [
      'affinity with one that is down',
      { kept: { server: 1, leftMs: 1500 }, isDown: (name) => name !== 'a' },
      { outcome: 'goes', server: 'app/a' },
      /was with app\/b/,
    ],
    ['nobody is up', { isDown: () => true }, { outcome: 'refused', among: [] }, /no server of app/],
    ['the frontend is full', { frontend: 'maxconn = 4', load: 4 }, { outcome: 'refused' }, /web is full: 4 connections of maxconn 4/],
    ['the same of a proxy', { mode: 'proxy', frontend: 'maxconn = 4', load: 4 }, { outcome: 'waits' }, /not accepted yet/],
    ['all are full', { loads: [1, 1, 1], server: 'maxconn = 1' }, { outcome: 'refused' }, /half-open/],
    [
      'the same of a proxy',
      { mode: 'proxy', loads: [1, 1, 1], server: 'maxconn = 1', backend: 'max_queue = 2', queued: 1 },
      { outcome: 'waits' },
      /it waits/,
    ],
    [
      'and its queue is full',
      { mode: 'proxy', loads: [1, 1, 1], server: 'maxconn = 1', backend: 'max_queue = 2', queued: 2 },
      { outcome: 'refused' },
      /max_queue 2/,
    ],
    ['no port is left', { backend: 'balance = "first"', ports: [100, 100, 5] }, { outcome: 'goes', server: 'app/c' }, /no source port/],
    ['nowhere', { ports: [100, 100, 100] }, { outcome: 'refused' }, /no source port/],
    ['as a server sees its client', { mode: 'dsr', ports: [100, 100, 100] }, { outcome: 'goes' }, /hash/],
  ])('%s', async (_, world, expected, reason) => {
    const answer = await traceIn(world);
    expect(answer).toMatchObject(expected);
    expect(answer.reasons.join('; ')).toMatch(reason);
  });

  test.each([
    ['198.51.100.7', 'web', 'wrong', /has no port; allowed: an address with a port/],
    ['[2001:db8::1]:5', 'web', 'wrong', /cannot call 192\.0\.2\.1:80: that is IPv4/],
    [CLIENT, 'wbe', 'unknown', /did you mean "web"\?/],
  ])('%s to %s is refused', async (client, frontend, why, message) => {
    await expect(traceIn({}, client, frontend)).rejects.toMatchObject({ why, message: expect.stringMatching(message) as string });
  });

  test('as text: where to, why, who may be chosen and who may not', async () => {
    const answer = await traceIn({ isDown: (name) => name !== 'b' });
    const [head, , , chosen, first, not] = traceText(answer).split('\n');
    expect(head).toBe(`${CLIENT} to web, 192.0.2.1:80 tcp (passthrough): app/b, 10.0.0.2:80`);
    expect([chosen, not]).toEqual(['may be chosen:', 'may not:']);
    expect(first).toBe('  app/b  10.0.0.2:80  up  weight 1  0 connections');
    const many = { ...answer, servers: Array.from({ length: 30 }, () => answer.servers[1]).flatMap((one) => one ?? []) };
    expect(traceText(many)).toContain('and 10 more: --json has all');
  });
});

/** Rows of anybody. */
const GLB = {
  keys: { hashKey: '0'.repeat(32), seed: '0'.repeat(32), hashFields: ['source' as const], altHashFields: [] },
  rank: (_: string, { length }: readonly number[]) => Uint16Array.from({ length: 2 * 65_536 }, (_row, i) => i % length),
};

test.each(SCHEDULERS)('%s: what is foreseen is what is chosen, and nobody loses his turn by it', (name) => {
  const servers = fc.array(fc.record({ weight: fc.integer({ min: 1, max: 5 }), load: fc.nat(4) }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(servers, fc.integer(), fc.nat(65535), fc.nat(4), (some, address, port, maxconn) => {
      const candidates = some.map(({ weight }, i): Candidate => ({ name: `10.0.0.${i}:80`, weight, index: i, maxconn }));
      const loads = Int32Array.from(some, ({ load }) => load);
      const choice = prepare(name, candidates, undefined, GLB);
      const before = choice.turns && new Uint8Array(choice.turns).join();
      const { among } = foresee(choice, loads, address, port);
      expect(choice.turns && new Uint8Array(choice.turns).join()).toBe(before);
      const picked = createScheduler(choice, loads)!.pick(address, port);
      const position = isFull(candidates[picked], loads) ? leastLoaded(candidates, loads, picked) : picked;
      if (position < 0) expect(among).toEqual([]);
      else expect(among).toContain(position);
    }),
    { numRuns: 25 },
  );
});

test('affinity is looked at without a lock, for who may not be chosen as well, until it is over', () => {
  const words = new Int32Array(A.affinitySets(100) * A.SET);
  const bonds = new Bonds(words, [1, 3, 5, 7]);
  const servers = [0, 1].map((index) => ({ index, address: parseAddress(`10.0.0.${index + 1}`) }));
  const bond = new Bond({ ms: 60_000 }, servers, []);
  const client = parseAddress('198.51.100.7');
  expect(bonds.peek(bond, client, 0)).toBeUndefined();
  bonds.renew(bond, client, 1, 1000, true);
  words[A.LOCK] = 1;
  expect(bonds.peek(bond, client, 2000)).toEqual({ server: 1, leftMs: 59_000 });
  expect(bonds.peek(new Bond({ ms: 60_000 }, servers.slice(0, 1), []), client, 2000)).toBeUndefined();
  expect(bonds.peek(bond, client, 61_000)).toBeUndefined();
});
