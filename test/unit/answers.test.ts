/** Connections whose answer is due, and those that were answered: the counters by which silence is told from idleness. */
import { beforeEach, expect, test, vi } from 'vitest';
import { ANSWERED, DUE, serverRow } from '../../src/layout/counters.ts';
import { CLIENT_PORTS } from '../../src/layout/ports.ts';
import { UDP } from '../../src/packet/fields.ts';
import { fromClient, fromServer } from '../fixtures/frames.ts';
import { pattern } from '../lab/packets.ts';
import { CLIENT, SERVERS, VIP, World, type WorldOptions } from '../lab/world.ts';

beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

function after(segments: string, options: WorldOptions = {}): { due: number; answered: number } {
  const world = new World({ up: [true, false], ...options });
  for (const [side, flags] of segments.split(' ').map((segment) => segment.split(':')))
    world.send(side === 'c' ? fromClient({ flags: flags }) : fromServer({ flags: flags }));
  const row = serverRow(0);
  return { due: world.statistics[row + DUE], answered: world.statistics[row + ANSWERED] };
}

test.each<[string, string, number, number]>([
  ['a SYN', 'c:S', 1, 0],
  ['sent again', 'c:S c:S c:S', 1, 0],
  ['answered', 'c:S s:SA', 1, 1],
  ['counted once, however it goes on', 'c:S s:SA c:A s:A s:A c:A', 1, 1],
  ['a reset is an answer', 'c:S s:RA', 1, 1],
  ['so is an ACK out of order', 'c:S s:A', 1, 1],
  ['a new connection on an old path is due again', 'c:S s:SA c:A s:R c:S', 2, 1],
  ['and answered again', 'c:S s:SA c:A s:R c:S s:SA', 2, 2],
])('passthrough: %s', (_name, segments, due, answered) => expect(after(segments)).toEqual({ due, answered }));

test.each<[string, string, number, number]>([
  ['a SYN alone: the server may have answered, or reset it', 'c:S', 0, 0],
  ['sent again, it went unanswered', 'c:S c:S', 1, 0],
  ['once a connection', 'c:S c:S c:S c:S', 1, 0],
  ['an ACK shows the answer', 'c:S c:A c:A', 0, 1],
  ['a late one, too', 'c:S c:S c:A', 1, 1],
  ["so does a client's reset", 'c:S c:R', 0, 1],
  ['taken up in mid-stream: nobody knows what was answered', 'c:A c:A', 0, 0],
])('direct server return: %s', (_name, segments, due, answered) => {
  expect(after(segments, { mode: 'dsr', scheduler: 'maglev' })).toEqual({ due, answered });
});

/** Datagrams to the first server and back, by the source port that lb4 gives. */
function afterDatagrams(sides: string, options: WorldOptions = {}): { due: number; answered: number } {
  const world = new World({ up: [true, false], protocol: UDP, ...options });
  const [from, to] = [
    { from: 5000, to: 80, payload: pattern(4) },
    { from: 8080, to: CLIENT_PORTS.first, payload: pattern(4) },
  ];
  for (const side of sides)
    world.send(side === 'c' ? { source: CLIENT, destination: VIP, udp: from } : { source: SERVERS[0], destination: VIP, udp: to });
  const row = serverRow(0);
  return { due: world.statistics[row + DUE], answered: world.statistics[row + ANSWERED] };
}

test.each<[string, string, number, number]>([
  ['one', 'c', 1, 0],
  ['more of the flow', 'cccc', 1, 0],
  ['answered', 'cs', 1, 1],
  ['answered late, and once', 'ccccss', 1, 1],
])('datagrams: %s', (_name, sides, due, answered) => expect(afterDatagrams(sides)).toEqual({ due, answered }));
