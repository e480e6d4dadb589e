import { beforeEach, describe, expect, test, vi } from 'vitest';
import * as T from '../../src/flow/life.ts';
import { tcp } from '../../src/flow/tcp.ts';
import { fromClient, fromServer } from '../fixtures/frames.ts';
import { connectionsIn, World, type WorldOptions } from '../lab/world.ts';

beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

const names = ['', 'OPENING', 'ANSWERED', 'ESTABLISHED', 'CLOSING', 'TIME_WAIT', 'CLOSED'];

/** After "c:S", "s:SA", "c:A" …: who sends, which flags, with numbers that fit. */
function follow(segments: string, options: WorldOptions = {}): { states: string; life: number } {
  const world = new World({ up: [true, false], ...options });
  const seen: string[] = [];
  let life = 0;
  for (const segment of segments.split(' ')) {
    const [side, flags] = segment.split(':') as [string, string];
    world.send(side === 'c' ? fromClient({ flags }) : fromServer({ flags }));
    life = connectionsIn(world)[0]?.life ?? 0;
    seen.push(names[life & T.STATE_MASK]);
  }
  return { states: seen.join(' '), life };
}

const rows: [description: string, segments: string, states: string, options?: WorldOptions][] = [
  ['handshake', 'c:S s:SA c:A', 'OPENING ANSWERED ESTABLISHED'],
  ['SYN and SYN+ACK sent again', 'c:S c:S s:SA s:SA c:A', 'OPENING OPENING ANSWERED ANSWERED ESTABLISHED'],
  ['a late SYN+ACK changes nothing', 's:SA c:A s:SA c:S', 'ANSWERED ESTABLISHED ESTABLISHED ESTABLISHED'],
  ['an ACK before the server has answered', 'c:A c:PA', 'OPENING OPENING'],
  ['both open at once', 's:S c:SA s:SA s:A c:A', 'ANSWERED ESTABLISHED ESTABLISHED ESTABLISHED ESTABLISHED'],
  ['the server alone does not establish', 's:SA s:A s:PA', 'ANSWERED ANSWERED ANSWERED'],
  ['the client closes', 's:SA c:A c:FA s:A s:FA c:A', 'ANSWERED ESTABLISHED CLOSING CLOSING TIME_WAIT TIME_WAIT'],
  ['the server closes', 's:SA c:A s:FA c:A c:FA s:A', 'ANSWERED ESTABLISHED CLOSING CLOSING TIME_WAIT TIME_WAIT'],
  ['both at the same time', 's:SA c:A c:FA s:FA c:A s:A', 'ANSWERED ESTABLISHED CLOSING TIME_WAIT TIME_WAIT TIME_WAIT'],
  ['FIN sent again is still one side', 's:SA c:A c:FA c:FA s:PA', 'ANSWERED ESTABLISHED CLOSING CLOSING CLOSING'],
  ['FIN with the last data, half-closed data goes on', 's:SA c:FPA s:PA c:A s:FA', 'ANSWERED CLOSING CLOSING CLOSING TIME_WAIT'],
  ['reset by the client', 's:SA c:A c:R', 'ANSWERED ESTABLISHED CLOSED'],
  ['reset by the server, refused', 's:RA', 'CLOSED'],
  ['reset beats every other flag', 's:SA c:A c:SFRA', 'ANSWERED ESTABLISHED CLOSED'],
  ['what follows a reset changes nothing', 's:SA c:A s:R s:PA c:FA s:FA', 'ANSWERED ESTABLISHED CLOSED CLOSED CLOSED CLOSED'],
  ['reset in TIME_WAIT', 's:SA c:A c:FA s:FA c:R', 'ANSWERED ESTABLISHED CLOSING TIME_WAIT CLOSED'],
  [
    'opened again from TIME_WAIT, closed again by both',
    's:SA c:A c:FA s:FA c:S s:SA c:A s:FA c:FA',
    'ANSWERED ESTABLISHED CLOSING TIME_WAIT OPENING ANSWERED ESTABLISHED CLOSING TIME_WAIT',
  ],
  ['opened again after a reset', 's:RA c:S s:SA c:A', 'CLOSED OPENING ANSWERED ESTABLISHED'],
  ['a late SYN+ACK does not open again', 's:SA c:A c:FA s:FA s:SA', 'ANSWERED ESTABLISHED CLOSING TIME_WAIT TIME_WAIT'],
  [
    'one way: the second segment establishes, a FIN ends',
    'c:S c:A c:PA c:FA',
    'OPENING ESTABLISHED ESTABLISHED TIME_WAIT',
    { mode: 'dsr' },
  ],
  ['one way, opened again', 'c:A c:FA c:S c:A', 'ESTABLISHED TIME_WAIT OPENING ESTABLISHED', { mode: 'dsr' }],
];

describe('states', () => {
  test.each(rows)('%s', (_, segments, states, options) => expect(follow(`c:S ${segments}`, options).states).toBe(`OPENING ${states}`));
});

test('opening again forgets the FINs and the count, but not that it is one way', () => {
  expect(follow('c:S s:SA c:A c:FA s:FA c:S').life).toBe(T.OPENING);
  expect(follow('c:S c:A c:FA c:S', { mode: 'dsr' }).life).toBe(T.OPENING | T.ONE_WAY);
});

test('every state has its timeout', () => {
  const table = tcp.timeoutTable({ syn: 1, established: 2, fin: 3, timeWait: 4, closed: 5, udp: 6, udpStream: 7, icmp: 8 });
  expect([...table]).toEqual([0, 1, 1, 2, 3, 4, 5]);
  expect(table.length).toBe(T.STATES);
});
