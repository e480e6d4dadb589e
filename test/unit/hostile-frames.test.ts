/**
 * Hostile packets over the pipeline, in every mode, between packets of honest clients: nothing throws, nothing is written or decided by outside of the frame,
 * whatever leaves is what a rule has made, whole where it came whole, and each frame has one verdict. (What is native: test/fuzz.)
 */
import fc from 'fast-check';
import { beforeEach, expect, test, vi } from 'vitest';
import type { VerdictName } from '../../src/forward/verdict.ts';
import * as Flow from '../../src/layout/flow.ts';
import * as D from '../../src/layout/frames.ts';
import { addressNumber, isHost, parseAddress } from '../../src/packet/address.ts';
import { ICMP, TCP, UDP } from '../../src/packet/fields.ts';
import { fromClient as datagram, fromServer as datagramBack } from '../fixtures/datagrams.ts';
import { fromClient, fromServer } from '../fixtures/frames.ts';
import { type Hostile, hostile } from '../lab/hostile-frames.ts';
import { buildFrame, type Packet, wrongChecksums } from '../lab/packets.ts';
import {
  type Arrival,
  BACK,
  between,
  CLIENT,
  connectionsIn,
  FRONT,
  frontPort,
  MAC,
  type Outcome,
  SERVERS,
  VIP,
  World,
  type WorldOptions,
} from '../lab/world.ts';

// Pools of ports begin where chance says: two worlds begin alike.
beforeEach(() => {
  vi.spyOn(Math, 'random').mockReturnValue(0);
  return () => vi.restoreAllMocks();
});

const ETHERNET = 14;
const REWRITTEN = ['forwarded', 'opened', 'adopted', 'stateless'];
const CROSSED = ['crossed', 'flooded'];
/** Written by lb4 itself, back to who provoked it. */
const ANSWERS = /^(reset\w+|timeExceeded|tooBig|echoAnswered)$/;

/** Connections of honest clients, which the hostile go along. */
function honest({ protocol, mode }: WorldOptions): { packet: Packet; arrival?: Arrival }[] {
  if (protocol === ICMP) return [{ packet: { ethernet: [MAC.front, MAC.client], source: CLIENT, destination: VIP, echo: { id: 5000 } } }];
  const destination = mode === 'destination' ? { destination: CLIENT } : {};
  const replies = mode === undefined || mode === 'destination';
  return [5000, 5001, 5002].flatMap((from, i) => {
    const to = mode === 'destination' ? from : 33_768 + i;
    const server = i % 2;
    const back = { arrival: { interface: BACK } };
    if (protocol === UDP)
      return [{ packet: datagram({ from }) }, ...(replies ? [{ packet: datagramBack({ to }, destination, server), ...back }] : [])];
    const answer = { packet: fromServer({ to, flags: 'SA' }, destination, server), ...back };
    return [{ packet: fromClient({ from, flags: 'S' }) }, ...(replies ? [answer] : []), { packet: fromClient({ from }) }];
  });
}

/** What is true of an IPv4 packet's bytes. */
function read(ip: Uint8Array) {
  const words = new DataView(ip.buffer, ip.byteOffset, ip.length);
  const header = (ip[0] & 0xf) * 4;
  return {
    source: words.getInt32(12, true),
    destination: words.getInt32(16, true),
    ports: ip.length >= header + 4 ? words.getInt32(header, true) : 0,
    length: words.getUint16(2),
    header,
  };
}

function isWhole(ip: Uint8Array): boolean {
  return ip.length >= 20 && ip[0] >> 4 === 4 && (ip[0] & 0xf) >= 5 && ip.length >= (ip[0] & 0xf) * 4 && ip.length >= ip[2] * 256 + ip[3];
}

/** Throws unless some entry of the table, the one for what is not kept included, has made `after` of `before`. */
function expectRule(world: World, before: Uint8Array, after: Uint8Array): void {
  const { words } = world.table;
  const [from, to] = [read(before), read(after)];
  for (let at = 0; at < words.length; at += Flow.ENTRY) {
    if (words[at + Flow.NEW_SOURCE] !== to.source || words[at + Flow.NEW_DESTINATION] !== to.destination) continue;
    if (words[at + Flow.SOURCE] === from.source && words[at + Flow.DESTINATION] === from.destination) return;
    if (at >> Flow.ENTRY_SHIFT === world.table.scratch) return;
  }
  throw new Error('no entry has made what left');
}

function expectRewritten(world: World, before: Uint8Array, { flags, frame, verdict }: Outcome): void {
  const out = frame.subarray(ETHERNET);
  const bytes = (flags & D.FLAG_TUNNEL) === 0 ? 0 : world.frames[D.HEADER + D.TUNNEL];
  if (bytes > 0) {
    expect(Buffer.compare(out.subarray(bytes), before.subarray(0, read(before).length)), 'the packet inside').toBe(0);
    expect(SERVERS.map(parseAddress)).toContain(read(out).destination);
    expect(wrongChecksums(out.subarray(0, bytes)).includes('IP')).toBe(false);
    return;
  }
  const from = read(before);
  expectRule(world, before, out);
  expect(isHost(read(out).destination), `${verdict} to many`).toBe(true);
  // All but addresses, ports, TTL and checksums is as it came.
  const kept = (ip: Uint8Array) => {
    const copy = ip.slice(0, from.length);
    copy
      .fill(0, 8, 9)
      .fill(0, 10, 20)
      .fill(0, from.header, from.header + (ip[9] === 1 ? 8 : 4));
    const checksum = from.header + (ip[9] === 6 ? 16 : 6);
    return copy.fill(0, checksum, checksum + 2);
  };
  expect(Buffer.compare(kept(out), kept(before)), verdict).toBe(0);
}

function expectMade(world: World, before: Uint8Array, came: number, outcome: Outcome): void {
  const { verdict, flags, frame } = outcome;
  const out = frame.subarray(ETHERNET);
  if (CROSSED.includes(verdict)) {
    expect(Buffer.compare(frame.subarray(ETHERNET), before)).toBe(0);
    return;
  }
  // A flag is not set that it did not come with, but what lb4 adds.
  expect(flags & ~came & ~(D.FLAG_CUT | D.FLAG_TUNNEL), verdict).toBe(0);
  const partial = (flags & D.FLAG_PARTIAL) !== 0;
  const inner = (flags & D.FLAG_TUNNEL) === 0 ? out : out.subarray(world.frames[D.HEADER + D.TUNNEL]);
  expect(read(out).length, verdict).toBe(out.length);
  if (isWhole(before)) {
    const [was, is] = [wrongChecksums(before, (came & D.FLAG_PARTIAL) !== 0), wrongChecksums(inner, partial)];
    const own = (names: string[]) => names.filter((name) => !name.startsWith('quoted'));
    if (was.length === 0) expect(own(is), verdict).toEqual([]);
    if (!was.includes('IP')) expect(is, verdict).not.toContain('IP');
  }
  if (REWRITTEN.includes(verdict) || verdict === 'fragmentFollowed') {
    if (verdict !== 'fragmentFollowed') expectRewritten(world, before, outcome);
    return;
  }
  if (ANSWERS.test(verdict)) {
    expect(read(out).destination, verdict).toBe(read(before).source);
    // Never to many, nor to this network: RFC 1122 section 3.2.2.
    expect(read(out).destination & 0xff).toBeGreaterThan(0);
    expect(read(out).destination & 0xff).toBeLessThan(224);
    return;
  }
  expect(['icmpTranslated', 'passed'], verdict).toContain(verdict);
}

/** What a driver says of a frame in such a world: others' frames and their tags, it has between interfaces alone. */
function arrivalIn({ inline }: WorldOptions, { vlan, foreign, interface: by = FRONT, ...rest }: Arrival): Arrival {
  const more = { ...(vlan === undefined ? {} : { vlan }), ...(foreign === undefined ? {} : { foreign }) };
  return {
    ...rest,
    interface: inline !== undefined && by > BACK ? FRONT : by,
    ...(inline === undefined ? {} : more),
  };
}

function worldWith(options: WorldOptions, guard: number): World {
  const world = new World({ ...options, guard });
  for (const { packet, arrival } of honest(options)) world.send(packet, arrival);
  return world;
}

/** A world's table, without a datagram's third word: pass 3 writes it down of any packet, and it means something in TCP alone. */
function kept({ table: { words } }: World): Buffer {
  const copy = words.slice();
  for (let at = 0; at < copy.length; at += Flow.ENTRY)
    if (((copy[at + Flow.STATE] >>> Flow.PROTOCOL_SHIFT) & 0xff) !== TCP) copy[at + Flow.ACKNOWLEDGED] = 0;
  return Buffer.from(copy.buffer);
}

function survives(options: WorldOptions, steps: readonly Hostile[]): void {
  // Two of them that differ by what stands around frames alone: what it is must not matter.
  const [world, twin] = [worldWith(options, 0xee), worldWith(options, 0x45)];
  if (options.up === undefined && options.echo === undefined) expect(connectionsIn(world).length).toBeGreaterThan(0);
  const already = world.verdicts.reduce((sum, n) => sum + n, 0);
  for (const { kind, frame: frameIn, flags, arrival } of steps) {
    const frame = frameIn(world);
    const before = frame.slice(ETHERNET);
    const how = { frame, flags, arrival: arrivalIn(options, arrival) };
    // Throws unless exactly one verdict was counted, OUT was set, and nothing around the frame was written to.
    const [outcome] = world.sendFrames([how]);
    const [other] = twin.sendFrames([{ ...how, frame: frame.slice() }]);
    // (What is in front of a tunnel's headers, `transmit` writes.)
    expect({ ...other, vnet: outcome.vnet, kind }).toEqual({ ...outcome, kind });
    const verdict: VerdictName = outcome.verdict;
    const leaves =
      REWRITTEN.includes(verdict) ||
      CROSSED.includes(verdict) ||
      ANSWERS.test(verdict) ||
      ['icmpTranslated', 'fragmentFollowed', 'passed'].includes(verdict);
    expect(outcome.out !== 'drop', `${verdict} of ${kind}`).toBe(leaves);
    if (leaves)
      expectMade(
        world,
        before,
        flags | (arrival.noEthernet ? D.FLAG_NO_ETHERNET : 0) | (how.arrival.foreign ? D.FLAG_FOREIGN : 0),
        outcome,
      );
    expect(connectionsIn(world).length).toBeLessThanOrEqual(world.records.capacity);
  }
  expect(Buffer.compare(kept(world), kept(twin)), 'the tables of both').toBe(0);
  expect(world.verdicts.reduce((sum, n) => sum + n, 0)).toBe(already + steps.length);
  world.sweepAll(400_000);
  expect(world.table.size).toBe(0);
  expect(connectionsIn(world)).toEqual([]);
}

const tunnel = { port: 19_523, source: 0 };
const inline = between(frontPort(FRONT));

test.each<[string, WorldOptions]>([
  ['full NAT', {}],
  ['full NAT, UDP', { protocol: UDP }],
  ['full NAT, pings', { protocol: ICMP }],
  ['full NAT, pings answered here', { echo: true }],
  ['full NAT, a small MTU', { mtu: 100, clientMtu: 100 }],
  ['full NAT, a small table', { connections: 4 }],
  ['full NAT, no server up', { up: [false, false] }],
  ['client’s address kept', { mode: 'destination' }],
  ['client’s address kept, UDP', { mode: 'destination', protocol: UDP }],
  ['DSR', { mode: 'dsr', scheduler: 'maglev' }],
  ['DSR, UDP', { mode: 'dsr', scheduler: 'maglev', protocol: UDP }],
  ['DSR, L2', { mode: 'dsrL2' }],
  ['DSR, GUE', { mode: 'dsrGue', tunnel, scheduler: 'maglev' }],
  ['DSR, GUE, UDP', { mode: 'dsrGue', tunnel, scheduler: 'maglev', protocol: UDP }],
  ['DSR, GUE, pings', { mode: 'dsrGue', tunnel, scheduler: 'maglev', protocol: ICMP }],
  ['DSR, IP in IP', { mode: 'dsrIpip', tunnel: { ...tunnel, port: 0 }, scheduler: 'maglev' }],
  ['between interfaces', { inline }],
  ['between interfaces, UDP', { inline, protocol: UDP }],
  ['between interfaces, client’s address kept', { inline, mode: 'destination' }],
])(
  '%s',
  (_, options) => {
    fc.assert(
      fc.property(fc.array(hostile, { minLength: 1, maxLength: 40, size: 'max' }), (steps) => survives(options, steps)),
      { numRuns: Number(process.env['FUZZ_RUNS'] ?? 12) },
    );
  },
  600_000,
);

test('of a frame that is called a super-packet, and ends in its headers, nothing behind it is looked at', () => {
  const whole = buildFrame({
    ethernet: [MAC.front, MAC.client],
    source: '198.51.100.9',
    destination: '198.51.100.10',
    tcp: { from: 5000, to: 81, flags: 'A' },
  });
  for (const length of [20, 28, 32, 39]) {
    const how = { frame: whole.slice(0, ETHERNET + length), flags: D.FLAG_GSO | (1460 << 16), arrival: { interface: FRONT } };
    const verdicts = [0xee, 0x45].map((guard) => new World({ inline, guard }).sendFrames([how])[0].verdict);
    expect(verdicts, `${length} bytes`).toEqual(['crossed', 'crossed']);
  }
});

test('what is no host is told apart by its first byte', () => {
  expect(['0.1.2.3', '224.0.0.1', '255.255.255.255'].map((text) => addressNumber(text) >>> 24)).toEqual([0, 224, 255]);
});
