/**
 * Lists of prefixes (src/access): how long a table of them takes to make, how much it holds, and what a look-up costs, beside a Map of /32s.
 *
 *     node dist/bench/access.js
 */
import { PrefixList } from '../src/access/prefix-list.ts';
import { prefixTable, ruleOf } from '../src/access/prefix-table.ts';

const LOOKUPS = 4_000_000;

/** Prefixes as block lists have them, of 16 to 32 bits, anywhere. */
function listOf(count: number): PrefixList {
  const list = new PrefixList();
  for (let i = 0; i < count; i++) {
    const bits = 16 + Math.floor(Math.random() * 17);
    const size = 2 ** (32 - bits);
    list.add(4, [Math.floor((Math.random() * 2 ** 32) / size) * size], bits);
  }
  return list;
}

/** Nanoseconds of one of `LOOKUPS`, with addresses that nobody can foresee. */
function nanoseconds(lookUp: (address: number) => number): number {
  const addresses = Uint32Array.from({ length: 65_536 }, () => Math.random() * 2 ** 32);
  let sum = 0;
  let best = Infinity;
  for (let round = 0; round < 5; round++) {
    const began = process.hrtime.bigint();
    for (let i = 0; i < LOOKUPS; i++) sum += lookUp(addresses[i & 0xffff]);
    best = Math.min(best, Number(process.hrtime.bigint() - began) / LOOKUPS);
  }
  if (sum < 0) throw new Error('nothing was looked up');
  return best;
}

process.stdout.write('prefixes   ms to make   KB   ns a look-up\n');
for (const count of [1, 100, 10_000, 100_000]) {
  // Once before it counts: a reload finds a warm compiler.
  prefixTable({ allow: undefined, deny: [listOf(count)] }, 4);
  const list = listOf(count);
  const began = performance.now();
  const table = prefixTable({ allow: undefined, deny: [list] }, 4);
  const ms = performance.now() - began;
  if (table === undefined) throw new Error('there is no table');
  const bytes = table.starts.byteLength + table.rules.byteLength + table.index.byteLength;
  const row = [String(count).padStart(8), ms.toFixed(1).padStart(12), (bytes / 1024).toFixed(0).padStart(4)];
  process.stdout.write(
    `${row.join(' ')} ${nanoseconds((address) => ruleOf(table, address))
      .toFixed(1)
      .padStart(14)}\n`,
  );
}
