/** `balance = "glb"`: what a file may say with it, and what a plan makes of states, health and orders. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { glbRow } from '../../src/balance/glb-hash.ts';
import { hopsOf, primaryOf, ROWS, rankRows, secondaryOf } from '../../src/balance/glb-table.ts';
import { createScheduler, isSameChoice } from '../../src/balance/index.ts';
import { parseConfig } from '../../src/config/load.ts';
import { kindsOf } from '../../src/config/model.ts';
import type { Mode } from '../../src/config/modes.ts';
import { renderKeys } from '../../src/config/written.ts';
import { formatMistake, messageOf } from '../../src/errors.ts';
import { formatAddress, parseAddress } from '../../src/packet/address.ts';
import { changesBetween } from '../../src/service/changes.ts';
import { GlbRanks } from '../../src/service/glb-ranks.ts';
import { Members } from '../../src/service/members.ts';
import { settingsOf } from '../../src/service/packet-path.ts';
import { makePlan, type Plan, type ServerStatus, UNCHECKED, weightObstacle } from '../../src/service/plan.ts';

const HEAD = `[frontends.web]
listen_addr = "1.1.1.1:80"
backend = "web"
[backends.web]
balance = "glb"
hash_key = "12345678901234561234567890123456"
seed = "34567890123456783456789012345678"
`;
const server = (name: string, addr: string, more = '') => `servers.${name} = { addr = "${addr}:80"${more} }\n`;
const [A, B, C] = [server('a', '1.2.3.4'), server('b', '2.3.4.5'), server('c', '3.4.5.6')];

/** Ranked once for all. */
const ranked = new Map<string, Uint16Array>();
const rank = (seed: string, addresses: readonly number[]): Uint16Array => {
  const known = ranked.get([seed, ...addresses].join()) ?? rankRows(seed, addresses);
  ranked.set([seed, ...addresses].join(), known);
  return known;
};

class Balancer {
  last: Plan | undefined;
  members: Members | undefined;

  plan(servers: string, status: Partial<ServerStatus> = {}): Plan {
    const { config } = parseConfig(HEAD + servers, 'f', { mode: 'dsr' });
    if (this.members === undefined) this.members = new Members(config);
    else this.members.enrol(config);
    this.last = makePlan(config, 'dsr', this.members, { ...UNCHECKED, ...status }, this.last, rank);
    return this.last;
  }
}

const choiceOf = ({ backends }: Plan) => backends[0].choice;

/** Where two clients go, and their seconds: they are those of GLB's own tests (glb.test.ts). */
function hops(plan: Plan) {
  const choice = choiceOf(plan);
  const scheduler = createScheduler(structuredClone(choice), new Int32Array(16));
  const rows = scheduler?.rows;
  if (scheduler === undefined || rows === undefined) throw new Error('no scheduler');
  const nameOf = (position: number) => choice.candidates[position].name.split('.')[0];
  return ['127.1.0.1', '127.199.255.255'].map((client) => {
    const both = hopsOf(rows.table, glbRow(rows.hash(parseAddress(client), 0, 0)));
    expect(scheduler.pick(parseAddress(client), 0)).toBe(primaryOf(both));
    return [primaryOf(both), secondaryOf(both)].map(nameOf).join();
  });
}

describe('a plan', () => {
  test.each<[string, string, Partial<ServerStatus>, [string, string]]>([
    ['all active', A + B + C, {}, ['1,2', '3,2']],
    ['draining', A + B + server('c', '3.4.5.6', ', state = "draining"'), {}, ['1,2', '2,3']],
    ['filling', A + B + server('c', '3.4.5.6', ', state = "filling"'), {}, ['1,2', '3,2']],
    ['inactive', server('a', '1.2.3.4', ', state = "inactive"') + B + C, {}, ['2,3', '3,2']],
    ['not healthy', A + B + C, { state: (key) => (key.includes('/ c /') ? 'down' : 'up') }, ['1,2', '2,3']],
    ['not healthy, and held', A + B + C, { state: (key) => (key.includes('/ c /') ? 'down' : 'up'), held: () => 'up' }, ['1,2', '3,2']],
    [
      'set down by an order, which waits for nothing',
      A + B + C,
      { setting: (_, { name }) => (name === 'c' ? { state: 'down' } : undefined), held: () => 'up' },
      ['1,2', '2,3'],
    ],
    ['none healthy', A + B + C, { state: () => 'down' }, ['1,2', '3,2']],
    ['taken out by an order', A + B + C, { setting: (_, { name }) => (name === 'c' ? { state: 'drain' } : undefined) }, ['1,2', '2,3']],
    ['set down by an order', A + B + C, { setting: (_, { name }) => (name === 'c' ? { state: 'down' } : undefined) }, ['1,2', '2,3']],
    ['in another order', C + A + B, {}, ['1,2', '3,2']],
  ])('%s', (_, servers, status, expected) => {
    expect(hops(new Balancer().plan(servers, status))).toEqual(expected);
  });

  test.each<[string, string, Partial<ServerStatus>, string[]]>([
    ['nobody', A + B + C, {}, []],
    ['who is down', A + B + C, { state: (key) => (key.includes('/ c /') ? 'down' : 'up') }, ['3.4.5.6']],
    [
      'nobody while the table holds it for well',
      A + B + C,
      { state: (key) => (key.includes('/ c /') ? 'down' : 'up'), held: () => 'up' },
      [],
    ],
    ['nobody where all are down', A + B + C, { state: () => 'down' }, []],
    [
      'nobody where the others drain, whose rows do not swap',
      server('a', '1.2.3.4', ', state = "draining"') + C,
      { state: (key) => (key.includes('/ c /') ? 'down' : 'up') },
      [],
    ],
  ])('flows of datagrams leave %s', (_, servers, status, expected) => {
    const { backends } = settingsOf(new Balancer().plan(servers, status), 'dsr').services;
    const lost = backends.flatMap((backend) => backend.servers.filter((one) => one.lost));
    expect(lost.map(({ address }) => formatAddress(address))).toEqual(expected);
  });

  test('two balancers agree, whatever the order of their files and what they went through', () => {
    const [one, other] = [new Balancer(), new Balancer()];
    other.plan(server('x', '9.9.9.9') + C + B, { state: () => 'down' });
    const [a, b] = [one.plan(A + B + C), other.plan(C + B + A)].map((plan) => {
      const { table, candidates } = choiceOf(plan);
      return Array.from(table ?? [], (position) => candidates[position].name);
    });
    expect(a).toHaveLength(2 * ROWS);
    expect(a).toEqual(b);
  });

  test('the generation is another one with another table alone, and the same after a restart', () => {
    const balancer = new Balancer();
    const generation = (plan: Plan) => choiceOf(plan).rows?.generation;
    const [first, drained] = [balancer.plan(A + B + C), balancer.plan(A + B + server('c', '3.4.5.6', ', state = "draining"'))];
    expect(generation(drained)).not.toBe(generation(first));
    expect(isSameChoice(choiceOf(drained), choiceOf(first))).toBe(false);
    expect(choiceOf(balancer.plan(A + B + server('c', '3.4.5.6', ', state = "draining"'))).table).toBe(choiceOf(drained).table);
    const again = new Balancer().plan(A + B + C);
    expect(generation(again)).toBe(generation(first));
    expect(isSameChoice(choiceOf(again), choiceOf(first))).toBe(true);
  });
});

test('the log of a reload has no whole key', () => {
  const configOf = (text: string) => parseConfig(text, 'f').config;
  const [change] = changesBetween(configOf(HEAD + A), configOf(HEAD.replace('"1234', '"4321') + A));
  expect(change?.fields).toEqual({ backend: 'web', hash_key: '1234… → 4321…' });
});

test('what is ranked already, a plan takes as it is', async () => {
  const warnings: string[] = [];
  const ranks = new GlbRanks({ warn: (_: unknown, text?: string) => void warnings.push(text ?? '') });
  const { config } = parseConfig(HEAD + C + A + B, 'f');
  await ranks.prepare(config);
  await ranks.follow(config);
  expect(ranks.prepare(config)).toBe(undefined);
  const addresses = ['1.2.3.4', '2.3.4.5', '3.4.5.6'].map(parseAddress).toSorted((a, b) => a - b);
  const [known] = [ranks.rank('34567890123456783456789012345678', addresses)];
  expect(ranks.rank('34567890123456783456789012345678', addresses)).toBe(known);
  expect(known).toEqual(rank('34567890123456783456789012345678', addresses));
  // Here, from source, there is no bundle whose thread could do it.
  expect(warnings).toHaveLength(1);
});

describe('a file', () => {
  const check = (toml: string, mode: Mode = 'dsr'): string[] => {
    try {
      return parseConfig(toml, 'f', { mode }).warnings.map(({ path, message }) => `warning: ${path}: ${message}`);
    } catch (error) {
      return messageOf(error).split('\n');
    }
  };

  test('is good in the packet modes alone', () => {
    expect(check(HEAD + A)).toEqual([]);
    expect(check(HEAD + A, 'passthrough')).toEqual([]);
    expect(check(HEAD + A, 'proxy')).toEqual([
      'f:5:11: backends.web.balance: "glb" is for packets; needed: --passthrough or --dsr, or another balance',
    ]);
  });

  test('has both keys', () => {
    const why = 'missing; needed with balance = "glb": 32 hexadecimal digits, the same on all balancers';
    expect(check(HEAD.replace(/hash_key.*\n/, '') + A)).toEqual([`f:4:1: backends.web.hash_key: ${why}`]);
    expect(check(HEAD.replace('seed = "34', 'seed = "3x') + A)).toEqual([
      'f:7:8: backends.web.seed: "3x567890123456783456789012345678" is no such key; allowed: 32 hexadecimal digits, "0123456789abcdef0123456789abcdef"',
    ]);
    expect(check(`${HEAD}hash_fields = []\n${A}`)).toEqual([
      expect.stringMatching(/^f:8:15: backends\.web\.hash_fields: is an empty array/),
    ]);
  });

  test('names other fields where packets can have a list of servers', () => {
    const file = (dsr: string) => `${HEAD}alt_hash_fields = ["source_port"]\ndsr = "${dsr}"\nhealth_check = "none"\n${A}`;
    const warnings = [
      'warning: backends.web.alt_hash_fields: has no effect but with --dsr and dsr = "gue": other packets have no list of servers',
    ];
    expect(check(file('gue'))).toEqual([]);
    expect(check(file('ipip'))).toEqual(warnings);
    expect(check(file('gue'), 'passthrough')).toEqual(warnings);
  });

  test('has nothing that rows do not know', () => {
    const why = 'with balance = "glb" rows alone say where packets go; allowed:';
    const all = server('a', '1.2.3.4', ', maxconn = 1, weight = 2, backup = true');
    expect(check(`${HEAD}affinity = 5\nslow_start = 1\n${all}${B}`, 'passthrough')).toEqual([
      `f:8:12: backends.web.affinity: ${why} 0, or no such key`,
      `f:9:14: backends.web.slow_start: ${why} 0, or no such key`,
      `f:10:46: backends.web.servers.a.maxconn: ${why} 0, or no such key`,
      `f:10:58: backends.web.servers.a.weight: ${why} 1, or no such key`,
      `f:10:70: backends.web.servers.a.backup: ${why} false, or no such key`,
    ]);
  });

  test('has servers that can be ranked', () => {
    expect(check(`${HEAD}servers.a = { srv = "_http._tcp.a.internal" }\n`)).toEqual([
      'f:8:21: backends.web.servers.a.srv: with balance = "glb" servers are ranked by their addresses; needed: addr = "192.0.2.7:80", IPv4',
    ]);
    expect(check(HEAD + A + 'servers.z = { addr = "1.2.3.4:81" }\n', 'passthrough')).toEqual([
      'f:9:22: backends.web.servers.z.addr: "1.2.3.4" is ranked already, as server "a", line 8; needed with balance = "glb": an address of its own',
    ]);
    const many = Array.from({ length: 257 }, (_, i) => server(`s${i}`, `10.0.${i >> 8}.${i & 255}`)).join('');
    expect(check(HEAD + many.replaceAll('10.0.0.0:', '10.0.9.0:'))).toEqual([
      "f:264:16: backends.web.servers.s256: this is one too many: a table of GLB's has 256 servers at most",
    ]);
  });

  test('has one server at a time on its way, and no keys for nobody', () => {
    expect(check(HEAD + server('a', '1.2.3.4', ', state = "draining"') + server('b', '2.3.4.5', ', state = "filling"'))).toEqual([
      'warning: backends.web.servers.b.state: server "a" is not active either, line 8: connections of rows that have both break; one server at a time',
    ]);
    expect(check(HEAD.replace('"glb"', '"maglev"').replace(/hash_key.*\n/, '') + server('a', '1.2.3.4', ', state = "filling"'))).toEqual([
      'warning: backends.web.seed: has no effect without balance = "glb"',
      'warning: backends.web.servers.a.state: has no effect without balance = "glb"',
    ]);
  });
});

test('a weight that the table does not know cannot be set; 0 drains, and the own one takes it back', () => {
  const { config } = parseConfig(HEAD + server('a', '1.2.3.4'), 'f', { mode: 'passthrough' });
  const [backend] = config.backends;
  const obstacle = (weight: number) => weightObstacle(backend, backend.servers[0], weight);
  expect([obstacle(0), obstacle(1), obstacle(5)]).toEqual([
    undefined,
    undefined,
    'backend "web" has balance = "glb", whose table knows no weights; possible: 0, as state drain, and 1',
  ]);
  const { glb: _, ...other } = backend;
  expect(weightObstacle(other, backend.servers[0], 5)).toBeUndefined();
});

describe('[glb]', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lb4-glb-keys-'));
  afterAll(() => rmSync(directory, { recursive: true }));
  const [json, conf] = [join(directory, 'table.json'), join(directory, 'director.conf')];
  const TOML = `[glb]\nforwarding_table = "${json}"\n`;
  const write = (binds: string, more = '') =>
    writeFileSync(
      json,
      `{"tables": [{"name": "web", "hash_key": "12345678901234561234567890123456", "seed": "34567890123456783456789012345678",\n"binds": [${binds}],\n"backends": [{"ip": "1.2.3.4", "state": "active"${more}}]}]}`,
    );
  const BIND = '{"ip": "1.1.1.1", "proto": "tcp", "port": 80}';
  const read = (toml: string, mode: Mode = 'passthrough', isOwn?: (address: { readonly ip: string }) => boolean) => {
    const asked: string[] = [];
    const loaded = parseConfig(toml, 'f', { mode, isOwnSource: isOwn, reads: (path) => asked.push(path) });
    return { ...loaded, asked };
  };
  const refusal = (toml: string) => {
    try {
      read(toml);
    } catch (error) {
      return messageOf(error).replaceAll(json, 'j').replaceAll(conf, 'd');
    }
    return 'good';
  };

  test('a file may have nothing else, and is told of the others before they are read', () => {
    write(BIND, ', "healthy": true');
    writeFileSync(conf, '{"hash_fields": {"src_addr": true, "dst_port": true}}');
    const { config, asked, keys, warnings } = read(`${TOML}director = "${conf}"\n`);
    expect(asked).toEqual([json, conf]);
    expect(config.files).toEqual([json, conf]);
    expect(warnings).toEqual([]);
    expect(config.frontends.map(({ name, listen, backend }) => [name, listen.text, backend.glb?.hashFields])).toEqual([
      ['web', '1.1.1.1:80', ['source', 'destination_port']],
    ]);
    // What is in effect stands there once.
    const { config: again } = parseConfig(renderKeys(keys, 'passthrough'), 'f', { mode: 'passthrough' });
    expect(again.backends).toEqual(config.backends);
    expect(again.files).toBeUndefined();
  });

  test('stands beside what the file has itself, and mistakes of both name their file', () => {
    write(`${BIND}, {"ip": "fdb4::1", "proto": "tcp", "port": 80}`, ', "healthy": true');
    const own = (name: string, address: string) =>
      `[frontends.${name}]\nlisten_addr = "${address}"\nbackend = "own"\n[backends.own]\nservers.a = { addr = "9.9.9.9:80" }\n`;
    const { config, warnings } = read(TOML + own('own', '1.1.1.2:80'));
    expect(config.frontends.map(({ name }) => name).toSorted()).toEqual(['own', 'web']);
    expect(warnings.map((one) => formatMistake(one).replaceAll(json, 'j'))).toEqual([
      'j:2:58: warning: tables[0].binds[1]: left out: lb4 forwards packets of IPv4 alone',
    ]);
    expect(refusal(TOML + own('web', '1.1.1.2:80'))).toContain(
      "j:2:11: tables[0].binds[0]: frontends.web stands in lb4's own file as well, line 3; needed: another name of this table",
    );
    expect(refusal(TOML + own('own', '1.1.1.1:80'))).toMatch(/^j:2:11: frontends\.web\.listen_addr: .*frontend "own"/m);
  });

  test('checks by the tunnel are left out, and told, where there are no tunnels', () => {
    const doubts = (mode: Mode) => {
      const { config, warnings } = read(TOML, mode);
      return [kindsOf(config.backends[0].healthCheck), ...warnings.map((one) => formatMistake(one).replaceAll(json, 'j'))];
    };
    write(BIND, ', "healthchecks": {"gue": 19523}');
    const left = /^j:3:\d+: warning: .*: left out: healthchecks\.gue: there are tunnels with --dsr alone; TCP is asked$/;
    expect(doubts('passthrough')).toEqual([['tcp'], expect.stringMatching(left)]);
    expect(doubts('dsr')).toEqual([['gue']]);
    write(BIND, ', "healthchecks": {"gue": 19523, "http": 80}');
    expect(doubts('passthrough')).toEqual([['http'], expect.stringMatching(/left out: .* with --dsr alone$/)]);
    expect(doubts('dsr')).toEqual([['gue', 'http']]);
  });

  test('what a director does otherwise is told, and its own address is taken by its own host', () => {
    write(BIND);
    writeFileSync(conf, '{"outbound_src_ip": "192.168.50.5",\n"forward_icmp_ping_responses": true,\n"num_worker_queues": 1}');
    const doubts = (more: string, isOwn: boolean) => {
      const { config, warnings } = read(`${more}\n${TOML}director = "${conf}"\n`, 'dsr', ({ ip }) => isOwn && ip === '192.168.50.5');
      const lines = warnings.map((one) => formatMistake(one).replaceAll(json, 'j').replaceAll(conf, 'd'));
      return [config.backends[0].tunnel?.source, ...lines.map((line) => line.slice(0, 90))];
    };
    const pings = 'frontends.pings = { listen_addr = "1.1.1.1", protocol = "icmp", backend = "web" }';
    const health = 'j:3:14: warning: healthy is missing: lb4, which is to check none of them, takes that for healthy, '.slice(0, 90);
    expect(doubts(pings, true)).toEqual(['192.168.50.5', health]);
    expect(doubts('', false)).toEqual([
      undefined,
      health,
      'd:1:21: warning: outbound_src_ip: left out: 192.168.50.5 is no address of this host: wrapped'.slice(0, 90),
      'd:2:32: warning: forward_icmp_ping_responses: left out: directors have servers answer pings, unless'.slice(0, 90),
    ]);
  });

  test('files that are wrong, or are not there, are refused with their lines', () => {
    write(BIND, ', "state": "up"');
    expect(refusal(TOML)).toBe(
      'j:3:60: tables[0].backends[0].state: "up" is not good; allowed: "filling", "active", "draining", "inactive"',
    );
    write(Array.from({ length: 300 }, () => '{"ip": "1.1.1.1", "proto": "icmp", "port": 80}').join(', '));
    const many = refusal(TOML).split('\n');
    // And no bind that is good.
    expect([many.length, many.at(-1)]).toEqual([201, 'f: … and 101 more']);
    write('[],'.repeat(200_001));
    expect(refusal(TOML)).toMatch(/^j: it has more keys, tables and values than any configuration needs/);
    write(BIND);
    expect(refusal(`${TOML}director = "${conf}.none"\n`)).toBe('d.none: cannot be read: no such file or directory (ENOENT)');
    expect(refusal('[glb]\nforwarding_table = "table.json"\n')).toMatch(
      /^f:2:20: glb\.forwarding_table: "table\.json" is no absolute path/m,
    );
  });
});
