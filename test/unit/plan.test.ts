/** Configuration, health, slow starts and drains in one plan. */

import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import type { Mode } from '../../src/config/modes.ts';
import { Members } from '../../src/service/members.ts';
import { makePlan, type Plan, type ServerStatus } from '../../src/service/plan.ts';

const WELL: ServerStatus = { state: () => 'up', isSpare: () => false, share: () => 1 };

/** A service's members, without the service. */
class World {
  members: Members | undefined;
  last: Plan | undefined;

  plan(toml: string, status: ServerStatus = WELL, mode: Mode = 'passthrough'): Plan {
    const { config } = parseConfig(toml, 'test.toml');
    if (this.members === undefined) this.members = new Members(config);
    else this.members.enrol(config);
    this.last = makePlan(config, mode, this.members, status, this.last);
    return this.last;
  }
}

const web = (servers: string, more = '') =>
  `[frontends.web]\nlisten_addr = "192.0.2.1:80"\nbackend = "app"\n[backends.app]\n${more}\n[backends.app.servers]\n${servers}\n`;
const names = ({ backends }: Plan) => backends.map(({ choice }) => choice.candidates.map(({ name }) => name.split(':')[0]));

const A = 'a = { addr = "10.0.0.1:80" }\n';
const B = 'b = { addr = "10.0.0.2:80", weight = 3 }\n';

test('candidates are the servers that are up and weigh something', () => {
  const world = new World();
  expect(names(world.plan(web(`${A}${B}c = { addr = "10.0.0.3:80", weight = 0 }`)))).toEqual([['10.0.0.1', '10.0.0.2']]);
  expect(names(world.plan(web(A + B), { ...WELL, state: (key) => (key.includes('/ a /') ? 'down' : 'up') }))).toEqual([['10.0.0.2']]);
});

test('a server that is not to be checked is up, whatever was known of it before', () => {
  const down: ServerStatus = { ...WELL, state: () => 'down' };
  expect(names(new World().plan(web(A, 'health_check = "none"'), down))).toEqual([['10.0.0.1']]);
});

test('backups are candidates only while nobody else is', () => {
  const backup = 'z = { addr = "10.0.0.9:80", backup = true }\n';
  const world = new World();
  expect(names(world.plan(web(A + backup)))).toEqual([['10.0.0.1']]);
  expect(names(world.plan(web(A + backup), { ...WELL, state: (key) => (key.includes('/ z /') ? 'up' : 'down') }))).toEqual([['10.0.0.9']]);
  expect(names(world.plan(web(A + backup), { ...WELL, state: () => 'down' }))).toEqual([[]]);
});

test('a server that is kept out for flapping is better than none', () => {
  const spare = { ...WELL, isSpare: (key: string) => key.includes('/ b /') };
  const world = new World();
  expect(names(world.plan(web(A + B), { ...spare, state: (key) => (key.includes('/ a /') ? 'up' : 'down') }))).toEqual([['10.0.0.1']]);
  expect(names(world.plan(web(A + B), { ...spare, state: () => 'down' }))).toEqual([['10.0.0.2']]);
});

test('a server that left the file is no candidate, but stays among the servers, with its index', () => {
  const world = new World();
  const before = world.plan(web(A + B));
  const after = world.plan(web(B));
  expect(names(after)).toEqual([['10.0.0.2']]);
  expect(after.backends[0]?.servers.map(({ index, draining }) => ({ index, draining }))).toEqual([
    { index: 1, draining: false },
    { index: 0, draining: true },
  ]);
  expect(before.backends[0]?.servers[1]?.index).toBe(1);
});

test('a backend that left the file stays while its servers drain, without candidates', () => {
  const world = new World();
  world.plan(
    `${web(A)}[backends.old.servers]\nx = { addr = "10.0.0.7:80" }\n[frontends.old]\nlisten_addr = "192.0.2.1:81"\nbackend = "old"\n`,
  );
  const { backends, frontends } = world.plan(web(A));
  const old = backends.find(({ backend }) => backend.name === 'old');
  expect(old?.choice.candidates).toEqual([]);
  expect(old?.servers.map(({ draining }) => draining)).toEqual([true]);
  expect(frontends.map(({ frontend, draining }) => `${frontend.name} ${draining}`)).toEqual(['web false', 'old true']);
});

test('a name that moves to another address is another server', () => {
  const world = new World();
  world.plan(web(A));
  const { backends } = world.plan(web('a = { addr = "10.0.0.5:80" }'));
  expect(backends[0]?.servers.map(({ server, index, draining }) => [server.addr.ip, index, draining])).toEqual([
    ['10.0.0.5', 1, false],
    ['10.0.0.1', 0, true],
  ]);
});

test('candidates stand in the order of the file, whoever came first', () => {
  const world = new World();
  world.plan(web(B));
  expect(names(world.plan(web(A + B)))).toEqual([['10.0.0.1', '10.0.0.2']]);
});

test('a server that starts slowly weighs a share of its weight', () => {
  const plan = new World().plan(web(A + B), { ...WELL, share: (key) => (key.includes('/ b /') ? 0.1 : 1) });
  expect(plan.backends[0]?.choice.candidates.map(({ weight }) => weight)).toEqual([1, 3 * 0.1]);
});

test('each mode has its own scheduler, unless the file names one', () => {
  expect(new World().plan(web(A), WELL, 'proxy').backends[0]?.choice.scheduler).toBe('roundrobin');
  expect(new World().plan(web(A), WELL, 'dsr').backends[0]?.choice.scheduler).toBe('maglev');
  expect(new World().plan(web(A, 'balance = "leastconn"'), WELL, 'dsr').backends[0]?.choice.scheduler).toBe('leastconn');
});

test('a lookup table is made anew only when what it is made of has changed', () => {
  const world = new World();
  const first = world.plan(web(A + B)).backends[0]?.choice.table;
  expect(first).toBeDefined();
  expect(world.plan(web(A + B)).backends[0]?.choice.table).toBe(first);
  expect(world.plan(web(A)).backends[0]?.choice.table).not.toBe(first);
});
