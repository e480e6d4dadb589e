/** Frames that the kernel counts and lb4 never receives. */
import { expect, test } from 'vitest';
import { arrival, countedBy } from '../../src/service/arrival.ts';

/** Looks one after the other, each at [frames received, packets counted]. Returns how many rules are missing their frames each time. */
async function missing(looks: readonly (readonly [received: number, counted: number])[]): Promise<number[]> {
  let [received, packets] = [0, 0];
  const state = arrival({ received: () => received, counted: async () => new Map([['-d 192.0.2.1/32', packets]]) });
  const found: number[] = [];
  for (const look of looks) {
    [received, packets] = look;
    found.push((await state.verify()).length);
  }
  return found;
}

test.each<[string, Parameters<typeof missing>[0], number[]]>([
  [
    'the kernel counts and nothing is received',
    [
      [5, 0],
      [5, 0],
      [5, 20],
      [5, 40],
    ],
    [0, 0, 0, 1],
  ],
  [
    'until something is',
    [
      [5, 0],
      [5, 0],
      [5, 20],
      [5, 40],
      [6, 60],
      [6, 60],
    ],
    [0, 0, 0, 1, 0, 0],
  ],
  [
    'it stays so when the clients give up',
    [
      [5, 0],
      [5, 0],
      [5, 20],
      [5, 40],
      [5, 40],
    ],
    [0, 0, 0, 1, 1],
  ],
  [
    'traffic is received',
    [
      [5, 5],
      [25, 25],
      [45, 45],
      [65, 65],
    ],
    [0, 0, 0, 0],
  ],
  [
    'nobody calls',
    [
      [5, 5],
      [5, 5],
      [5, 5],
      [5, 5],
    ],
    [0, 0, 0, 0],
  ],
  [
    'a few packets are no sign',
    [
      [5, 0],
      [5, 0],
      [5, 3],
      [5, 6],
      [5, 9],
    ],
    [0, 0, 0, 0, 0],
  ],
  [
    'odd packets of strangers never add up',
    Array.from({ length: 12 }, (_, look) => [5, 2 * look] as const),
    Array.from({ length: 12 }, () => 0),
  ],
  [
    'what was counted before the silence is not meant',
    [
      [5, 900],
      [5, 900],
      [5, 900],
      [5, 900],
    ],
    [0, 0, 0, 0],
  ],
  [
    'rules that were put back count from 0',
    [
      [5, 900],
      [5, 900],
      [5, 0],
      [5, 0],
    ],
    [0, 0, 0, 0],
  ],
])('%s', async (_name, looks, found) => expect(await missing(looks)).toEqual(found));

test('reads the counters of its own rules, of either form', () => {
  const saved = `*raw
:PREROUTING ACCEPT [9:900]
[12:720] -A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -m comment --comment lb4 -j DROP
[3:120] -A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp --dport 81 -m comment --comment lb4 -j CT --notrack
[7:280] -A PREROUTING -p tcp -m tcp --dport 22 -j DROP
COMMIT
`;
  expect(Object.fromEntries(countedBy(saved))).toEqual({
    '-d 192.0.2.1/32 -p tcp -m tcp --dport 80': 12,
    '-d 192.0.2.1/32 -p tcp -m tcp --dport 81': 3,
  });
});
