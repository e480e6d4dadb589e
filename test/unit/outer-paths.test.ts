/** What routers say of wrapped packets that are too big: which of it is heard, and what comes of it. */
import { afterEach, expect, test } from 'vitest';
import { OuterPaths, type OuterPathsParts } from '../../src/engine/outer-paths.ts';
import type { Way } from '../../src/forward/ways.ts';
import { type OuterError, readTooBig, tooBigAboutTunnels } from '../../src/io/outer-errors.ts';
import { parseAddress } from '../../src/packet/address.ts';
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

const filter = tooBigAboutTunnels();

/** As it is heard. */
function heard(packet: Buffer): OuterError | undefined {
  if (run(filter, packet, HOST) === 0) return undefined;
  const memory = new SharedArrayBuffer(2048);
  new Uint8Array(memory).set(packet);
  return readTooBig(slabOf(memory), 0);
}

test('what routers say about UDP and IP in IP is heard, and nothing else', () => {
  checkProgram(filter);
  const addresses = { router: ROUTER, source: parseAddress(US), destination: parseAddress(SERVER) };
  const ipip = { ...GUE, protocol: IPIP };
  expect([saysTooBig(GUE), saysTooBig(GUE, { bytes: 500, mtu: 0 }), saysTooBig(ipip)].map(heard)).toEqual([
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
  expect(others.map(heard)).toEqual(others.map(() => undefined));
});

const way = (more: Partial<Way> = {}): Way => {
  return { hop: 1, source: 0, destination: parseAddress('127.0.0.2'), port: 19_523, protocol: UDP, onLink: false, tunnel: 36, ...more };
};
const error = (more: Partial<OuterError> = {}): OuterError => {
  return { router: ROUTER, source: parseAddress('127.0.0.1'), destination: parseAddress('127.0.0.2'), port: 19_523, mtu: 1400, ...more };
};

const open: OuterPaths[] = [];
afterEach(() => open.splice(0).forEach((paths) => paths.close()));

/** With such ways, errors that come at each look, and what it told. */
function world(ways: readonly Way[], errors: readonly OuterError[], more: Partial<OuterPathsParts> = {}) {
  const told: string[] = [];
  const counts = { refreshed: 0, closed: 0 };
  const socket = { take: () => [...errors], close: () => void counts.closed++ };
  const parts = {
    tunnels: () => ways,
    fit: () => ({ bytes: 1500, link: 1500, source: parseAddress('127.0.0.1') }),
    refresh: () => void counts.refreshed++,
    told: (line: string) => void told.push(line),
  };
  const paths = new OuterPaths({ ...parts, open: () => socket, ...more });
  open.push(paths);
  return { paths, told, counts };
}

test('errors about packets to servers of ours are counted, and tried once in a while', async () => {
  const others = [error({ destination: 1 }), error({ port: 0 }), error({ port: 80 })];
  const { paths, told, counts } = world([way()], [error(), error(), ...others]);
  paths.look();
  paths.look();
  expect(paths.heard).toBe(4);
  // The loopback takes 1,500 bytes: the kernel learns nothing else.
  await waitUntil(() => told.length === 1, { what: 'it to be told' });
  expect(told[0]).toMatch(
    /^10\.0\.0\.1 says that packets of 1500 bytes to server 127\.0\.0\.2 are too big \(1400 would fit\), and the kernel does not learn it/,
  );
  expect(counts.refreshed).toBe(1);
});

test('what is said of a packet that comes from elsewhere is none of ours; what is known already changes nothing', () => {
  const { paths, told, counts } = world([way()], [error({ source: 1 }), error({ mtu: 1500 })]);
  paths.look();
  expect([paths.heard, told, counts.refreshed]).toEqual([2, [], 1]);
});

test('what the kernel has learnt by itself is told as well, once', () => {
  const fit = () => ({ bytes: 1400, link: 1500, source: parseAddress('127.0.0.1') });
  const { paths, told } = world([way()], [error(), error({ destination: 1 })], { fit });
  paths.look();
  paths.look();
  expect(told).toEqual([
    expect.stringMatching(/^a link on the way to server 127\.0\.0\.2 takes 1400 bytes, says 10\.0\.0\.1, .*: LB4_MTU=1400 sh FILE install/),
  ]);
});

test('without a tunnel nobody listens; where nobody can, that is told once', () => {
  const ways = [way()];
  const { paths, counts } = world(ways, []);
  paths.look();
  ways.pop();
  paths.look();
  expect(counts.closed).toBe(1);
  const deaf = world([way()], [], {
    open: () => {
      throw new Error('EPERM');
    },
  });
  deaf.paths.look();
  deaf.paths.look();
  expect(deaf.told).toEqual(['what routers say of wrapped packets that are too big is not heard: Error: EPERM']);
});
