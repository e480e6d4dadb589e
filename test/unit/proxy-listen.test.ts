/** The addon's listening sockets. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { expect, test } from 'vitest';
import { native } from '../../src/io/native.ts';
import { Listeners } from '../../src/proxy/listeners.ts';
import { Rows } from '../../src/proxy/rows.ts';
import { cleanUp, freePort, planOf } from '../lab/proxy-lab.ts';

const flagsOf = (fd: number) => Number.parseInt(/flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1], 8);
const CLOEXEC = 0o2000000;
const NONBLOCK = 0o4000;

test('a listening socket and its duplicate do not block and are not inherited', () => {
  const fd = native().listenTcp('127.0.0.1', 0, 16);
  const duplicate = native().duplicateFd(fd);
  expect(duplicate).not.toBe(fd);
  for (const one of [fd, duplicate]) {
    expect(flagsOf(one) & (CLOEXEC | NONBLOCK)).toBe(CLOEXEC | NONBLOCK);
    native().closeFd(one);
  }
});

test('what waits in the queue outlives a duplicate', async () => {
  const fd = native().listenTcp('127.0.0.1', 0, 16);
  cleanUp(() => native().closeFd(fd));
  const accept = async () => {
    const server = createServer().listen({ fd: native().duplicateFd(fd), backlog: 16 });
    await once(server, 'listening');
    return server;
  };
  const first = await accept();
  const { port } = first.address() as AddressInfo;
  first.close();
  const waiting = connect(port, '127.0.0.1');
  cleanUp(() => waiting.destroy());
  await once(waiting, 'connect');
  const second = await accept();
  const [socket] = await once(second, 'connection');
  socket.destroy();
  second.close();
});

test('errors say what was attempted', async () => {
  const { listenTcp, duplicateFd } = native();
  expect(() => listenTcp('192.0.2.1', 80, 16)).toThrow(
    expect.objectContaining({
      code: 'EADDRNOTAVAIL',
      syscall: 'bind',
      message: 'bind(192.0.2.1 port 80): Cannot assign requested address',
    }),
  );
  expect(() => listenTcp('localhost', 80, 16)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(() => duplicateFd(99999)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'fcntl' }));
});

test('bad arguments throw a TypeError', () => {
  const { listenTcp, duplicateFd } = native() as unknown as Record<string, (...values: unknown[]) => unknown>;
  for (const call of [
    () => listenTcp(1, 80, 16),
    () => listenTcp('127.0.0.1', 65536, 16),
    () => listenTcp('127.0.0.1', 80, 0),
    () => duplicateFd('3'),
    () => duplicateFd(-1),
  ])
    expect(call).toThrow(TypeError);
});

test('one address twice in a plan is refused and leaves nothing open', async () => {
  const port = await freePort();
  const [frontend] = planOf(port, { servers: [] }).frontends;
  expect(() => new Listeners().open([frontend, { ...frontend, index: 4 }])).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
  native().closeFd(native().listenTcp('127.0.0.1', port, 16));
});

test('rows stay with their names, and one that was just given up rests for a turn', () => {
  const rows = new Rows();
  expect([...rows.assign(['a', 'b'])]).toEqual([
    ['a', 0],
    ['b', 1],
  ]);
  expect([...rows.assign(['b', 'c'])]).toEqual([
    ['b', 1],
    ['c', 2],
  ]);
  expect([...rows.assign(['b', 'c', 'd'])]).toEqual([
    ['b', 1],
    ['c', 2],
    ['d', 0],
  ]);
});
