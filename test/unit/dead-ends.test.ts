/** Ways that lead nowhere are told once each, when they have lasted, and once when they are over. */
import { beforeEach, expect, test, vi } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import type { DeadEnd, Obstacle } from '../../src/engine/routes.ts';
import type { Health } from '../../src/health/checker.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { DeadEnds } from '../../src/service/dead-ends.ts';
import { Members } from '../../src/service/members.ts';
import { makePlan, type Plan } from '../../src/service/plan.ts';

const TOML = `frontends.one = { listen_addr = "192.0.2.1:80", backend = "b" }
frontends.two = { listen_addr = "192.0.2.2:80", backend = "b" }
[backends.b.servers]
s = { addr = "10.0.0.1:80" }
t = { addr = "10.0.0.2:80" }`;

function planWith(state: Health): Plan {
  const { config } = parseConfig(TOML, 'test.toml');
  const status = { state: () => state, isSpare: () => false, share: () => 1 };
  return makePlan(config, 'passthrough', new Members(config), status, undefined);
}

const end = (source: string, destination: string, why: Obstacle = 'blackhole'): DeadEnd => {
  return { source: parseAddress(source), destination: parseAddress(destination), onLink: false, why };
};

const lines: [string, object][] = [];
const note = (fields: object, message: string) => lines.push([message, fields]);
let deadEnds: DeadEnds;

/** Looks as often at the same, and returns what was said. */
function look(times: number, found: DeadEnd[], state: Health = 'up'): [string, object][] {
  lines.length = 0;
  for (let i = 0; i < times; i++) deadEnds.look(found, planWith(state));
  return [...lines];
}

beforeEach(() => {
  deadEnds = new DeadEnds('passthrough', { warn: vi.fn(note), info: vi.fn(note) } as never);
});

const NO_WAY = 'no way from this host to a server: its packets are dropped';
const BACK = 'the way from this host to a server is there again';

test('a way that lasts is told once, counted, and told once when it is over', () => {
  const found = [end('192.0.2.2', '10.0.0.1')];
  expect(look(2, found)).toEqual([]);
  const reason = expect.stringContaining('ip route get SERVER from ADDRESS');
  expect(look(5, found)).toEqual([[NO_WAY, { count: 1, ways: ['192.0.2.2 -> 10.0.0.1'], reason }]]);
  expect([deadEnds.of('b', '10.0.0.1'), deadEnds.of('b', '10.0.0.2')]).toEqual([1, 0]);
  expect(look(3, [])).toEqual([[BACK, { count: 1, ways: ['192.0.2.2 -> 10.0.0.1'] }]]);
  expect(deadEnds.of('b', '10.0.0.1')).toBe(0);
});

test('a route that is replaced in two steps, a way of old connections, and a server that is down are not told', () => {
  const found = [end('192.0.2.2', '10.0.0.1')];
  for (let i = 0; i < 4; i++) expect([...look(2, found), ...look(1, [])]).toEqual([]);
  expect(look(4, [end('192.0.2.9', '10.0.0.1')])).toEqual([]);
  expect(look(4, found, 'down')).toEqual([]);
});

test('a server that goes down meanwhile has not got its way back', () => {
  const found = [end('192.0.2.2', '10.0.0.1')];
  look(3, found);
  expect(look(3, found, 'down')).toEqual([]);
  expect(look(3, [], 'up')).toEqual([]);
});

test('one line for each reason, however many ways', () => {
  const ways = ['10.0.0.1', '10.0.0.2'].map((server) => end('192.0.2.1', server, 'source'));
  const said = look(3, [...ways, end('192.0.2.2', '10.0.0.1', 'neighbour')]);
  expect(said.map(([message, fields]) => [message, (fields as { count: number }).count])).toEqual([
    ['an address has left this host', 2],
    [NO_WAY, 1],
  ]);
  expect(deadEnds.of('b', '10.0.0.1')).toBe(2);
});
