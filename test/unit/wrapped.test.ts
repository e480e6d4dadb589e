/** Packets inside of others (dsr = "gue" and "ipip"): every byte of what goes out, and what becomes of what does not fit. */
import { describe, expect, test } from 'vitest';
import { glbHash } from '../../src/balance/glb-hash.ts';
import { writeNoHop } from '../../src/forward/next-hops.ts';
import * as Flow from '../../src/layout/flow.ts';
import * as D from '../../src/layout/frames.ts';
import { HOP, TUNNEL } from '../../src/layout/hops.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { Director } from '../lab/glb-director.ts';
import { buildFrame, type Packet, pattern, referenceSum } from '../lab/packets.ts';
import { CLIENT, connectionsIn, MAC, OUTER, SERVERS, VIP, World, type WorldOptions } from '../lab/world.ts';

const GUE: WorldOptions = { mode: 'dsrGue', tunnel: { port: 19_523, source: 0 }, scheduler: 'maglev', up: [true, false] };
const IPIP: WorldOptions = {
  mode: 'dsrIpip',
  tunnel: { port: 0, source: parseAddress('172.16.0.9') },
  scheduler: 'maglev',
  up: [true, false],
};
const ETHERNET = 14;

const segment = (flags: string, more: Partial<Packet> = {}, payload = 0): Packet => ({
  ethernet: [MAC.front, MAC.client],
  source: CLIENT,
  destination: VIP,
  tcp: { from: 5000, to: 80, flags, payload: new Uint8Array(payload).fill(0x61) },
  ...more,
});

const hex = (bytes: Uint8Array) =>
  Buffer.from(bytes)
    .toString('hex')
    .replaceAll(/..(?=.)/g, '$& ');
const inner = (packet: Packet) => hex(buildFrame(packet).subarray(ETHERNET));

describe('what goes out', () => {
  test('gue: IPv4, UDP without a checksum, GUE, and the packet as it came, its TTL too', () => {
    const world = new World(GUE);
    const syn = segment('S', { ttl: 1 });
    const { verdict, out, frame, flags } = world.send(syn);
    expect([verdict, out, flags]).toEqual(['opened', 'send', D.FLAG_TUNNEL]);
    const port = Buffer.from(frame).readUInt16BE(34);
    expect(port).toBeGreaterThanOrEqual(0x8000);
    expect(referenceSum(frame.subarray(14, 34))).toBe(0xffff);
    const checksum = hex(frame.subarray(24, 26));
    expect(hex(frame)).toBe(
      [
        hex(Uint8Array.from([...bytesOf(MAC.servers[0]), ...bytesOf(MAC.back), 8, 0])),
        `45 00 00 4c 00 00 40 00 40 11 ${checksum} ac 10 00 fe ac 10 00 01`,
        `${hex(frame.subarray(34, 36))} 4c 43 00 38 00 00`,
        '01 04 00 00 00 00 00 00',
        inner(syn),
      ].join(' '),
    );
  });

  test('ipip: IPv4 alone, from the address that the file says', () => {
    const world = new World(IPIP);
    const { frame } = world.send(segment('S'));
    expect(referenceSum(frame.subarray(14, 34))).toBe(0xffff);
    const checksum = hex(frame.subarray(24, 26));
    expect(hex(frame.subarray(ETHERNET))).toBe(`45 00 00 3c 00 00 40 00 40 04 ${checksum} ac 10 00 09 ac 10 00 01 ${inner(segment('S'))}`);
  });

  test('another port is for new connections: those that run keep theirs', () => {
    const world = new World(GUE);
    const portOf = (from: number, flags: string) =>
      Buffer.from(world.send(segment(flags, { tcp: { from, to: 80, flags } })).frame).readUInt16BE(36);
    const before = [portOf(5000, 'S'), portOf(5000, 'A')];
    world.apply({ tunnel: { port: 6080, source: 0 } });
    expect([...before, portOf(5000, 'A'), portOf(5001, 'S')]).toEqual([19_523, 19_523, 19_523, 6080]);
  });

  test.each([1, 3])('gue with %i more hops: their addresses follow, and the length says so', (count) => {
    const world = new World({ ...GUE, tunnel: { port: 6080, source: 0, hops: count } });
    world.send(segment('S'));
    const { first } = connectionsIn(world)[0];
    const { words } = world.table;
    ['10.1.1.1', '10.1.1.2', '10.1.1.3'].forEach((address, i) => (words[first + Flow.NEW_SOURCE + i] = parseAddress(address)));
    words[first + Flow.DELTAS] |= count << 16;
    const { verdict, frame } = world.send(segment('A'));
    expect(verdict).toBe('forwarded');
    const hops = ['0a 01 01 01', '0a 01 01 02', '0a 01 01 03'].slice(0, count);
    const total = 40 + 36 + 4 * count;
    const length = (bytes: number) => `00 ${bytes.toString(16)}`;
    const port = hex(frame.subarray(34, 36));
    expect(hex(frame.subarray(16, 18))).toBe(length(total));
    expect(hex(frame.subarray(34))).toBe(
      [`${port} 17 c0 ${length(total - 20)} 00 00`, `0${1 + count} 04 00 00 00 00 00 0${count}`, ...hops, inner(segment('A'))].join(' '),
    );
  });

  test('one client’s connections leave from different ports, all packets of one from the same', () => {
    const world = new World(GUE);
    const portOf = (from: number, flags: string) => {
      const { frame } = world.send(segment(flags, { tcp: { from, to: 80, flags } }));
      return Buffer.from(frame).readUInt16BE(34);
    };
    const ports = [5000, 5001, 5002].map((from) => portOf(from, 'S'));
    expect(new Set(ports).size).toBe(3);
    expect([5000, 5001, 5002].map((from) => portOf(from, 'A'))).toEqual(ports);
  });

  test('a super-packet and a partial checksum are left to transmit, which is told how many bytes are around the packet', () => {
    const world = new World(GUE);
    world.send(segment('S'));
    const partial = segment('A', { tcp: { from: 5000, to: 80, flags: 'A', partial: true, payload: new Uint8Array(4000) }, gso: 1400 });
    const { flags, frame } = world.send(partial);
    expect(flags).toBe(D.FLAG_TUNNEL | D.FLAG_PARTIAL | D.FLAG_GSO | (1400 << 16));
    expect(world.frames[D.HEADER + D.TUNNEL]).toBe(36);
    expect(hex(frame.subarray(ETHERNET + 36))).toBe(inner(partial));
  });
});

describe('what does not fit', () => {
  test.each([
    ['gue', GUE, 1464],
    ['gue with a hop more', { ...GUE, tunnel: { port: 19_523, source: 0, hops: 1 } }, 1460],
    ['gue with three', { ...GUE, tunnel: { port: 19_523, source: 0, hops: 3 } }, 1452],
    ['ipip', IPIP, 1480],
  ] as const)('%s: its sender is told how much does', (_, options, most) => {
    const world = new World(options);
    world.send(segment('S'));
    const fits = world.send(segment('A', { dontFragment: true }, most - 40));
    expect([fits.verdict, fits.frame.length - ETHERNET - most]).toEqual(['forwarded', world.frames[D.HEADER + D.TUNNEL]]);
    const { verdict, frame } = world.send(segment('A', { dontFragment: true }, most - 39));
    expect([verdict, frame[34], frame[35], Buffer.from(frame).readUInt16BE(40)]).toEqual(['tooBig', 3, 4, most]);
  });

  test('without DF it is cut before it is wrapped', () => {
    const world = new World(GUE);
    world.send(segment('S'));
    const { verdict, cut, flags } = world.send(segment('A', { dontFragment: false }, 1460));
    expect([verdict, cut, flags]).toEqual(['forwarded', 1464, D.FLAG_TUNNEL | D.FLAG_CUT]);
  });
});

/** Of a router, about an answer. */
const ERROR: Packet = {
  ethernet: [MAC.front, MAC.client],
  source: '10.0.0.1',
  destination: VIP,
  icmp: {
    type: 3,
    code: 4,
    mtu: 1300,
    quote: { source: VIP, destination: CLIENT, tcp: { from: 80, to: 5000, flags: 'A', payload: new Uint8Array(8) } },
  },
};

/** The same about an answer of UDP. */
const UDP_ERROR: Packet = {
  ...ERROR,
  icmp: {
    type: 3,
    code: 4,
    mtu: 1300,
    quote: { source: VIP, destination: CLIENT, udp: { from: 80, to: 5000, payload: new Uint8Array(8) } },
  },
};
const ECHO: Packet = { ethernet: [MAC.front, MAC.client], source: CLIENT, destination: VIP, echo: { id: 7, sequence: 1 } };

describe('what belongs to no flow', () => {
  test.each([
    ['a segment in mid-stream', segment('A'), 'adopted'],
    ['an error about an answer', ERROR, 'icmpTranslated'],
  ] as const)('%s goes where the hash says, as it came', (_, packet, verdict) => {
    for (const [up, server] of [
      [[true, false], SERVERS[0]],
      [[false, true], SERVERS[1]],
    ] as const) {
      const sent = new World({ ...GUE, up }).send(packet);
      expect([sent.verdict, hex(sent.frame.subarray(30, 34))]).toEqual([verdict, hex(addressOf(server))]);
      expect(hex(sent.frame.subarray(ETHERNET + 36))).toBe(inner(packet));
    }
  });

  test.each([
    ['an error about a datagram', UDP_ERROR, 17, 'icmpTranslated'],
    ['a ping', ECHO, 1, 'opened'],
  ] as const)('%s, where the frontend takes such', (_, packet, protocol, verdict) => {
    for (const [up, server] of [
      [[true, false], SERVERS[0]],
      [[false, true], SERVERS[1]],
    ] as const) {
      const sent = new World({ ...GUE, protocol, up }).send(packet);
      expect([sent.verdict, hex(sent.frame.subarray(30, 34))]).toEqual([verdict, hex(addressOf(server))]);
      expect(hex(sent.frame.subarray(ETHERNET + 36))).toBe(inner(packet));
    }
  });

  test('an error about an answer of a known connection goes to its server', () => {
    const world = new World({ ...GUE, up: [false, true] });
    world.send(segment('S'));
    world.setServers([true, false]);
    expect(hex(world.send(ERROR).frame.subarray(30, 34))).toBe(hex(addressOf(SERVERS[1])));
  });
});

describe('by GLB’s table', () => {
  const GLB: WorldOptions = { ...GUE, scheduler: 'glb', up: [true, true], tunnel: { port: 19_523, source: 0, hops: 1 } };
  const outerOf = ({ frame }: { readonly frame: Uint8Array }) => {
    const bytes = (at: number) => frame.subarray(at, at + 4).join('.');
    const count = frame[49];
    return { to: bytes(30), port: Buffer.from(frame).readUInt16BE(34), hops: Array.from({ length: count }, (_, i) => bytes(50 + 4 * i)) };
  };
  const otherThan = (server: string) => SERVERS.filter((one) => one !== server);
  /** What GLB's own director has of this key and client (glb.test.ts has its pins). */
  const HASH = glbHash('12345678901234561234567890123456', ['source'])(parseAddress(CLIENT), 0, 0);

  test('the second server of the row comes along, the port is that of the hash, and any packet goes there', () => {
    const world = new World(GLB);
    const syn = outerOf(world.send(segment('S')));
    expect(syn).toEqual({ to: syn.to, port: 0x8000 | ((HASH ^ 5000) & 0x7fff), hops: otherThan(syn.to) });
    expect(outerOf(world.send(segment('A')))).toEqual(syn);
    expect(outerOf(new World(GLB).send(segment('A')))).toEqual(syn);
  });

  test('alone, a server has no other; while fields are changed there are three', () => {
    expect(outerOf(new World({ ...GLB, servers: [SERVERS[0]] }).send(segment('S')))).toMatchObject({ to: SERVERS[0], hops: [] });
    const world = new World({ ...GLB, altHashFields: ['source_port'], tunnel: { port: 19_523, source: 0, hops: 3 } });
    const { to, hops } = outerOf(world.send(segment('S')));
    expect(hops).toEqual([otherThan(to)[0], hops[1], otherThan(hops[1])[0]]);
  });

  // The routes that test_director_hash_fields.py of GLB has while the source's port comes into the hash (glb.test.ts has the other six).
  test.each([
    [45678, '1.2.3.4', ['2.3.4.5', '3.4.5.6', '2.3.4.5']],
    [45679, '1.2.3.4', ['3.4.5.6', '3.4.5.6', '2.3.4.5']],
    [45680, '2.3.4.5', ['3.4.5.6', '3.4.5.6', '2.3.4.5']],
  ])('while fields are changed, port %i goes as GLB sends it: to %s, then %j', (from, to, hops) => {
    const world = new World({
      ...GLB,
      servers: ['1.2.3.4', '2.3.4.5', '3.4.5.6'],
      up: [true, true, true],
      hashFields: ['source', 'source_port'],
      altHashFields: ['source'],
      tunnel: { port: 19_523, source: 0, hops: 3 },
    });
    expect(outerOf(world.send(segment('S', { source: '10.11.12.13', tcp: { from, to: 80, flags: 'S' } })))).toMatchObject({ to, hops });
  });

  /** A world after a packet, whose row's first server has drained since; who that was, and who is first now. */
  const drained = (options: WorldOptions, packet: Packet) => {
    const world = new World(options);
    const { to, port } = outerOf(world.send(packet));
    const states = SERVERS.map((one) => (one === to ? 'draining' : 'active'));
    world.apply({ states });
    return { world, to, port, other: otherThan(to)[0] };
  };
  /** Connections of each server. */
  const loadsOf = ({ loads }: World) => Object.fromEntries(SERVERS.map((server, i) => [server, loads[i]]));

  test('a table that changes takes its flows along at the next packet: nobody is pinned, and who has a connection keeps it', () => {
    const { world, to, port, other } = drained(GLB, segment('S'));
    const after = { to: other, port, hops: [to] };
    expect(outerOf(world.send(segment('A', {}, 10)))).toEqual(after);
    expect(loadsOf(world)).toEqual({ [to]: 1, [other]: 0 });
    expect(connectionsIn(world)).toHaveLength(1);
    expect(outerOf(world.next().send(segment('A')))).toMatchObject({ to, hops: [after.to] });
    world.apply();
    expect(outerOf(world.send(ERROR))).toMatchObject({ to, hops: [after.to] });
    expect(loadsOf(world)).toEqual({ [to]: 1, [other]: 0 });
  });

  test('another port takes them along, too', () => {
    const world = new World(GLB);
    const { to, hops } = outerOf(world.send(segment('S')));
    world.apply({ tunnel: { port: 6080, source: 0, hops: 1 } });
    const sent = world.send(segment('A', {}, 10));
    expect([outerOf(sent), Buffer.from(sent.frame).readUInt16BE(36)]).toEqual([expect.objectContaining({ to, hops }), 6080]);
  });

  test('a SYN that nobody has answered, or of a port that is used again, is the first server’s', () => {
    const { world, to, other } = drained(GLB, segment('S'));
    expect(outerOf(world.send(segment('S'))).to).toBe(other);
    expect(loadsOf(world)).toEqual({ [to]: 0, [other]: 1 });
    world.send(segment('A', {}, 10));
    world.send(segment('RA', { tcp: { from: 5000, to: 80, flags: 'RA', sequence: 1011 } }));
    world.apply({ states: SERVERS.map((one) => (one === other ? 'draining' : 'active')) });
    const again = segment('S', { tcp: { from: 5000, to: 80, flags: 'S', sequence: 4_000_000 } });
    expect(outerOf(world.send(again)).to).toBe(to);
    expect(loadsOf(world)).toEqual({ [to]: 1, [other]: 0 });
  });

  test('datagrams have no second chance: whoever is first has them', () => {
    const datagram: Packet = { ethernet: [MAC.front, MAC.client], source: CLIENT, destination: VIP, udp: { from: 5000, to: 80 } };
    const { world, to, other } = drained({ ...GLB, protocol: 17 }, datagram);
    expect(outerOf(world.send(datagram)).to).toBe(other);
    expect(loadsOf(world)).toEqual({ [to]: 0, [other]: 1 });
  });

  test('a ping has the rows of port 0, whatever its identifier, as directors reckon it', () => {
    const world = new World({ ...GLB, protocol: 1, altHashFields: ['source_port'], tunnel: { port: 19_523, source: 0, hops: 3 } });
    const ways = Array.from({ length: 16 }, (_, id) => outerOf(world.send(pingOf(id)))).map(({ to, hops }) => [to, ...hops].join());
    expect(ways[0]?.split(',')).toHaveLength(4);
    expect(new Set(ways).size).toBe(1);
  });

  test('by IP in IP, which has no list of hops, a connection stays where it is, and the next one goes by the table', () => {
    const { world, to, other } = drained({ ...GLB, mode: 'dsrIpip', tunnel: { port: 0, source: 0 } }, segment('S'));
    expect(outerOf(world.send(segment('A', {}, 10))).to).toBe(to);
    expect(outerOf(world.next().send(segment('A'))).to).toBe(to);
    expect(outerOf(world.send(segment('S', { tcp: { from: 5001, to: 80, flags: 'S' } }))).to).toBe(other);
    expect(loadsOf(world)).toEqual({ [to]: 1, [other]: 1 });
  });
});

function pingOf(id: number): Packet {
  return { ethernet: [MAC.front, MAC.client], source: CLIENT, destination: VIP, ttl: 1, echo: { id, payload: new Uint8Array(8) } };
}

/**
 * The packets of clients of everywhere: handshakes, segments in mid-stream with options and payload, errors about answers, datagrams and pings. (A ping's
 * identifier is IP's as well: GLB's port goes by that one, lb4's by the ping's, so that all of one client's leave from one.)
 */
function packetOf(i: number, protocol: 'tcp' | 'udp' | 'icmp'): Packet {
  const [mixed, from] = [Math.imul(i + 1, 0x9e3779b1) >>> 0, 1024 + ((i * 7919) % 64_000)];
  const client = [1 + (mixed % 126), (mixed >>> 8) & 255, (mixed >>> 16) & 255, mixed >>> 24].join('.');
  const common = { ethernet: [MAC.front, MAC.client] as const, source: client, destination: VIP, ttl: 1 + (i % 255), identification: i };
  const payload = pattern(i % 1400);
  if (protocol === 'udp') return { ...common, udp: { from, to: 80, payload } };
  if (protocol === 'icmp') return { ...common, echo: { id: i, payload } };
  if (i % 5 === 4) {
    const quote: Packet = { source: VIP, destination: client, tcp: { from: 80, to: from, flags: 'A', payload: new Uint8Array(8) } };
    return { ...common, source: '10.0.0.1', icmp: { type: 3, code: 4, mtu: 1300, quote } };
  }
  const options = i % 3 === 0 ? [1, 1, 8, 10, 0, 0, 0, i & 255, 0, 0, 0, 0] : [];
  return { ...common, tcp: i % 2 === 0 ? { from, to: 80, flags: 'S', options } : { from, to: 80, flags: 'PA', options, payload } };
}

test.each([
  ['tcp', 700, ['active', 'active', 'active'], []],
  ['tcp', 100, ['active', 'draining', 'active'], ['source_port']],
  ['tcp', 100, ['active', 'active', 'active'], ['source_port', 'destination']],
  ['udp', 50, ['draining', 'active', 'active'], []],
  ['icmp', 50, ['active', 'active', 'active'], []],
] as const)(
  '%s: %i packets become what GLB’s director makes of them, byte for byte, with servers that are %j and other fields %j',
  (protocol, count, states, altHashFields) => {
    const servers = ['172.16.0.1', '172.16.0.2', '172.16.0.3'];
    const tunnel = { port: 19_523, source: 0, hops: altHashFields.length > 0 ? 3 : 1 };
    const world = new World({
      ...GUE,
      scheduler: 'glb',
      protocol: { tcp: 6, udp: 17, icmp: 1 }[protocol],
      servers,
      states,
      altHashFields,
      tunnel,
      up: [true, true, true],
      capacity: 4096,
    });
    const director = new Director({
      hashKey: '12345678901234561234567890123456',
      seed: '34567890123456783456789012345678',
      backends: servers.map((ip, i) => ({ ip, state: states[i], healthy: true })),
      fields: ['source'],
      ...(altHashFields.length > 0 && { altFields: altHashFields }),
      source: OUTER,
      port: 19_523,
    });
    const wrong: string[] = [];
    for (let i = 0; i < count; i++) {
      const packet = packetOf(i, protocol);
      const { out, frame } = world.send(packet);
      const wanted = hex(director.encapsulate(buildFrame(packet).subarray(ETHERNET)));
      if (out !== 'send' || hex(frame.subarray(ETHERNET)) !== wanted)
        wrong.push(`${i} (${out}): ${hex(frame.subarray(ETHERNET))}\nnot ${wanted}`);
    }
    expect(wrong).toEqual([]);
  },
);

test('a ping goes to a server as it came', () => {
  const world = new World({ ...GUE, protocol: 1 });
  for (const verdict of ['opened', 'forwarded']) {
    const sent = world.send(pingOf(77));
    expect([sent.verdict, hex(sent.frame.subarray(ETHERNET + 36))]).toEqual([verdict, inner(pingOf(77))]);
  }
});

test.each([
  ['wraps nothing any more', ({ hops }: World) => void (hops[HOP + TUNNEL] = 0)],
  ['leads nowhere', ({ hops }: World) => writeNoHop(hops, 1)],
])('a way that %s takes nothing, and whatever was for it counts as that', (_, change) => {
  const world = new World(GUE);
  const pings = new World({ ...GUE, protocol: 1 });
  const ping: Packet = {
    ethernet: [MAC.front, MAC.client],
    source: CLIENT,
    destination: VIP,
    echo: { id: 77, payload: new Uint8Array(8) },
  };
  world.send(segment('S'));
  world.send(segment('A'));
  pings.send(ping);
  for (const each of [world, pings]) change(each);
  const other = segment('S', { tcp: { from: 5001, to: 80, flags: 'S' } });
  const sent = [...[segment('A'), segment('FA'), ERROR, other].map((packet) => world.send(packet)), pings.send(ping)];
  expect(sent.map(({ verdict, out }) => [verdict, out])).toEqual(sent.map(() => ['dropNoRoute', 'drop']));
});

test('the next process goes on with what is still wrapped, and with nothing that is not any more', () => {
  const world = new World(GUE);
  world.send(segment('S'));
  world.send(segment('A'));
  expect(world.next().recovered).toBe(1);
  expect(world.next({ mode: 'dsrL2' }).recovered).toBe(0);
});

function bytesOf(mac: string): number[] {
  return mac.split(':').map((byte) => Number.parseInt(byte, 16));
}

function addressOf(text: string): Uint8Array {
  return Uint8Array.from(text.split('.'), Number);
}
