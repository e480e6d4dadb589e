/** Programs of this host that a packet mode's rules hide: what /proc says of real sockets. */
import { createSocket } from 'node:dgram';
import { expect, test } from 'vitest';
import { hiddenListeners } from '../../src/rules/hidden.ts';
import { freePort } from '../lab/free-port.ts';
import { closers, listen } from '../lab/health-lab.ts';

const [TCP, UDP] = [
  { name: 'tcp', number: 6 },
  { name: 'udp', number: 17 },
];

test.each([
  ['127.0.0.1', '127.0.0.1', true],
  ['127.0.0.1', '127.0.0.2', false],
  ['0.0.0.0', '127.0.0.2', true],
  ['::', '127.0.0.2', true],
  ['::1', '127.0.0.1', false],
  ['::ffff:127.0.0.1', '127.0.0.1', true],
])('who listens at %s is hidden by a frontend at %s: %s', async (host, ip, isHidden) => {
  const port = await freePort(host);
  await listen(host, port);
  const place = { ip, port, protocol: TCP };
  expect(hiddenListeners([place, { ip, port: port === 1 ? 2 : 1, protocol: TCP }, { ip, port, protocol: UDP }])).toEqual(
    isHidden ? [place] : [],
  );
});

test('a connection that is open is no listener', async () => {
  const table = '  sl  local_address rem_address   st\n   0: 0100007F:0050 0100007F:9C40 01 00000000:00000000\n';
  const place = { ip: '127.0.0.1', port: 80, protocol: TCP };
  expect(hiddenListeners([place], () => [table])).toEqual([]);
  expect(hiddenListeners([place], () => [table.replace(' 01 ', ' 0A ')])).toHaveLength(1);
});

test.each([
  ['127.0.0.1', '127.0.0.1', true],
  ['0.0.0.0', '127.0.0.2', true],
])('a socket for datagrams at %s is hidden by a frontend of UDP at %s, and by none of TCP or of pings', async (host, ip, isHidden) => {
  const socket = createSocket('udp4');
  closers.push(() => new Promise<void>((resolve) => socket.close(resolve)));
  // Nobody's of TCP.
  const port = await freePort(host);
  await new Promise<void>((resolve) => socket.bind(port, host, resolve));
  const places = [TCP, UDP, { name: 'icmp', number: 1 }].map((protocol) => ({ ip, port, protocol }));
  expect(hiddenListeners(places)).toEqual(isHidden ? [places[1]] : []);
  // One that has a peer hears nobody else: so are health checks.
  await new Promise<void>((resolve) => socket.connect(9, '127.0.0.1', resolve));
  expect(hiddenListeners(places)).toEqual([]);
});
