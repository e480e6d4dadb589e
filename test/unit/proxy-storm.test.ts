/** Clients, servers and plans that misbehave all at once: afterwards nothing is counted that is not there, and all still works. */
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { reset } from '../../src/proxy/reset.ts';
import { ask, freePort, idle, pause, planOf, run, serve, waitUntil } from '../lab/proxy-lab.ts';

const any = <T>(things: readonly T[]): T => things[Math.floor(Math.random() * things.length)];

/** What a side may do to a connection. */
const deeds: readonly ((socket: Socket) => void)[] = [
  reset,
  (socket) => socket.destroy(),
  (socket) => socket.end(),
  (socket) => socket.end(Buffer.alloc(200_000)),
  (socket) => void socket.write(Buffer.alloc(5000)),
  (socket) => socket.resume(),
  (socket) => socket.pause(),
];

function misbehave(socket: Socket): void {
  socket.on('error', () => {});
  for (let i = 0; i < 3; i++) setTimeout(() => !socket.destroyed && any(deeds)(socket), Math.random() * 60);
  setTimeout(() => socket.destroy(), 400);
}

test('a storm leaves nothing behind', async () => {
  const servers = [await serve(misbehave), await serve(misbehave), await serve(misbehave)];
  const dead = { host: '127.0.0.1', port: await freePort(), sockets: [], close: async () => {} };
  const world = {
    servers: [...servers, dead],
    maxconn: 4,
    frontend: { maxconn: 30, clientTimeoutMs: 300 },
    backend: { maxQueue: 20, queueTimeoutMs: 200, serverTimeoutMs: 300, sendProxy: 'v2' as const },
  };
  const { proxy, port } = await run(world, 3);
  const before = readdirSync('/proc/self/fd').length;
  for (let round = 0; round < 40; round++) {
    for (let i = 0; i < 15; i++) {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      socket.on('connect', () => misbehave(socket)).on('error', () => {});
    }
    const without = any([[], [0], [1, 3], [0, 1, 2, 3]]);
    const plan = planOf(port, { ...world, without });
    const [backend] = plan.backends;
    const gone = backend.servers.filter((_, i) => !without.includes(i) || Math.random() < 0.5);
    await proxy.configure({ ...plan, backends: [{ ...backend, servers: gone }] });
    await pause(20);
  }
  await idle(proxy);
  await waitUntil(() => readdirSync('/proc/self/fd').length <= before, { what: 'all sockets to be closed' });
  const good = await serve();
  await proxy.configure(planOf(port, { servers: [good], frontend: { maxconn: 5 } }));
  const answers = await Promise.all(Array.from({ length: 50 }, () => ask(port, 'hello')));
  expect(new Set(answers)).toEqual(new Set(['hello']));
});
