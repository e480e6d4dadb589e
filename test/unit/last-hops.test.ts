/** The hops back to clients: learnt from their SYN, kept while a connection names them, then given to others; and what moves one. */
import { beforeEach, describe, expect, test } from 'vitest';
import { HOP, HOPS, SERVER_HOPS, VERSION } from '../../src/layout/hops.ts';
import { fromClient } from '../fixtures/frames.ts';
import { buildFrame } from '../lab/packets.ts';
import { FRONT, MAC, TIMEOUTS, World } from '../lab/world.ts';

const LEARNT = HOPS - SERVER_HOPS;
const CLIENT_MACS = 20_000;

const macOf = (i: number) => `06:00:00:${[i >> 16, (i >> 8) & 255, i & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;

const ipText = (i: number) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
/** The port that lb4 connects from, in a frame to the server. */
const portOf = (frame: Uint8Array) => (frame[34] << 8) | frame[35];

/** A client of its own MAC address connects; returns how the server's answer leaves, and to whom. */
function connect(world: World, i: number): { out: string; to: string } {
  const client = { ethernet: [MAC.front, macOf(i)] as const, source: ipText(i) };
  const { frame } = world.send(fromClient({ flags: 'S' }, client));
  const answered = answer(world, portOf(frame));
  world.send(fromClient({}, client));
  return answered;
}

/** The server answers on that port of lb4. */
function answer(world: World, port: number): { out: string; to: string } {
  const { out, frame } = world.send({
    ethernet: [MAC.back, MAC.servers[0]],
    source: '172.16.0.1',
    destination: '192.0.2.1',
    tcp: { from: 8080, to: port, flags: 'SA' },
  });
  return { out, to: [...frame.subarray(0, 6)].map((byte) => byte.toString(16).padStart(2, '0')).join(':') };
}

test('20,000 MAC addresses on the link: a full table degrades for the moment, and the next client has a hop of its own', () => {
  const world = new World({ up: [true, false], capacity: 131_072 });
  const first = world.send(fromClient({ flags: 'S' }, { ethernet: [MAC.front, macOf(0)], source: ipText(0) }));
  let byKernel = 0;
  for (let i = 1; i <= CLIENT_MACS; i++) if (connect(world, i).out === 'route') byKernel++;
  expect(byKernel).toBeGreaterThanOrEqual(CLIENT_MACS - LEARNT);
  // All but the first go, and the sweep comes by twice more.
  const port = portOf(first.frame);
  expect(answer(world, port)).toEqual({ out: 'send', to: macOf(0) });
  world.send(fromClient({}, { ethernet: [MAC.front, macOf(0)], source: ipText(0) }));
  world.now = TIMEOUTS.established;
  world.send(fromClient({}, { ethernet: [MAC.front, macOf(0)], source: ipText(0) }));
  for (let round = 1; round <= 3; round++) world.sweepAll(TIMEOUTS.established + round);
  for (let i = CLIENT_MACS + 1; i <= CLIENT_MACS + 1000; i++) expect(connect(world, i)).toEqual({ out: 'send', to: macOf(i) });
  // Whoever stayed kept its own.
  expect(answer(world, port)).toEqual({ out: 'send', to: macOf(0) });
});

test('a hop that a connection names is not given away, however long it lasts and however many others come', () => {
  const world = new World({ up: [true, false], capacity: 65536 });
  const one = connect(world, 7);
  expect(one).toEqual({ out: 'send', to: macOf(7) });
  const { lastHops, slab, hops } = world;
  for (let round = 1; round <= 5; round++) {
    world.sweepAll(round);
    for (let i = 0; i < LEARNT; i++) {
      slab.bytes.set([2, 0, 0, 0, 0, 0xf1, 8, round, 0, i >> 16, (i >> 8) & 255, i & 255], 2);
      lastHops.learn(slab, 4, 1);
    }
  }
  const words = Array.from({ length: HOPS - SERVER_HOPS }, (_, i) => hops.subarray((SERVER_HOPS + i) * HOP, (SERVER_HOPS + i + 1) * HOP));
  // macOf(7) as it is stored: 06 00, 00 00 00 07.
  expect(words.filter((hop) => hop[3] === 6 && hop[4] === 7 << 24)).toHaveLength(1);
});

test('an interface that is gone or down: its clients are left to the routing, until it is back; the kernel is told, and of nothing else', () => {
  const world = new World({ up: [true, false] });
  const versions = () => Array.from({ length: HOPS - SERVER_HOPS }, (_, i) => world.hops[(SERVER_HOPS + i) * HOP + VERSION]);
  const changed = () => versions().filter((version, i) => version !== before[i]).length;
  const client = { ethernet: [MAC.front, macOf(7)] as const, source: ipText(7) };
  const port = portOf(world.send(fromClient({ flags: 'S' }, client)).frame);
  let before = versions();
  world.lastHops.setInterfaces(new Map([[FRONT, 1500]]));
  expect([changed(), answer(world, port)]).toEqual([0, { out: 'send', to: macOf(7) }]);
  world.lastHops.setInterfaces(new Map());
  expect([changed(), answer(world, port).out]).toEqual([1, 'route']);
  // What it has sent before it went teaches nobody to send there.
  world.send(fromClient({ flags: 'S' }, client));
  expect(answer(world, port).out).toBe('route');
  before = versions();
  world.lastHops.setInterfaces(new Map([[FRONT, 1400]]));
  expect([changed(), answer(world, port)]).toEqual([1, { out: 'send', to: macOf(7) }]);
  expect(versions().every((version) => version % 2 === 0)).toBe(true);
});

test('a hop that who was killed had half written is whole again', () => {
  const world = new World({ up: [true, false] });
  connect(world, 7);
  const at = (SERVER_HOPS + Array.from({ length: LEARNT }, (_, i) => world.hops[(SERVER_HOPS + i) * HOP]).indexOf(FRONT)) * HOP + VERSION;
  world.hops[at] |= 1;
  world.lastHops.setInterfaces(new Map([[FRONT, 1500]]));
  expect(world.hops[at] & 1).toBe(0);
});

describe('a router that all of its clients come by gets another MAC address', () => {
  const [OLD, NEW] = [macOf(1), macOf(2)];
  const DURING = 1000;
  let world: World;
  let ports: number[];

  const by = (via: string, i: number) => ({ ethernet: [MAC.front, via] as const, source: ipText(i) });
  const seen = (via: string, i: number, now: number) => {
    world.now = now;
    world.send(fromClient({}, by(via, i)));
  };
  const answers = () => ports.map((port) => answer(world, port).to);

  beforeEach(() => {
    world = new World({ up: [true, false] });
    ports = [1, 2].map((i) => {
      const port = portOf(world.send(fromClient({ flags: 'S' }, by(OLD, i))).frame);
      answer(world, port);
      world.send(fromClient({}, by(OLD, i)));
      return port;
    });
    expect(answers()).toEqual([OLD, OLD]);
  });

  test('the answers to each client follow its own frames, and back', () => {
    seen(NEW, 1, DURING);
    expect(answers()).toEqual([NEW, OLD]);
    expect(world.core.wayBack.moved).toBe(1);
    seen(OLD, 1, DURING + 1);
    expect(answers()).toEqual([OLD, OLD]);
  });

  test('after one all frames are looked at, for three seconds in ten', () => {
    const batch = (now: number) => {
      world.now = now;
      world.sendFrames([1, 2].map((i) => ({ frame: buildFrame(fromClient({}, by(NEW, i))) })));
    };
    batch(DURING);
    expect(answers().sort()).toEqual([NEW, OLD].sort());
    batch(DURING + 1);
    expect(answers()).toEqual([NEW, NEW]);
    for (const now of [DURING + 2999, DURING + 3000]) seen(OLD, 1, now);
    expect(answers()).toEqual([OLD, NEW]);
    // It was looked at 1 ms ago, and nobody is in a hurry any more.
    seen(NEW, 1, DURING + 3001);
    expect(answers()).toEqual([OLD, NEW]);
    seen(NEW, 1, DURING + 3008);
    expect(answers()).toEqual([NEW, NEW]);
  });

  test('a packet of nobody’s moves nothing', () => {
    for (let now = 0; now < 1000; now += 50) seen(NEW, 9, DURING + now);
    expect(answers()).toEqual([OLD, OLD]);
  });
});
