/** Records of connections: those given back are given out again, and a sweep passes over groups without any. */
import { describe, expect, test } from 'vitest';
import { GROUP, Records } from '../../src/flow/records.ts';
import { LIFE, RECORD } from '../../src/layout/connection.ts';
import { NONE } from '../../src/layout/flow.ts';

const CAPACITY = 1000;
const create = (capacity = CAPACITY) => new Records(new Int32Array(capacity * RECORD));

function claim(records: Records): number {
  const record = records.claim();
  if (record !== NONE) records.words[record * RECORD + LIFE] = 1;
  return record;
}

/** What a sweep looks at. */
function seen(records: Records): number[] {
  const all: number[] = [];
  const next = (from: number) => records.skipFree(from, records.capacity);
  for (let record = next(0); record < records.capacity; record = next(record + 1)) all.push(record);
  return all;
}

describe('groups', () => {
  test('those without a record that is taken are passed over, no other is', () => {
    const records = create();
    expect(seen(records)).toEqual([]);
    const taken = Array.from({ length: 3 * GROUP + 5 }, () => claim(records));
    for (const record of taken.slice(GROUP, 2 * GROUP)) records.release(record);
    const whole = (group: number) => Array.from({ length: GROUP }, (_, i) => group * GROUP + i);
    expect(seen(records)).toEqual([0, 2, 3].flatMap(whole));
    for (const record of taken) if (records.isTaken(record)) records.release(record);
    expect([seen(records), records.size]).toEqual([[], 0]);
    // And no further than asked.
    expect(records.skipFree(5, GROUP / 2)).toBe(GROUP / 2);
  });

  test('the last one may be a part, and full', () => {
    const records = create();
    while (claim(records) !== NONE);
    expect([records.size, records.isFull, seen(records).length]).toEqual([CAPACITY, true, CAPACITY]);
  });

  test('recount: records that another left', () => {
    const records = create();
    const taken = Array.from({ length: 300 }, () => claim(records));
    for (const record of taken.slice(10, 290)) records.release(record);
    const next = new Records(records.words);
    next.recount();
    expect([next.size, seen(next)]).toEqual([20, seen(records)]);
  });
});
