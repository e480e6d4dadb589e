import { expect, test } from 'vitest';
import { glbHash, glbRow, type HashField } from '../../src/balance/glb-hash.ts';
import { glbTable, hopsOf, primaryOf, rankRows, type Standing, secondaryOf } from '../../src/balance/glb-table.ts';
import { sipHash, sipKey } from '../../src/balance/siphash.ts';
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
