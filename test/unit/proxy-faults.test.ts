/** Whose error a connect that fails is. */
import { EventEmitter } from 'node:events';
import { Socket } from 'node:net';
import { expect, test, vi } from 'vitest';
import { Connection } from '../../src/proxy/connection.ts';
import { CONNECT_FAILURES, serverRow } from '../../src/proxy/memory.ts';

const sockets = vi.hoisted((): { last?: EventEmitter } => ({}));
vi.mock('node:net', async (original) => ({ ...(await original<object>()), connect: () => sockets.last }));

test.each([
  ['ECONNREFUSED', 1],
  ['EHOSTUNREACH', 1],
  ['ENETUNREACH', 1],
  ['EMFILE', 0],
  ['EADDRNOTAVAIL', 0],
  ['EAFNOSUPPORT', 0],
])('%s raises the errors of a server by %i', (code, errors) => {
  const counters = new Float64Array(100_000);
  const context = { counters, gauges: {}, warn: () => {}, signal: () => {} };
  const backend = { plan: { connectTimeoutMs: 1000 }, release: () => {}, withdraw: () => {}, mayRetry: () => false };
  const frontend = { plan: { index: 3 }, release: () => {} };
  const client = new Socket();
  const connection = new Connection(context as never, frontend as never, backend as never, client, () => {});
  const socket = Object.assign(new EventEmitter(), { destroy: () => {} });
  sockets.last = socket;
  connection.connect({ index: 10, name: 's', host: '192.0.2.1', port: 80 } as never);
  socket.emit('error', Object.assign(new Error(code), { code, syscall: 'connect' }));
  socket.emit('close');
  client.destroy();
  expect(counters[serverRow(10) + CONNECT_FAILURES]).toBe(errors);
});
