/** What routers say of wrapped packets that are too big: which of it is heard, and what comes of it. */
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { OuterPaths, type OuterPathsParts } from '../../src/engine/outer-paths.ts';
import type { Way } from '../../src/forward/ways.ts';
import { mtuProbe, tooBigFor } from '../../src/io/mtu-probe.ts';
import { type OuterError, readTooBig, type TunnelEnd, tooBigAbout, tooBigAboutTunnels } from '../../src/io/outer-errors.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { sum } from '../../src/packet/checksum.ts';
import { slabOf } from '../../src/packet/fields.ts';
import { checkProgram, HOST, run } from '../lab/bpf.ts';
import { waitUntil } from '../lab/wait.ts';
import { ICMP, ipv4, type Packet, UDP } from '../lab/wire.ts';

const [US, SERVER, ROUTER, IPIP] = ['10.0.0.9', '10.0.1.1', '10.0.0.1', 4];
const GUE: Packet = { source: US, destination: SERVER, protocol: UDP, sourcePort: 40_000, destinationPort: 19_523, dontFragment: true };

/** Its IP header and so many bytes more. */
function saysTooBig(about: Packet, { bytes = 8, mtu = 1400, type = 3, code = 4 } = {}): Buffer {
  const payload = ipv4({ ...about, payload: Buffer.alloc(1000) }).subarray(0, (about.options?.length ?? 0) + 20 + bytes);
  return ipv4({ source: ROUTER, destination: US, protocol: ICMP, type, code, rest: mtu, payload });
}

function aboutQuoted(quoted: Buffer): Buffer {
  return ipv4({ source: ROUTER, destination: US, protocol: ICMP, type: 3, code: 4, rest: 1400, payload: quoted });
}

const filter = tooBigAboutTunnels();

/** As it is heard. */
function heard(packet: Buffer, by = filter): OuterError | undefined {
  if (run(by, packet, HOST) === 0) return undefined;
  const memory = new SharedArrayBuffer(2048);
  new Uint8Array(memory).set(packet);
  return readTooBig(slabOf(memory), 0);
}

test('what routers say about UDP and IP in IP is heard, and nothing else', () => {
  checkProgram(filter);
  const addresses = { router: ROUTER, source: parseAddress(US), destination: parseAddress(SERVER) };
  const ipip = { ...GUE, protocol: IPIP };
  expect([saysTooBig(GUE), saysTooBig(GUE, { bytes: 500, mtu: 0 }), saysTooBig(ipip)].map((packet) => heard(packet))).toEqual([
    { ...addresses, port: 19_523, mtu: 1400 },
    { ...addresses, port: 19_523, mtu: 0 },
    { ...addresses, port: 0, mtu: 1400 },
  ]);
  const damaged = saysTooBig(GUE);
  damaged[22] ^= 1;
  const others = [
    saysTooBig({ ...GUE, protocol: 6 }),
    saysTooBig(GUE, { type: 11 }),
    saysTooBig(GUE, { code: 3 }),
    saysTooBig({ ...GUE, options: Buffer.alloc(4, 1) }),
    saysTooBig(GUE, { bytes: 7 }),
    ipv4(GUE),
    damaged,
  ];
  expect(others.map((packet) => heard(packet))).toEqual(others.map(() => undefined));
});

test('only what is about a server’s tunnel takes a place in the ring, up to four hundred of them; of more, any', () => {
  const address = (i: number) => `10.7.${i >>> 8}.${i & 255}`;
  const end = (i: number) => ({ destination: parseAddress(address(i)), port: [19_523, 6080, 0][i % 3] });
  for (const count of [1, 3, 400, 401]) {
    const ends = Array.from({ length: count }, (_, i) => end(i));
    const named = tooBigAboutTunnels([...ends, end(0)]);
    checkProgram(named);
    const about = (destination: string, port: number) =>
      saysTooBig({ ...GUE, destination, protocol: port === 0 ? IPIP : UDP, destinationPort: port });
    const ours = ends.map(({ port }, i) => heard(about(address(i), port), named));
    expect(ours).toMatchObject(ends);
    const [first, last] = [address(0), address(count - 1)];
    const strange = [about(SERVER, 19_523), about(first, 0), about(first, 6080), about(last, 53), about(SERVER, 0), about(SERVER, 53)];
    expect(strange.map((packet) => run(named, packet, HOST) > 0)).toEqual(strange.map(() => count > 400));
    expect(heard(saysTooBig({ ...GUE, destination: first, protocol: 6 }), named)).toBeUndefined();
  }
});

test('only who quotes the very packet that lb4 has sent is believed: identification, ports, checksum, or what is inside of IP in IP', () => {
  for (const port of [19_523, 0]) {
    const make = () => mtuProbe({ source: US, server: SERVER, port }, 1500);
    const probe = make();
    let other = make();
    // One pair in 65,535 has the same identification: half of the one is the other then.
    while (other.readUInt16BE(4) === probe.readUInt16BE(4)) other = make();
    const exact = tooBigAbout([probe, other]);
    checkProgram(exact);
    expect(run(exact, aboutQuoted(other.subarray(0, 28)), HOST)).toBeGreaterThan(0);
    // Of each a half.
    expect(run(exact, aboutQuoted(Buffer.concat([probe.subarray(0, 20), other.subarray(20, 28)])), HOST)).toBe(0);
    const quoted = probe.subarray(0, 28);
    // As it is at the router.
    quoted[8] = 250;
    expect(run(exact, aboutQuoted(quoted), HOST)).toBeGreaterThan(0);
    expect(heard(aboutQuoted(quoted))).toMatchObject({ port, mtu: 1400 });
    for (const at of [4, 5, 15, 19, 20, 21, 22, 23, 26, 27]) {
      const forged = Buffer.from(quoted);
      forged[at] = (forged[at] ?? 0) ^ 1;
      expect([at, run(exact, aboutQuoted(forged), HOST)]).toEqual([at, 0]);
    }
    expect(run(exact, aboutQuoted(quoted.subarray(0, 26)), HOST)).toBe(0);
    expect(mtuProbe({ source: US, server: SERVER, port }, 1500).subarray(0, 28)).not.toEqual(quoted);
  }
});

// Packets leave to a list, and a router that is none is silent about the first ones.
test('some packets are sent, until a router says something of one', async () => {
  for (const [answered, sent, found] of [
    [3, 3, { mtu: 1400 }],
    [9, 4, undefined],
  ] as const) {
    const packets: Buffer[] = [];
    let isOpen = true;
    const means = {
      betweenMs: 0,
      patienceMs: 0,
      send: (packet: Buffer) => packets.push(packet) > 0,
      open: (exact: Uint32Array) => ({
        take: () => (packets.length === answered && run(exact, aboutQuoted(packets.at(-1) as Buffer), HOST) > 0 ? [error()] : []),
        close: () => void (isOpen = false),
      }),
    };
    const said = await tooBigFor({ source: US, server: SERVER, port: 19_523 }, 1500, means);
    if (found === undefined) expect(said).toBeUndefined();
    else expect(said).toMatchObject(found);
    const secrets = packets.map((packet) => packet.readUIntBE(20, 2) * 65_536 + packet.readUInt16BE(4));
    expect([packets.length, new Set(secrets).size, isOpen]).toEqual([sent, sent, false]);
  }
  const mute = { betweenMs: 0, patienceMs: 0, send: () => false, open: () => ({ take: () => [], close: () => {} }) };
  await expect(tooBigFor({ source: US, server: SERVER, port: 0 }, 1500, mute)).rejects.toThrow(
    `this host sends no packet of 1500 bytes to ${SERVER}`,
  );
});

test('a packet of lb4’s own is whole, may not be cut, and is dropped by whoever unwraps it', () => {
  const probe = mtuProbe({ source: US, server: SERVER, port: 19_523 }, 1400);
  const data = probe.subarray(28);
  expect(data[0]).toBe(0xc0);
  const [id, sourcePort] = [probe.readUInt16BE(4), probe.readUInt16BE(20)];
  expect([id > 0, sourcePort >= 32_768, probe[6]]).toEqual([true, true, 0x40]);
  const sums = (bytes: Buffer) => sum(bytes, 0, bytes.length);
  const pseudo = Buffer.concat([probe.subarray(12, 20), Buffer.from([0, 17, 1380 >> 8, 1380 & 255]), probe.subarray(20)]);
  expect([probe.length, probe.readUInt16BE(2), sums(probe.subarray(0, 20)), sums(pseudo)]).toEqual([1400, 1400, 0xffff, 0xffff]);
});

const way = (more: Partial<Way> = {}): Way => {
  return { hop: 1, source: 0, destination: parseAddress('127.0.0.2'), port: 19_523, protocol: UDP, onLink: false, tunnel: 36, ...more };
};
const error = (more: Partial<OuterError> = {}): OuterError => {
  return { router: ROUTER, source: parseAddress('127.0.0.1'), destination: parseAddress('127.0.0.2'), port: 19_523, mtu: 1400, ...more };
};

const open: OuterPaths[] = [];
afterEach(() => open.splice(0).forEach((paths) => paths.close()));

/** With such ways, errors that come at each look, what routers say of our own packets, and what came of it. */
function world(ways: readonly Way[], errors: readonly OuterError[], more: Partial<OuterPathsParts> = {}) {
  const told: string[] = [];
  const limits: (number | undefined)[] = [];
  const counts = { closed: 0 };
  const asked: (readonly TunnelEnd[])[] = [];
  const socket = {
    hear: (ends: readonly TunnelEnd[]) => void asked.push(ends),
    take: () => [...errors],
    close: () => void counts.closed++,
  };
  const parts = {
    tunnels: () => ways,
    fit: () => ({ bytes: Math.min(1500, limits.at(-1) ?? 1500), source: parseAddress('127.0.0.1') }),
    limit: (_server: number, bytes: number | undefined) => void limits.push(bytes),
    told: (line: string) => void told.push(line),
  };
  const paths = new OuterPaths({ ...parts, open: () => socket, ...more });
  open.push(paths);
  return { paths, told, limits, counts, asked };
}

/** Routers say so of packets larger than that; how large ours were. */
function behind(links: readonly number[]) {
  const sent: number[] = [];
  const probe: OuterPathsParts['probe'] = async (_target, bytes) => {
    sent.push(bytes);
    const mtu = links.find((link) => link < bytes);
    return mtu === undefined ? undefined : error({ mtu });
  };
  return { sent, probe };
}

test('a forged error has packets sent once in a while, whatever it says, and changes nothing; that is told when no router has said a thing three times', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const others = [error({ destination: 1 }), error({ port: 0 }), error({ port: 80 })];
  const { sent, probe } = behind([]);
  const { paths, told, limits } = world([way()], [error({ mtu: 552 }), error(), ...others], { probe });
  for (let round = 1; round <= 3; round++) {
    for (let i = 0; i < 2; i++) {
      paths.look();
      await new Promise(setImmediate);
    }
    expect([sent.length, told.length]).toEqual([round, round === 3 ? 1 : 0]);
    vi.advanceTimersByTime(10_001);
  }
  expect(paths.heard).toBe(12);
  expect(told[0]).toMatch(
    /^10\.0\.0\.1 says that packets of 1500 bytes to server 127\.0\.0\.2 are too big \(552 would fit\), but no router says so of packets of lb4's own/,
  );
  expect([new Set(sent), limits]).toEqual([new Set([1500]), []]);
});

test('a server whose try goes on is not tried once more, however long that takes', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const sent: number[] = [];
  const probe: OuterPathsParts['probe'] = (_target, bytes) => {
    sent.push(bytes);
    return new Promise(() => {});
  };
  const { paths } = world([way()], [error()], { probe });
  paths.look();
  vi.advanceTimersByTime(60_000);
  paths.look();
  paths.look();
  expect(sent).toEqual([1500]);
});

test('what is said of our own packet is believed, link by link, down to what any link carries, and forgotten with the server', async () => {
  for (const [links, learnt] of [
    [
      [1400, 1300],
      [1400, 1300],
    ],
    [[0], [576]],
  ] as const) {
    const ways = [way()];
    const { sent, probe } = behind(links);
    const { paths, told, limits } = world(ways, [error()], { probe });
    paths.look();
    await waitUntil(() => told.length === 1, { what: 'it to be told' });
    expect(told[0]).toMatch(new RegExp(`^a link on the way to server 127\\.0\\.0\\.2 takes ${learnt.at(-1)} bytes, says 10\\.0\\.0\\.1`));
    expect([limits, sent]).toEqual([learnt, [1500, ...learnt]]);
    ways.pop();
    paths.look();
    expect(limits.at(-1)).toBeUndefined();
  }
});

test('what comes from elsewhere or is known already has nothing sent, and keeps nothing else from being tried', async () => {
  const errors = [error({ source: 1 }), error({ mtu: 1500 }), error({ mtu: 65_535 })];
  const { sent, probe } = behind([1400]);
  const { paths, limits } = world([way()], errors, { probe });
  paths.look();
  expect([paths.heard, sent, limits]).toEqual([3, [], []]);
  errors.push(error());
  paths.look();
  await waitUntil(() => sent.length === 2, { what: 'it to be tried' });
  expect(limits).toEqual([1400]);
});

test('so many are tried at a time; one that cannot be sent is told once', async () => {
  const address = (i: number) => parseAddress(`10.1.0.${i}`);
  const many = Array.from({ length: 20 }, (_, i) => address(i));
  const sent: string[] = [];
  const probe: OuterPathsParts['probe'] = ({ server }) => {
    sent.push(server);
    return new Promise(() => {});
  };
  const { paths } = world(
    many.map((destination) => way({ destination })),
    many.map((destination) => error({ destination })),
    { probe },
  );
  paths.look();
  paths.look();
  expect(sent.length).toBe(8);

  const mute = world([way()], [error()], { probe: () => Promise.reject(new Error('EPERM')) });
  for (let i = 0; i < 2; i++) {
    mute.paths.look();
    await new Promise(setImmediate);
  }
  expect(mute.told).toEqual(['what routers say of packets to server 127.0.0.2 that are too big cannot be verified: Error: EPERM']);
});

test('errors about the tunnels that there are now are asked for, and again when they are others or nobody listened', () => {
  const [first, second] = [[way()], [way(), way({ destination: parseAddress('127.0.0.3') })]];
  const tunnels = [first, first, second, [], second];
  const { paths, asked } = world([], [], { tunnels: () => tunnels.shift() ?? [] });
  for (let i = 0; i < 5; i++) paths.look();
  expect(asked).toEqual([first, second, second]);
});

test('without a tunnel nobody listens; where nobody can, that is told once, and tried again a second later', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const ways = [way()];
  const { paths, counts } = world(ways, []);
  paths.look();
  ways.pop();
  paths.look();
  expect(counts.closed).toBe(1);
  let opened = 0;
  const open = () => {
    opened++;
    throw new Error('EPERM');
  };
  const deaf = world([way()], [], { open });
  for (const later of [0, 999, 1]) {
    vi.advanceTimersByTime(later);
    deaf.paths.look();
  }
  expect(opened).toBe(2);
  expect(deaf.told).toEqual(['what routers say of wrapped packets that are too big is not heard: Error: EPERM']);
});
