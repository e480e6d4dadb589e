/** Between interfaces: what is no service's crosses to the byte, by the port that it is for; what is a service's keeps MACs and TTL. */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { FrontendPort } from '../../src/forward/crossing.ts';
import { Stations } from '../../src/forward/stations.ts';
import { FLAG_GSO } from '../../src/layout/frames.ts';
import { HOP, HOPS, INTERFACE, MTU, SERVER_HOPS } from '../../src/layout/hops.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { fromClient, fromServer, PORT } from '../fixtures/frames.ts';
import { buildFrame, wrongChecksums } from '../lab/packets.ts';
import { type Arrival, BACK, between, FRONT, frontPort, World } from '../lab/world.ts';

// The port pools begin at their first port.
beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));

const [ROUTER, SERVER, ALICE, BOB] = ['020000000001', '020000000002', '02000000000a', '02000000000b'];
const MANY = 'ffffffffffff';
const SECOND = 3;

const port = (ifindex: number, ...clients: string[]): FrontendPort => {
  const prefixes = clients.map((text) => {
    const [address = '', bits = '32'] = text.split('/');
    return { address: parseAddress(address), bits: Number(bits) };
  });
  return frontPort(ifindex, prefixes);
};
const single = () => new World({ inline: between(port(FRONT)) });
const multi = (first: string[] = [], second: string[] = []) =>
  new World({ inline: between(port(FRONT, ...first), port(SECOND, ...second)) });

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const addressHex = (ip: string) => Buffer.from(ip.split('.').map(Number)).toString('hex');
/** An ARP packet; `operation` 1 asks, 2 answers. */
const arp = (to: string, from: string, operation: number, sender: string, target: string) =>
  bytes(`${to}${from}0806 000108000604000${operation} ${from}${addressHex(sender)} 000000000000${addressHex(target)}`);
const foreign: Arrival = { foreign: true };

function pass(world: World, frame: Uint8Array, arrival: Arrival = {}) {
  const [outcome] = world.sendFrames([{ frame, arrival }]);
  return outcome;
}

/** A datagram of somebody who is no service's. */
const datagram = (to: string, from: string, source: string, destination: string, ttl = 64) =>
  buildFrame({
    ethernet: [mac(to), mac(from)],
    source,
    destination,
    ttl,
    other: { protocol: 47, payload: Uint8Array.of(0, 0, 0x08, 0, 1, 2, 3, 4) },
  });

function mac(hex: string): string {
  return hex.match(/../g)!.join(':');
}

describe('one frontend port', () => {
  const rows: [string, Uint8Array, Arrival][] = [
    ['IPv6', bytes(`${SERVER}${ALICE}86dd 6000000000083a40${'00'.repeat(32)}8000000000000000`), foreign],
    ['LLDP, which no bridge passes', bytes(`0180c200000e${ALICE}88cc 0207040200000000aa0405024500`), foreign],
    ['a length in place of an EtherType', bytes(`0180c2000000${ALICE}0026 424203000000${'00'.repeat(32)}`), foreign],
    ['what begins as IPv4 and is none', bytes(`${SERVER}${ALICE}88b5 ${'45'.repeat(40)}`), foreign],
    ['GRE with a TTL of 0', datagram(SERVER, ALICE, '10.0.0.9', '172.16.0.1', 0), {}],
    ['IP options', buildFrame({ ...fromClient({}, { options: [1, 1, 1, 0] }), destination: '198.51.100.7' }), {}],
    ['a broken header checksum', bytes(`${SERVER}${ALICE}0800 45000014000000004006ffff0a000009ac100001`), {}],
    ['a runt', bytes(`${SERVER}${ALICE}0800 4500`), {}],
    ['a fragment', buildFrame(fromClient({}, { destination: '198.51.100.7', moreFragments: true })), {}],
    ['TCP that is no service’s', buildFrame(fromClient({ to: 81, flags: 'S' })), {}],
    ['with a trailer', buildFrame(fromClient({ to: 81 }, { padTo: 80 })), {}],
  ];

  test.each(rows)('%s crosses both ways as it came', (_, frame, arrival) => {
    const world = single();
    for (const [from, to] of [
      [FRONT, BACK],
      [BACK, FRONT],
    ]) {
      // Later than a frame to many is remembered.
      world.now += 2000;
      const { verdict, out, frame: left, ...rest } = pass(world, frame, { ...arrival, interface: from });
      expect({ verdict, out, interface: rest.interface }).toEqual({ verdict: 'crossed', out: 'send', interface: to });
      expect(Buffer.from(left).toString('hex')).toBe(Buffer.from(frame).toString('hex'));
    }
  });

  test('a service’s connection keeps MACs and TTL, and its VLAN is the frame’s own', () => {
    const world = single();
    const syn = world.send({ ...fromClient({ flags: 'S' }), ttl: 1 }, { vlan: 0x81000007 });
    expect(syn).toMatchObject({ verdict: 'opened', out: 'send', interface: BACK });
    const sent = buildFrame(fromClient({ flags: 'S' }));
    expect(syn.frame.subarray(0, 14)).toEqual(sent.subarray(0, 14));
    expect(syn.frame[22]).toBe(1);
    expect(syn.frame.subarray(30, 34)).toEqual(Uint8Array.of(172, 16, 0, 1));
    const answer = { ...fromServer({ flags: 'SA' }), ttl: 64 };
    const back = world.send(answer, { interface: BACK });
    expect(back).toMatchObject({ verdict: 'forwarded', out: 'send', interface: FRONT });
    expect(back.frame.subarray(0, 14)).toEqual(buildFrame(answer).subarray(0, 14));
    expect(back.frame[22]).toBe(64);
    // Established: pass 3 by itself.
    world.send(fromClient({ sequence: 1, acknowledgment: 1 }));
    const data = world.send({ ...fromClient({ sequence: 1, acknowledgment: 1, payload: Uint8Array.of(1, 2, 3) }), ttl: 200 });
    expect(data).toMatchObject({ verdict: 'forwarded', interface: BACK });
    expect(data.frame[22]).toBe(200);
    expect(data.frame.subarray(0, 12)).toEqual(sent.subarray(0, 12));
    for (const { frame } of [syn, back, data]) expect(wrongChecksums(frame.subarray(14))).toEqual([]);
  });

  test('from the servers’ side nothing opens', () => {
    expect(single().send(fromClient({ flags: 'S' }), { interface: BACK })).toMatchObject({ verdict: 'crossed', interface: FRONT });
  });

  test('a fragment to a service is dropped and counted: nobody knows whose it is', () => {
    expect(single().send(fromClient({}, { fragmentOffset: 8 })).verdict).toBe('dropFragment');
  });

  test('by a port that is down nothing leaves, and a connection follows the interface that its port is by now', () => {
    const world = single();
    world.send(fromClient({ flags: 'S' }));
    const named = (ifindex: number) => ({ ...port(ifindex), name: 'eth1' });
    world.core.crossing?.setPorts({ ...between(named(0)), backend: 0 });
    const other = datagram(SERVER, ALICE, '10.0.0.9', '172.16.0.1');
    expect(pass(world, other, { interface: FRONT })).toMatchObject({ verdict: 'dropNoPort', out: 'drop' });
    expect(world.send(fromServer({ flags: 'SA' }), { interface: BACK })).toMatchObject({ verdict: 'dropNoRoute', out: 'drop' });
    world.core.crossing?.setPorts(between(named(9)));
    expect(world.send(fromServer({ flags: 'SA' }), { interface: BACK })).toMatchObject({ verdict: 'forwarded', interface: 9 });
    expect(pass(world, other, { interface: BACK })).toMatchObject({ verdict: 'crossed', interface: 9 });
  });

  test('an lb4 that goes on names the same hop for a port, wherever it stands in the list', () => {
    const world = multi();
    world.send(fromClient({ flags: 'S' }), { interface: SECOND });
    const next = world.next({ inline: between(port(SECOND), port(FRONT)) });
    expect(next.send(fromServer({ flags: 'SA', to: PORT }), { interface: BACK })).toMatchObject({ interface: SECOND });
    const hop = next.core.crossing!.hopBy(SECOND);
    expect([next.hops[hop * HOP + INTERFACE], next.hops[hop * HOP + MTU]]).toEqual([SECOND, 1500]);
  });

  test('down when lb4 dies and when the next one starts, then up: its connections go on, and follow it', () => {
    const world = single();
    world.send(fromClient({ flags: 'S' }));
    const named = (ifindex: number) => between({ ...port(ifindex), name: 'eth1' });
    world.core.crossing?.setPorts(named(0));
    const next = world.next({ inline: named(0) });
    const answer = () => next.send(fromServer({ flags: 'SA' }), { interface: BACK });
    expect(answer()).toMatchObject({ verdict: 'dropNoRoute', out: 'drop' });
    for (const ifindex of [FRONT, 9]) {
      next.core.crossing?.setPorts(named(ifindex));
      expect(answer()).toMatchObject({ verdict: 'forwarded', interface: ifindex });
    }
    next.core.crossing?.setPorts(named(0));
    expect(answer()).toMatchObject({ verdict: 'dropNoRoute', out: 'drop' });
  });

  test('of a table full of clients’ hops a port takes one, never the kernel’s', () => {
    const world = new World();
    for (let hop = SERVER_HOPS; hop < HOPS; hop++) world.hops[hop * HOP + INTERFACE] = 1000 + hop;
    const next = world.next({ inline: between(port(FRONT), port(SECOND)) });
    const hops = [FRONT, SECOND].map((ifindex) => next.core.crossing!.hopBy(ifindex));
    expect(hops.map((hop) => [hop >= SERVER_HOPS, next.hops[hop * HOP + INTERFACE]])).toEqual([
      [true, FRONT],
      [true, SECOND],
    ]);
    expect(next.hops[INTERFACE]).toBe(0);
  });

  test('what comes by an interface that is no port ends', () => {
    expect(pass(single(), datagram(SERVER, ALICE, '10.0.0.9', '172.16.0.1'), { interface: 8 }).verdict).toBe('dropNoPort');
  });

  test('a frame to many that comes by another port a moment later has come round, by whichever it comes from then on; later, or changed, it has not', () => {
    const world = single();
    const asks = arp(MANY, ALICE, 1, '10.0.0.9', '10.0.0.1');
    expect(pass(world, asks, { ...foreign, interface: FRONT }).verdict).toBe('crossed');
    expect(pass(world, asks, { ...foreign, interface: BACK })).toMatchObject({ verdict: 'dropLoop', out: 'drop' });
    expect(pass(world, asks, { ...foreign, interface: BACK, vlan: 0x81000001 }).verdict).toBe('crossed');
    // What was sent out behind before that, back by the switch that joins the sides.
    for (const side of [FRONT, FRONT, BACK]) expect(pass(world, asks, { ...foreign, interface: side }).verdict).toBe('dropLoop');
    expect(pass(world, arp(MANY, ALICE, 1, '10.0.0.9', '10.0.0.2'), { ...foreign, interface: BACK }).verdict).toBe('crossed');
    world.now += 1001;
    expect(pass(world, asks, { ...foreign, interface: BACK }).verdict).toBe('crossed');
  });
});

describe('as at a bridge', () => {
  const [toBob, toAlice] = [datagram(BOB, ALICE, '10.0.0.9', '10.0.0.10'), datagram(ALICE, BOB, '10.0.0.10', '10.0.0.9')];

  test('what is for somebody behind the port that it came by ends there, on either side', () => {
    for (const side of [FRONT, BACK]) {
      const world = single();
      expect(pass(world, toBob, { interface: side }).verdict).toBe('crossed');
      expect(pass(world, toAlice, { interface: side })).toMatchObject({ verdict: 'dropSameSide', out: 'drop' });
      expect(pass(world, toBob, { interface: side })).toMatchObject({ verdict: 'dropSameSide', out: 'drop' });
      // Of another VLAN it is another station.
      expect(pass(world, toBob, { interface: side, vlan: 0x81000007 }).verdict).toBe('crossed');
    }
  });

  test('of several frontend ports each has its own stations', () => {
    const world = multi();
    pass(world, toBob, { interface: FRONT });
    expect(pass(world, toAlice, { interface: FRONT }).verdict).toBe('dropSameSide');
    expect(pass(world, datagram(ALICE, ROUTER, '10.0.0.1', '10.0.0.9'), { interface: SECOND })).toMatchObject({ interface: BACK });
    expect(pass(world, datagram(ROUTER, SERVER, '172.16.0.1', '10.0.0.1'), { interface: BACK })).toMatchObject({ interface: SECOND });
  });

  test('a frame to one station that comes round ends after one round', () => {
    const world = single();
    const frames = Array.from({ length: 3 }, (_, i) => datagram(BOB, ALICE, '10.0.0.9', `10.0.0.${i}`));
    for (const frame of frames) expect(pass(world, frame, { interface: FRONT }).verdict).toBe('crossed');
    // The sides are joined elsewhere: what went out behind is there again.
    const round = () => frames.map((frame) => pass(world, frame, { interface: BACK }).verdict);
    expect([round(), round()]).toEqual([
      ['crossed', 'crossed', 'crossed'],
      ['dropLoop', 'dropLoop', 'dropLoop'],
    ]);
    // Such as come later end as they come round for the first time.
    const later = datagram(BOB, ALICE, '10.0.0.9', '10.0.0.77');
    expect([FRONT, BACK].map((side) => pass(world, later, { interface: side }).verdict)).toEqual(['crossed', 'dropLoop']);
  });

  test('longer than the MTU of the other side: dropped and counted; a super-packet by its segments', () => {
    const world = new World({ inline: { ...between(port(FRONT)), backendMtu: 1400 } });
    const sized = (length: number) => bytes(`${SERVER}${ALICE}88b5 ${'45'.repeat(length)}`);
    expect(pass(world, sized(1400), foreign).verdict).toBe('crossed');
    expect(pass(world, sized(1401), foreign)).toMatchObject({ verdict: 'dropTooLong', out: 'drop' });
    expect(pass(world, bytes(`${ALICE}${SERVER}88b5 ${'45'.repeat(1500)}`), { ...foreign, interface: BACK }).verdict).toBe('crossed');
    const large = (gso: number) => world.send({ ...fromClient({ to: 81, payload: new Uint8Array(4000) }), gso }).verdict;
    expect([large(1360), large(1361)]).toEqual(['crossed', 'dropTooLong']);
    const six = bytes(`${SERVER}${ALICE}86dd 60000000 0fb4 06 40 ${'00'.repeat(32)} ${'00'.repeat(12)}80${'00'.repeat(4007)}`);
    const [tooLong, fits] = [1329, 1328].map(
      (gso) => world.sendFrames([{ frame: six, flags: (gso << 16) | FLAG_GSO, arrival: foreign }])[0].verdict,
    );
    expect([tooLong, fits]).toEqual(['dropTooLong', 'crossed']);
  });

  test('a service’s packet that is too large for the other side is answered, by the service, in MACs and IP', () => {
    const world = new World({ inline: between({ ...port(FRONT), mtu: 9000 }) });
    world.send(fromClient({ flags: 'S' }));
    world.send(fromServer({ flags: 'SA' }), { interface: BACK });
    const big = { ...fromClient({ sequence: 1, acknowledgment: 1, payload: new Uint8Array(3000) }), dontFragment: true };
    const { verdict, out, interface: by, frame } = world.send(big);
    expect({ verdict, out, by }).toEqual({ verdict: 'tooBig', out: 'send', by: FRONT });
    const asked = buildFrame(big);
    expect([...frame.subarray(0, 12)]).toEqual([...asked.subarray(6, 12), ...asked.subarray(0, 6)]);
    // From the VIP to the client: type 3, code 4, the MTU.
    expect([...frame.subarray(26, 34)]).toEqual([...asked.subarray(30, 34), ...asked.subarray(26, 30)]);
    expect([frame[34], frame[35], frame[40] * 256 + frame[41]]).toEqual([3, 4, 1500]);
  });
});

describe('several frontend ports', () => {
  const back = { interface: BACK };
  const toAlice = datagram(ALICE, SERVER, '172.16.0.1', '10.0.0.9');

  test('what nobody knows goes to all of them, from any of them to the backend’s', () => {
    const world = multi();
    expect(pass(world, toAlice, back)).toMatchObject({ verdict: 'flooded', out: 'flood' });
    expect(pass(world, datagram(BOB, ALICE, '10.0.0.9', '10.0.0.10'), { interface: SECOND })).toMatchObject({ interface: BACK });
  });

  test('by the MAC address of who has sent, by the IPv4 address where that is another’s', () => {
    const world = multi();
    pass(world, datagram(SERVER, ALICE, '10.0.0.9', '172.16.0.1'), { interface: SECOND });
    expect(pass(world, toAlice, back)).toMatchObject({ verdict: 'crossed', interface: SECOND });
    expect(pass(world, datagram(BOB, SERVER, '172.16.0.1', '10.0.0.9'), back)).toMatchObject({ interface: SECOND });
    const six = bytes(`${ALICE}${SERVER}86dd 6000000000003b40${'00'.repeat(32)}`);
    expect(pass(world, six, { ...foreign, ...back })).toMatchObject({ verdict: 'crossed', interface: SECOND });
  });

  test('ARP asks at the right one: by the file, else as learnt; others at all', () => {
    const world = multi(['10.0.0.9'], ['10.7.0.0/16']);
    const asked = (target: string) => pass(world, arp(MANY, SERVER, 1, '172.16.0.1', target), { ...foreign, ...back });
    expect(asked('10.0.0.9')).toMatchObject({ verdict: 'crossed', interface: FRONT });
    expect(asked('10.7.200.1')).toMatchObject({ verdict: 'crossed', interface: SECOND });
    expect(asked('10.0.0.77')).toMatchObject({ verdict: 'flooded' });
    pass(world, arp(SERVER, BOB, 2, '10.0.0.77', '172.16.0.1'), { ...foreign, interface: SECOND });
    expect(asked('10.0.0.78')).toMatchObject({ verdict: 'flooded' });
    world.now += 2000;
    expect(asked('10.0.0.77')).toMatchObject({ verdict: 'crossed', interface: SECOND });
  });

  test('ARP for whom nobody has answered since it was last asked for, or who was silent for a minute, asks at all', () => {
    const world = multi();
    let number = 0;
    // Each is another frame: whoever asks goes on to another address of its own.
    const asks = () => pass(world, arp(MANY, SERVER, 1, `172.16.0.${++number}`, '10.0.0.77'), { ...foreign, ...back });
    const answers = (by: number) => pass(world, arp(SERVER, BOB, 2, '10.0.0.77', `172.16.0.${number}`), { ...foreign, interface: by });
    answers(FRONT);
    expect(asks()).toMatchObject({ verdict: 'crossed', interface: FRONT });
    answers(FRONT);
    expect(asks()).toMatchObject({ verdict: 'crossed', interface: FRONT });
    expect([asks().verdict, asks().verdict]).toEqual(['flooded', 'flooded']);
    // It has moved, and been silent for longer than it was held to be where it was.
    world.now += 2000;
    answers(SECOND);
    expect(asks()).toMatchObject({ verdict: 'crossed', interface: SECOND });
    answers(SECOND);
    world.now += 60_000;
    expect(asks().verdict).toBe('flooded');
  });

  test('ports change: connections go by the same ones, what one had learnt is not taken for another', () => {
    const world = multi();
    world.send(fromClient({ flags: 'S' }), { interface: SECOND });
    pass(world, datagram(SERVER, ALICE, '10.0.0.9', '172.16.0.1'), { interface: SECOND });
    world.core.crossing?.setPorts(between(port(SECOND), port(9)));
    expect(pass(world, toAlice, back).verdict).toBe('flooded');
    expect(world.send(fromServer({ flags: 'SA' }), back)).toMatchObject({ verdict: 'forwarded', interface: SECOND });
    world.core.crossing?.setPorts(between(port(9)));
    expect(world.send(fromServer({ flags: 'SA' }), back)).toMatchObject({ verdict: 'dropNoRoute', out: 'drop' });
    world.core.crossing?.setPorts(between(port(9), port(SECOND)));
    expect(world.send(fromServer({ flags: 'SA' }), back)).toMatchObject({ verdict: 'forwarded', interface: SECOND });
  });

  test('the file’s word counts more than what strangers claim, the longest prefix most', () => {
    const world = multi(['10.0.0.0/24'], ['10.0.0.9']);
    pass(world, datagram(SERVER, ALICE, '10.0.0.9', '172.16.0.1'), { interface: FRONT });
    expect(pass(world, toAlice, back)).toMatchObject({ interface: SECOND });
    expect(pass(world, datagram(ROUTER, SERVER, '172.16.0.1', '10.0.0.8'), back)).toMatchObject({ interface: FRONT });
  });

  test('what is to many goes to all, and who is silent for five minutes is forgotten', () => {
    const world = multi(['10.0.0.9'], ['10.0.0.10']);
    pass(world, datagram(SERVER, BOB, '10.1.1.1', '172.16.0.1'), { interface: SECOND });
    expect(pass(world, datagram(MANY, SERVER, '172.16.0.1', '10.0.0.9'), back).verdict).toBe('flooded');
    expect(pass(world, datagram('01005e000001', SERVER, '172.16.0.1', '224.0.0.1'), back).verdict).toBe('flooded');
    const toBob = datagram(BOB, SERVER, '172.16.0.1', '10.1.1.1');
    expect(pass(world, toBob, back)).toMatchObject({ verdict: 'crossed', interface: SECOND });
    world.now += 300_001;
    expect(pass(world, toBob, back).verdict).toBe('flooded');
  });

  test('a service’s answer goes to the port that its client’s SYN came by', () => {
    const world = multi();
    expect(world.send(fromClient({ flags: 'S' }), { interface: SECOND })).toMatchObject({ verdict: 'opened', interface: BACK });
    expect(world.send(fromServer({ flags: 'SA' }), back)).toMatchObject({ verdict: 'forwarded', interface: SECOND });
  });
});

describe('a station that is busy', () => {
  test('moves for as many frames as it has sent, at once when it was silent for two seconds', () => {
    const stations = new Stations(7);
    for (let i = 0; i < 10; i++) stations.learn(1, 2, 0, 100 + i);
    // Half as many frames of somebody who says to be it.
    for (let i = 0; i < 20; i++) {
      stations.learn(1, 2, 0, 200 + i);
      if (i % 2 === 0) expect(stations.learn(1, 2, 1, 200 + i)).toBe(false);
    }
    expect(stations.find(1, 2, 300)).toBe(0);
    for (let i = 0; i < 20; i++) expect(stations.learn(1, 2, 1, 300)).toBe(false);
    expect([stations.learn(1, 2, 1, 300), stations.find(1, 2, 300)]).toEqual([false, 1]);
    expect([stations.learn(1, 2, 0, 2299), stations.find(1, 2, 2299)]).toEqual([false, 1]);
    expect([stations.learn(1, 2, 0, 2300), stations.find(1, 2, 2300)]).toEqual([false, 0]);
    expect(stations.learn(1, 2, 0, 4300)).toBe(true);
  });

  test('behind the servers’ port moves by frames alone for a minute, though it is silent: a service’s are not counted', () => {
    const stations = new Stations(7, 5);
    for (let i = 0; i < 3; i++) stations.learn(1, 2, 5, 0);
    for (let i = 0; i < 3; i++) expect(stations.learn(1, 2, 0, 50_000)).toBe(false);
    expect(stations.find(1, 2, 50_000)).toBe(5);
    stations.learn(1, 2, 0, 50_001);
    expect(stations.find(1, 2, 50_001)).toBe(0);
    // Of other ports two seconds do.
    stations.learn(1, 2, 5, 52_001);
    expect(stations.find(1, 2, 52_001)).toBe(5);
    stations.learn(1, 2, 0, 112_001);
    expect(stations.find(1, 2, 112_001)).toBe(0);
  });

  test('has at most 64 frames to its credit', () => {
    const stations = new Stations(7);
    for (let i = 0; i < 1000; i++) stations.learn(1, 2, 0, 0);
    for (let i = 0; i < 64; i++) stations.learn(1, 2, 1, 1);
    expect(stations.find(1, 2, 1)).toBe(0);
    stations.learn(1, 2, 1, 1);
    expect(stations.find(1, 2, 1)).toBe(1);
  });
});

test('20,000 strangers push out others, which is counted, and never make the table grow', () => {
  const stations = new Stations(0x1234567);
  for (let i = 0; i < 20_000; i++) stations.learn(i, 0, i % 7, i);
  const known = Array.from({ length: 20_000 }, (_, i) => stations.find(i, 0, 20_000)).filter((found, i) => found === i % 7).length;
  expect(known).toBeLessThanOrEqual(4096);
  expect(known).toBeGreaterThan(3500);
  expect(stations.evicted).toBe(20_000 - known);
  // Those who are old make way without a word.
  for (let i = 0; i < 100; i++) stations.learn(i, 1, 0, 400_000);
  expect(stations.evicted).toBe(20_000 - known);
});
