/** Checks by a datagram: real sockets on 127.0.0.1, and what ARP says of others. */
import { createSocket, type RemoteInfo } from 'node:dgram';
import { expect, test } from 'vitest';
import type { Target } from '../../src/health/check.ts';
import { answersArp } from '../../src/health/neighbour.ts';
import { PortRotation } from '../../src/health/ports.ts';
import { udpCheck } from '../../src/health/udp.ts';
import { CHECK_PORTS } from '../../src/layout/ports.ts';
import { closers, target } from '../lab/health-lab.ts';

interface Heard {
  readonly port: number;
  readonly asked: { text: string; from: RemoteInfo }[];
}

/** A service that answers as told; it says nothing where that is undefined. */
async function serve(answer: (question: string, nth: number) => string | undefined, port = 0, address = '127.0.0.1'): Promise<Heard> {
  const socket = createSocket('udp4');
  const asked: Heard['asked'] = [];
  socket.on('message', (question, from) => {
    const text = question.toString('latin1');
    asked.push({ text, from });
    const says = answer(text, asked.length);
    if (says !== undefined) socket.send(Buffer.from(says, 'latin1'), from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(port, address, resolve));
  closers.push(() => new Promise<void>((resolve) => socket.close(resolve)));
  return { port: socket.address().port, asked };
}

async function closedPort(): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}

function run(to: Target, { send = '', expect: wanted }: { send?: string; expect?: string } = {}, ports?: PortRotation) {
  const settings = { type: 'udp', send: Buffer.from(send), expect: wanted === undefined ? undefined : Buffer.from(wanted) } as const;
  return udpCheck(to, settings, ports).run(new AbortController().signal);
}

test('an answer passes at once, whatever it is, where none is expected', async () => {
  const { port, asked } = await serve(() => '');
  expect(await run(target(port, { timeoutMs: 60_000 }), { send: 'ping' })).toMatchObject({ outcome: 'pass' });
  expect(asked.map(({ text }) => text)).toEqual(['ping']);
});

test('the expected answer passes, wherever it stands in it; another one, or none, fails when time is out', async () => {
  const { port } = await serve((question) => ({ a: 'all is ok\0', b: 'sorry' })[question]);
  const quick = target(port, { timeoutMs: 300 });
  expect(await run(quick, { send: 'a', expect: 'ok' })).toMatchObject({ outcome: 'pass' });
  expect(await run(quick, { send: 'b', expect: 'ok' })).toEqual({ outcome: 'fail', reason: 'another answer: "sorry"' });
  expect(await run(quick, { send: 'c', expect: 'ok' })).toEqual({ outcome: 'fail', reason: 'no answer in 300 ms' });
});

test('silence passes where nothing is expected; a port that nobody has fails either way', async () => {
  const { port } = await serve(() => undefined);
  const silent = { outcome: 'pass', reason: 'silent, but no port unreachable in 300 ms' };
  expect(await run(target(port, { timeoutMs: 300 }))).toEqual(silent);
  const dead = target(await closedPort(), { timeoutMs: 60_000 });
  for (const settings of [{}, { expect: 'ok' }]) expect(await run(dead, settings)).toEqual({ outcome: 'fail', reason: 'port unreachable' });
});

test('a lost datagram is sent again', async () => {
  const { port, asked } = await serve((_, nth) => (nth === 3 ? 'ok' : undefined));
  expect(await run(target(port, { timeoutMs: 1500 }), { expect: 'ok' })).toMatchObject({ outcome: 'pass' });
  expect(asked).toHaveLength(3);
});

test('leaves from the source address and a port of the checks’, another one where that is taken', async () => {
  await serve(() => undefined, 33_200, '127.0.0.21');
  const { port, asked } = await serve(() => 'ok');
  const from = { sourceAddress: '127.0.0.21' };
  expect(await run(target(port, from), {}, new PortRotation(33_200, 33_201))).toMatchObject({ outcome: 'pass' });
  expect(asked[0]?.from).toMatchObject({ address: '127.0.0.21', port: 33_201 });
  await run(target(port, from));
  expect(asked[1]?.from.port).toBeGreaterThanOrEqual(CHECK_PORTS.first);
  expect(asked[1]?.from.port).toBeLessThanOrEqual(CHECK_PORTS.last);
});

test('what is wrong here speaks against no server: no port is free, the source is another host’s', async () => {
  await serve(() => undefined, 33_210, '127.0.0.22');
  const { port } = await serve(() => 'ok');
  const taken = await run(target(port, { sourceAddress: '127.0.0.22' }), {}, new PortRotation(33_210, 33_210));
  expect(taken).toEqual({ outcome: 'unknown', reason: 'no free local port on 127.0.0.22' });
  const elsewhere = target(port, { sourceAddress: '198.51.100.1' });
  expect(await run(elsewhere)).toEqual({ outcome: 'unknown', reason: '198.51.100.1 is no address of this host' });
  expect(await run({ ...elsewhere, otherSources: ['127.0.0.23'] })).toMatchObject({ outcome: 'pass' });
});

test('ends at once when it is stopped', async () => {
  const { port } = await serve(() => undefined);
  const stop = new AbortController();
  const ended = udpCheck(target(port, { timeoutMs: 600_000 }), { type: 'udp', send: Buffer.alloc(0), expect: undefined }).run(stop.signal);
  stop.abort();
  expect(await ended).toEqual({ outcome: 'unknown', reason: 'stopped' });
});

const ARP = `IP address       HW type     Flags       HW address            Mask     Device
192.0.2.1        0x1         0x2         02:00:00:00:00:01     *        eth0
192.0.2.2        0x1         0x0         00:00:00:00:00:00     *        eth0
192.0.2.3        0x1         0x0         00:00:00:00:00:00     *        eth0
192.0.2.3        0x1         0x6         02:00:00:00:00:03     *        eth1
`;

test.each([
  ['who is there', '192.0.2.1', true],
  ['who is not', '192.0.2.2', false],
  ['who is, on another link', '192.0.2.3', true],
  ['who is behind a router', '198.51.100.1', true],
  ['another one whose address begins so', '192.0.2.', true],
])('ARP tells %s', async (_, address, is) => expect(await answersArp(address, Promise.resolve(ARP))).toBe(is));

test('where ARP cannot be read nobody is blamed', async () => {
  expect(await answersArp('192.0.2.2', Promise.reject(new Error('EACCES')))).toBe(true);
});
