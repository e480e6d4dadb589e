/** What the next lb4 takes for granted of a table that it finds, though no word of it says so. */
import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import * as life from '../../src/flow/life.ts';
import { FlowTable, hashKey, hashTuple, tableCapacity } from '../../src/flow/table.ts';
import { verdictNames } from '../../src/forward/verdict.ts';
import * as affinity from '../../src/layout/affinity.ts';
import * as connection from '../../src/layout/connection.ts';
import * as counters from '../../src/layout/counters.ts';
import * as flow from '../../src/layout/flow.ts';
import * as header from '../../src/layout/header.ts';
import * as hops from '../../src/layout/hops.ts';
import { flowWords } from '../../src/layout/memory.ts';
import { CLIENT_PORTS } from '../../src/layout/ports.ts';
import { portsWord } from '../../src/packet/address.ts';
import { steeringKey, workerOf } from '../../src/packet/steering.ts';

/** Of each version. Whoever changes what is below raises LAYOUT_VERSION, and adds a line: a table of another version is refused. */
const DIGESTS: Readonly<Record<number, string>> = {
  2: '0a09db0e84d4163d',
  3: '762d4196a70c20d7',
  4: 'a0ff2ded366128c2',
  5: '7f66f72ac0366bf7',
  6: 'c837805088caf3e1',
  7: '730ea0d2d29ac7c7',
  8: 'a4109140ed7f9986',
  9: 'e2dcc865fdb5df13',
};

/** Where flows are looked for, in tables of some sizes. */
function homes(): number[] {
  const key = hashKey(new Uint32Array([0x01234567, 0x89abcdef, 0x02468ace, 0x13579bdf]));
  return [1, 1000, 100_000].flatMap((connections) => {
    const capacity = tableCapacity(connections);
    const table = new FlowTable(new Int32Array(flowWords(capacity)), capacity, key);
    const hashes = Array.from({ length: 20 }, (_, i) => hashTuple(key, 0x0100000a + i, 0x010200c0, 0x5000_0400 + i * 7));
    return [capacity, ...hashes.map((hash) => table.homeOf(hash))];
  });
}

/** Whose flows they are, where there are several workers. */
function owners(): number[] {
  const key = steeringKey(hashKey(new Uint32Array([0x01234567, 0x89abcdef, 0x02468ace, 0x13579bdf])));
  const ports = [
    ...Array.from({ length: 20 }, (_, i) => 0x5000_0400 + i * 7),
    portsWord(80, CLIENT_PORTS.first),
    portsWord(80, CLIENT_PORTS.last),
  ];
  const ofRequests = ports.map((word, i) => workerOf(0x0100000a + (i << 24), 0, word, key, 64));
  const ofAnswers = ports.map((word, i) => workerOf(0, 0x0100000a + (i << 24), word, key, 64, new Set()));
  return [...ofRequests, ...ofAnswers];
}

test('a table of this version means what its version stands for', () => {
  const { LAYOUT_VERSION, ...rest } = header;
  const meaning = JSON.stringify([life, affinity, connection, counters, flow, rest, hops, verdictNames, homes(), owners()]);
  expect(meaning).toContain('"CONNECTION":');
  expect(createHash('sha256').update(meaning).digest('hex').slice(0, 16)).toBe(DIGESTS[LAYOUT_VERSION]);
});
