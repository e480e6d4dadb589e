/** Frames that the kernel counts and lb4 never receives. */
import { expect, test } from 'vitest';
import { tcp } from '../../src/flow/tcp.ts';
import { countedBy } from '../../src/rules/saved.ts';
import { Arrival } from '../../src/service/arrival.ts';

/** Looks one after the other, each at [frames received, packets counted]. Returns how many rules are missing their frames each time. */
async function missing(looks: readonly (readonly [received: number, counted: number])[]): Promise<number[]> {
  let [received, packets] = [0, 0];
  const state = new Arrival({
    received: () => received,
    counted: async () => new Map([['-d 192.0.2.1/32', packets]]),
    frontends: () => [],
    witnessOf: () => {
      throw new Error('no frontend, no witness');
    },
  });
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

interface Look {
  /** How often something of the frontend was entered in lb4's books since. */
  readonly booked?: number;
  /** What its rule has counted since. */
  readonly packets?: number;
  /** What a witness of it hears of that, where one stands. */
  readonly heard?: number;
}

/** Frontends a, b … on one address, look by look; another one, z, is busy all the time. Returns what is told each time. */
async function told(looks: readonly (readonly Look[])[]): Promise<{ said: string[][]; most: number; open: number }> {
  const ports = [...(looks[0] ?? []).keys()].map((i) => 81 + i);
  const now = new Map([80, ...ports].map((port) => [port, { packets: 900, counts: 0, heard: 0 }]));
  let [received, open, most] = [0, 0, 0];
  const state = new Arrival({
    received: () => received,
    counted: async () => new Map([...now].map(([port, { packets }]) => [`-d 192.0.2.1/32 -p tcp -m tcp --dport ${port}`, packets])),
    frontends: () =>
      [...now].map(([port, { counts }]) => ({ name: `f${port}`, ip: '192.0.2.1', port, protocol: tcp, counts: `${counts}` })),
    witnessOf: ({ port }) => {
      most = Math.max(most, ++open);
      const from = now.get(port)?.heard ?? 0;
      return { heard: () => (now.get(port)?.heard ?? 0) - from, close: () => void open-- };
    },
  });
  const said: string[][] = [];
  for (const look of looks) {
    received++;
    for (const [port, { booked = 0, packets = 0, heard = 0 }] of [
      [80, { booked: 1, packets: 99 }] as const,
      ...look.map((one, i) => [81 + i, one] as const),
    ]) {
      const one = now.get(port) ?? { packets: 0, counts: 0, heard: 0 };
      now.set(port, { packets: one.packets + packets, counts: one.counts + booked, heard: one.heard + heard });
    }
    said.push(await state.verify());
  }
  state.close();
  return { said, most, open };
}

const DEAF = { packets: 20 };
const WELL = { booked: 3, packets: 20, heard: 20 };
const times = <T>(count: number, one: T): T[] => Array.from({ length: count }, () => one);

test('one deaf frontend does not hide behind the traffic of others: it is named, until it is heard', async () => {
  const { said, open } = await told([...times(5, [DEAF, WELL]), ...times(2, [{}, WELL]), [WELL, WELL]]);
  expect(said.slice(0, 3)).toEqual([[], [], []]);
  expect(said[3]).toEqual(['frontend f81 (192.0.2.1:81): 20 packets counted, none received']);
  // When its clients have given up, nothing has changed.
  expect(said.map(({ length }) => length)).toEqual([0, 0, 0, 1, 1, 1, 1, 0]);
  expect(open).toBe(0);
});

test.each<[string, Look[]]>([
  ['idle connections that are kept alive, resets: in no books, yet the witness hears them', times(40, { packets: 30, heard: 30 })],
  ['odd packets of strangers never add up', times(40, { packets: 2 })],
  ['nor do some that come all at once, and no more', [{}, DEAF, ...times(20, {})]],
  ['what comes while a witness is only called', [{}, DEAF, DEAF, { heard: 0 }, ...times(20, {})]],
  ['its rules were put back and count from 0', [{}, {}, { packets: -800 }, {}, {}]],
  ['traffic', times(10, WELL)],
])('a frontend that is not deaf: %s', async (_name, looks) => {
  const { said, open } = await told(looks.map((look) => [look]));
  expect(said.flat()).toEqual([]);
  expect(open).toBe(0);
});

test('a few ICMP errors that a witness hears beside do not hide it', async () => {
  const { said } = await told(times(5, [{ packets: 20, heard: 3 }]));
  expect(said[3]).toEqual(['frontend f81 (192.0.2.1:81): 20 packets counted, 6 received']);
});

test('deafness ends when the witness hears, though nothing enters the books: no server is up', async () => {
  const { said } = await told([...times(5, [DEAF]), ...times(2, [{ packets: 20, heard: 20 }])]);
  expect(said.map(({ length }) => length)).toEqual([0, 0, 0, 1, 1, 0, 0]);
});

test('never more than four witnesses, and others get their turn', async () => {
  const { said, most } = await told([
    ...times(6, times(9, DEAF)),
    [...times(4, WELL), ...times(5, DEAF)],
    ...times(4, [...times(4, WELL), ...times(5, DEAF)]),
  ]);
  expect(most).toBe(4);
  expect(said[5]).toHaveLength(4);
  expect(said.at(-1)).toHaveLength(4);
  expect(said.at(-1)?.[0]).toContain('f85');
});

test('without room for a witness nothing is claimed', async () => {
  const state = new Arrival({
    received: (() => {
      let received = 0;
      return () => ++received;
    })(),
    counted: (() => {
      let packets = 0;
      return async () => new Map([['-d 192.0.2.1/32 -p tcp -m tcp --dport 81', (packets += 99)]]);
    })(),
    frontends: () => [{ name: 'f', ip: '192.0.2.1', port: 81, protocol: tcp, counts: '' }],
    witnessOf: () => {
      throw Object.assign(new Error('socket(AF_PACKET): Cannot allocate memory'), { code: 'ENOMEM' });
    },
  });
  for (let look = 0; look < 9; look++) expect(await state.verify()).toEqual([]);
});
