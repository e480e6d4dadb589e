import { createHash } from 'node:crypto';
import { chmodSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { glbHash, glbRow, type HashField } from '../../src/balance/glb-hash.ts';
import { glbTable, hopsOf, primaryOf, rankRows, type Standing, secondaryOf } from '../../src/balance/glb-table.ts';
import { sipHash, sipKey } from '../../src/balance/siphash.ts';
import { ConfigError, FailureError, formatMistake, messageOf } from '../../src/errors.ts';
import { binaryTables } from '../../src/glb/binary.ts';
import { buildConfig } from '../../src/glb/build-config.ts';
import { readForwardingTables } from '../../src/glb/forwarding-table.ts';
import { parseAddress, portsWord } from '../../src/packet/address.ts';

/** Of GLB's own tests: tests/data/table.json. */
const KEY = '12345678901234561234567890123456';
const SEED = '34567890123456783456789012345678';
const THREE = ['1.2.3.4', '2.3.4.5', '3.4.5.6'];

function digestOf(key: string, bytes: Uint8Array): string {
  const padded = new Uint8Array(Math.ceil((bytes.length + 1) / 8) * 8);
  padded.set(bytes);
  const digest = new Int32Array(2);
  sipHash(sipKey(key), new Int32Array(padded.buffer), bytes.length, digest);
  return Buffer.from(digest.buffer).toString('hex');
}

// The vectors of SipHash's authors (vectors.h): the first so many bytes of 00 01 02 … under the key 00 01 … 0f.
test.each([
  [0, '310e0edd47db6f72'],
  [1, 'fd67dc93c539f874'],
  [7, '37d1018bf50002ab'],
  [8, '6224939a79f5f593'],
  [12, 'fbe50e86bc8f1e75'],
  [15, 'e545be4961ca29a1'],
])('SipHash-2-4 of %i bytes', (length, digest) => {
  const bytes = Uint8Array.from({ length }, (_, i) => i);
  expect(digestOf('000102030405060708090a0b0c0d0e0f', bytes)).toBe(digest);
});

/** Ranked once: it is most of the time that these tests take. */
const ranked = new Map<string, Uint16Array>();
function ranksOf(servers: readonly string[]): Uint16Array {
  const known = ranked.get(servers.join()) ?? rankRows(SEED, servers.map(parseAddress));
  ranked.set(servers.join(), known);
  return known;
}

type States = Partial<Record<string, Partial<Standing>>>;

/** A table of those servers, all active and well but for `but`; where a client goes by it. */
function tableOf(servers: readonly string[], but: States = {}, rule?: 'state') {
  const standings = servers.map((ip, position) => ({ position, state: 'active' as const, healthy: true, ...but[ip] }));
  const table = glbTable(ranksOf(servers), standings, rule);
  const hops = (row: number) => {
    const both = hopsOf(table, row);
    return [servers[primaryOf(both)], servers[secondaryOf(both)]];
  };
  return { table, hops };
}

const hashOf = (source: string, port = 0, fields: readonly HashField[] = ['source']) =>
  glbHash(KEY, fields)(parseAddress(source), parseAddress('1.1.1.1'), portsWord(port, 80));

// GLB's stub_server_tests.sh: the low half of its hashes, and where the two clients go as its tables change.
test('clients have the hashes that GLB gives them', () => {
  expect((hashOf('127.1.0.1') >>> 0).toString(16)).toBe('67911c9a');
  expect((hashOf('127.199.255.255') >>> 0).toString(16)).toBe('1b0f36f6');
});

test.each<[string, string[], States, [string, string], [string, string]]>([
  ['all active', THREE, {}, ['1.2.3.4', '2.3.4.5'], ['3.4.5.6', '2.3.4.5']],
  ['1.2.3.4 gone', THREE.slice(1), {}, ['2.3.4.5', '3.4.5.6'], ['3.4.5.6', '2.3.4.5']],
  ['3.4.5.6 draining', THREE, { '3.4.5.6': { state: 'draining' } }, ['1.2.3.4', '2.3.4.5'], ['2.3.4.5', '3.4.5.6']],
  ['3.4.5.6 not healthy', THREE, { '3.4.5.6': { healthy: false } }, ['1.2.3.4', '2.3.4.5'], ['2.3.4.5', '3.4.5.6']],
  ['3.4.5.6 filling', THREE, { '3.4.5.6': { state: 'filling' } }, ['1.2.3.4', '2.3.4.5'], ['3.4.5.6', '2.3.4.5']],
])('as GLB, two clients go: %s', (_, servers, but, first, second) => {
  const { hops } = tableOf(servers, but);
  expect(hops(glbRow(hashOf('127.1.0.1')))).toEqual(first);
  expect(hops(glbRow(hashOf('127.199.255.255')))).toEqual(second);
});

// GLB's test_director_hash_fields.py.
test.each<[number, HashField[], [string, string]]>([
  [45678, ['source'], ['3.4.5.6', '2.3.4.5']],
  [45679, ['source'], ['3.4.5.6', '2.3.4.5']],
  [45680, ['source'], ['3.4.5.6', '2.3.4.5']],
  [45678, ['source', 'source_port'], ['1.2.3.4', '2.3.4.5']],
  [45679, ['source', 'source_port'], ['1.2.3.4', '3.4.5.6']],
  [45680, ['source_port', 'source'], ['2.3.4.5', '3.4.5.6']],
])('from port %i by %j', (port, fields, hops) => {
  expect(tableOf(THREE).hops(glbRow(hashOf('10.11.12.13', port, fields)))).toEqual(hops);
});

test('every field is hashed where GLB has it: source, destination, source port, destination port', () => {
  const bytes = (...parts: number[]) => Uint8Array.from(parts);
  const low = (fields: HashField[], part: Uint8Array) => {
    const hash = glbHash(KEY, fields)(parseAddress('10.11.12.13'), parseAddress('1.1.1.1'), portsWord(0x1234, 0x5678));
    expect(Buffer.from(Int32Array.of(hash).buffer).toString('hex')).toBe(digestOf(KEY, part).slice(0, 8));
  };
  low(['source', 'destination', 'source_port', 'destination_port'], bytes(10, 11, 12, 13, 1, 1, 1, 1, 0x12, 0x34, 0x56, 0x78));
  low(['destination', 'destination_port'], bytes(1, 1, 1, 1, 0x56, 0x78));
  low(['destination_port'], bytes(0x56, 0x78));
  low(['source', 'destination'], bytes(10, 11, 12, 13, 1, 1, 1, 1));
});

test('a secondary takes the place of its primary only if it can serve; GLB asks for its state alone', () => {
  const but = { '3.4.5.6': { state: 'draining' }, '2.3.4.5': { healthy: false } } as const;
  const row = glbRow(hashOf('127.199.255.255'));
  expect(tableOf(THREE, but).hops(row)).toEqual(['3.4.5.6', '2.3.4.5']);
  expect(tableOf(THREE, but, 'state').hops(row)).toEqual(['2.3.4.5', '3.4.5.6']);
  const filling = { ...but, '2.3.4.5': { state: 'filling' } } as const;
  expect(tableOf(THREE, filling, 'state').hops(row)).toEqual(['3.4.5.6', '2.3.4.5']);
});

test('the order of servers is nothing to a row', () => {
  const backwards = tableOf(THREE.toReversed());
  const forwards = tableOf(THREE);
  for (let row = 0; row < 0x10000; row += 97) expect(backwards.hops(row)).toEqual(forwards.hops(row));
});

test('a server that is alone is its own second', () => {
  const { table } = tableOf(['1.2.3.4']);
  expect(new Set(table)).toEqual(new Set([0]));
});

// glb-director-cli's own, of the same two files (test/fixtures/glb).
test.each([
  ['table.json', 'd68cd7ce00f406f0a52ea5f9926449718447a667a5453c570dca033b6252eaf0'],
  ['table1.json', '611f9ad9651b8d1bb6a93320b32b8ac399f701073c0a825cabacb5a07bcf3e8a'],
])('%s becomes the very bytes that glb-director-cli makes of it', (file, sum) => {
  const { tables, mistakes } = readForwardingTables(readFileSync(new URL(`../fixtures/glb/${file}`, import.meta.url), 'utf8'), file);
  expect(mistakes).toEqual([]);
  expect(createHash('sha256').update(binaryTables(tables)).digest('hex')).toBe(sum);
});

describe('build-config', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lb4-glb-'));
  afterAll(() => rmSync(directory, { recursive: true }));
  const made = join(directory, 'a.bin');
  const table = (backends: string) =>
    `{"tables": [{"hash_key": "${KEY}", "seed": "${SEED}",\n "binds": [{"ip": "10.0.0.0/8", "proto": "udp", "port_start": 1, "port_end": 9}],\n "backends": [${backends}]}]}`;
  const refusal = (text: string) => {
    try {
      buildConfig(text, 'f', made);
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      return messageOf(error).split('\n');
    }
    return [];
  };

  test('writes at once, and a mistake leaves what was there', () => {
    // A director's own user may read it.
    writeFileSync(made, 'old');
    chmodSync(made, 0o640);
    if (process.getuid?.() === 0) chownSync(made, 1, 2);
    const { uid, gid } = statSync(made);
    const text = table('{"ip": "1.2.3.4", "state": "active", "healthy": true}, {"ip": "2.3.4.5", "state": "inactive"}');
    expect(buildConfig(text, 'f', made)).toEqual([]);
    expect(statSync(made)).toMatchObject({ uid, gid, mode: 0o100640 });
    const bytes = readFileSync(made);
    // A range of ports and a network; nobody but the first one is in a row.
    expect(
      bytes
        .subarray(24 + 4 + 256 * 24 + 4)
        .subarray(0, 28)
        .toString('hex'),
    ).toBe(`010000000a${'00'.repeat(15)}0800010009001100`);
    expect(bytes.subarray(-65_536 * 8).every((byte) => byte === 0)).toBe(true);
    expect(refusal(table(''))).toEqual(['f:1:13: no backend is in any row; needed: one that is not inactive']);
    expect(readFileSync(made).equals(bytes)).toBe(true);
    expect(readdirSync(directory).toSorted()).toEqual(['a.bin']);
    // Somebody else's.
    const taken = join(directory, `.glb-table-${process.pid}`);
    writeFileSync(taken, '');
    expect(() => buildConfig(text, 'f', made)).toThrow(FailureError);
    expect(readdirSync(directory)).toContain(basename(taken));
    rmSync(taken);
    expect(readFileSync(made).equals(bytes)).toBe(true);
    const fresh = join(directory, 'fresh.bin');
    buildConfig(text, 'f', fresh);
    expect(statSync(fresh).mode).toBe(0o100600);
  });

  test('says what is doubtful', () => {
    const text = table('{"ip": "1.2.3.4", "state": "draining"},\n {"ip": "2.3.4.5", "state": "filling"}');
    expect(buildConfig(text, 'f', made).map(formatMistake)).toEqual([
      'f:4:2: warning: tables[0].backends[1]: 2.3.4.5 is filling while 1.2.3.4 is draining, line 3: connections of rows that have both break; one server at a time',
      'f:3:15: warning: healthy is missing, as of 1 more of this table: this table takes that for unhealthy, as glb-director-cli does',
    ]);
  });

  test('refuses with a line for each mistake', () => {
    const backend = (ip: string, more = '') => `{"ip": "${ip}", "state": "active", "healthy": true${more}}`;
    expect(refusal(table(`${backend('1.2.3.4')}, ${backend('1.2.3.4')}`))).toEqual([
      'f:3:70: tables[0].backends[1]: 1.2.3.4 stands twice in this table: line 3 has it, too',
    ]);
    expect(refusal(table(backend('fdb4::1')))).toEqual([
      'f:3:22: tables[0].backends[0].ip: "fdb4::1" is not good; allowed: an IPv4 address',
    ]);
    expect(refusal(table(backend('1.2.3.4', ', "helthy": 1').replace('active', 'Active')))).toEqual([
      'f:3:42: tables[0].backends[0].state: "Active" is not good; allowed: "filling", "active", "draining", "inactive"',
      'f:3:79: warning: tables[0].backends[0].helthy: unknown key, ignored; did you mean "healthy"?',
    ]);
    const many = Array.from({ length: 257 }, (_, i) => backend(`10.0.${i >> 8}.${i & 255}`)).join(',');
    expect(refusal(table(many))).toEqual([
      expect.stringMatching(
        /^f:3:\d+: tables\[0\]\.backends\[256\]: this is one too many: the table has 257 backends; allowed: at most 256$/,
      ),
    ]);
    expect(refusal('{"tables": {}}')).toEqual(['f:1:12: tables: is no array; needed: an array of tables']);
    expect(refusal('{"tables": [{"hash_key": "12"}]}')).toEqual([
      'f:1:13: tables[0]: binds is missing; needed: an array of addresses that clients connect to',
      'f:1:13: tables[0]: backends is missing; needed: an array of servers',
      'f:1:13: tables[0]: seed is missing; needed: 32 hexadecimal digits',
      'f:1:26: tables[0].hash_key: this value is not good; allowed: 32 hexadecimal digits',
    ]);
    expect(refusal('{"tables": [],\n}')).toEqual([expect.stringMatching(/^f:2:1: not valid JSON: /)]);
    expect(refusal('{"tables": [1,\n ]}')).toEqual(["f:2:2: not valid JSON: Unexpected token ']'"]);
    expect(refusal('[]')).toEqual(['f:1:1: is no object; needed: { … }']);
  });

  test('a mistake tells no key of a hash, not all of a long text, and nothing that a terminal would obey', () => {
    const [key, escape] = ['0123456789abcdef', '\x1b\x9b'];
    expect(refusal(`{"tables": [],\n "hash_key": "${key}", "x": \x1b}`)).toEqual(["f:2:39: not valid JSON: Unexpected token '\\u001b'"]);
    expect(refusal(`{"tables": [{"hash_key": "${key}", "seed": ["${key}"]}]}`).join()).not.toContain(key);
    expect(refusal(`{"tables": {}, "${JSON.stringify(escape).slice(1, -1)}": 1}`)).toContain(
      'f:1:27: warning: "\\u001b\\u009b": unknown key, ignored',
    );
    const long = refusal(`{"tables": [{"name": 1, "binds": [{"ip": "${'a'.repeat(1000)}"}], "${'b'.repeat(1000)}": 1}]}`);
    expect(long.filter((line) => line.length > 300)).toEqual([]);
  });

  test('a file of one line is gone through once to find out what lines it has', () => {
    const backends = Array.from({ length: 250 }, (_, i) => `{"ip": "1.2.3.${i}", "state": "active", "healthy": true}`);
    const text = table(backends.join()).replaceAll('\n', '');
    const looks = vi.spyOn(String.prototype, 'indexOf');
    readForwardingTables(text, 'f');
    const ends = looks.mock.calls.filter(([wanted]) => wanted === '\n').length;
    looks.mockRestore();
    expect(ends).toBe(1);
  });

  test('a directory that takes nothing is told', () => {
    const text = table('{"ip": "1.2.3.4", "state": "active", "healthy": true}');
    expect(() => buildConfig(text, 'f', join(directory, 'none', 'a.bin'))).toThrow(FailureError);
  });
});
