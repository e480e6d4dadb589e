/** Which server a connection reaches: failures, retries, limits, queues. */
import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { maglev, prepareMaglev } from '../../src/balance/maglev.ts';
import { parseAddress } from '../../src/packet/address.ts';
import type { Proxy } from '../../src/proxy/proxy.ts';
import { deaf } from '../lab/proxy-deaf.ts';
import { ask, type Client, client, freePort, idle, named, planOf, run, serve, silent, waitUntil } from '../lab/proxy-lab.ts';

const dead = async () => ({ host: '127.0.0.1', port: await freePort(), sockets: [], close: async () => {} });

describe('a connect that fails', () => {
  test('is tried on another server, told and counted', async () => {
    const servers = [await dead(), await serve(named('alive'))];
    const { proxy, port, signals } = await run({ servers });
    for (let i = 0; i < 6; i++) expect(await ask(port)).toBe('alive');
    await idle(proxy);
    expect(proxy.server(10)).toMatchObject({ total: 0, load: 0, connectFailures: 3, retries: 3 });
    expect(proxy.server(11)).toMatchObject({ total: 6, connectFailures: 0, retries: 0 });
    expect(signals[0]).toEqual({ server: 10, reason: expect.stringContaining('ECONNREFUSED') });
  });

  test('never reaches for a server twice, and ends in a reset when none is left', async () => {
    const servers = [await dead(), await dead(), await dead()];
    const { proxy, port } = await run({ servers, backend: { retries: 10 } });
    const one = await client(port);
    expect(await one.end).toBe('reset');
    await idle(proxy);
    expect([10, 11, 12].map((index) => proxy.server(index).connectFailures)).toEqual([1, 1, 1]);
    expect([10, 11, 12].reduce((sum, index) => sum + proxy.server(index).retries, 0)).toBe(2);
    expect(proxy.frontend(3).total).toBe(0);
  });

  test('is tried as often as `retries` says', async () => {
    const servers = [await dead(), await dead(), await dead(), await dead()];
    const { proxy, port } = await run({ servers, backend: { retries: 1 } });
    const one = await client(port);
    expect(await one.end).toBe('reset');
    await idle(proxy);
    expect([10, 11, 12, 13].reduce((sum, index) => sum + proxy.server(index).connectFailures, 0)).toBe(2);
  });

  test('is told at most ten times a second', async () => {
    const { port, signals, proxy } = await run({ servers: [await dead()] });
    const started = performance.now();
    const clients = await Promise.all(Array.from({ length: 50 }, () => client(port)));
    await Promise.all(clients.map(({ end }) => end));
    await idle(proxy);
    expect(proxy.server(10).connectFailures).toBe(50);
    expect(signals.length).toBeGreaterThan(0);
    // On a busy machine they take more than a tenth of a second.
    expect(signals.length).toBeLessThanOrEqual(1 + (performance.now() - started) / 100);
  });

  test('for want of an answer takes connectTimeoutMs', async () => {
    const servers = [await deaf(), await serve(named('alive'))];
    const { proxy, port, signals } = await run({ servers, backend: { connectTimeoutMs: 1000 } });
    expect([await ask(port), await ask(port)]).toEqual(['alive', 'alive']);
    await idle(proxy);
    expect(proxy.server(10)).toMatchObject({ connectFailures: 1, retries: 1 });
    expect(signals).toEqual([{ server: 10, reason: 'no answer in 1000 ms' }]);
  });

  test('a client that resets while its server is connecting leaves nothing behind', async () => {
    const { proxy, port } = await run({ servers: [await deaf()], backend: { connectTimeoutMs: 3000 } });
    const one = await client(port);
    await waitUntil(() => proxy.server(10).load === 1, { what: 'the opening connection' });
    one.socket.resetAndDestroy();
    await idle(proxy);
  });
});

describe('the choice', () => {
  test('of a hashing scheduler is that of the packet modes', async () => {
    const servers = [await serve(named('0')), await serve(named('1')), await serve(named('2'))];
    const { port } = await run({ servers, scheduler: 'maglev' }, 2);
    const { candidates } = planOf(port, { servers }).backends[0].choice;
    const scheduler = maglev(prepareMaglev(candidates));
    const seen = new Set<string>();
    // Ports are the kernel's choice: one server may be none of thirty's.
    for (let i = 0; i < 30 || seen.size < 3; i++) {
      const one = await client(port);
      const { localPort = 0 } = one.socket;
      await one.end;
      expect(one.text()).toBe(String(scheduler.pick(parseAddress('127.0.0.1'), localPort)));
      seen.add(one.text());
    }
  });

  test.each([1, 2, 5])('of roundrobin keeps weights exactly, over %i workers', async (workers) => {
    const servers = [await serve(named('a')), await serve(named('b')), await serve(named('c'))];
    const { proxy, port } = await run({ servers, weights: [1, 2, 1] }, workers);
    for (let i = 0; i < 10; i++) await Promise.all([ask(port), ask(port), ask(port), ask(port)]);
    await idle(proxy);
    expect([10, 11, 12].map((index) => proxy.server(index).total)).toEqual([10, 20, 10]);
  });

  test('of leastconn holds over workers', async () => {
    const servers = [await serve(silent), await serve(silent), await serve(silent)];
    const { proxy, port } = await run({ servers, scheduler: 'leastconn' }, 2);
    await Promise.all(Array.from({ length: 30 }, () => client(port)));
    await waitUntil(() => proxy.frontend(3).current === 30, { what: '30 connections' });
    for (const index of [10, 11, 12]) expect(Math.abs(proxy.server(index).load - 10)).toBeLessThanOrEqual(1);
  });

  test('avoids a full server', async () => {
    const servers = [await serve(silent), await serve(silent)];
    const { proxy, port } = await run({ servers, scheduler: 'source', maxconn: 3 });
    await Promise.all(Array.from({ length: 6 }, () => client(port)));
    await waitUntil(() => proxy.frontend(3).current === 6, { what: '6 connections' });
    expect([10, 11].map((index) => proxy.server(index).current)).toEqual([3, 3]);
  });
});

/** Whom `server` greets, in order: each client says its name first. */
const register = (names: string[]) => (socket: Socket) =>
  void socket.on('data', (chunk) => {
    names.push(chunk.toString());
    socket.write('welcome');
  });

const introduce = async (port: number, name: string): Promise<Client> => {
  const one = await client(port);
  one.socket.write(name);
  return one;
};

/** The first connection has its server. */
const served = (proxy: Proxy) => waitUntil(() => proxy.server(10).current === 1, { what: 'the first to be served' });
const waiting = (proxy: Proxy, count: number) => waitUntil(() => proxy.queued('pool') === count, { what: `${count} to wait` });

describe('the queue of a full backend', () => {
  test('is served in order', async () => {
    const names: string[] = [];
    const { proxy, port } = await run({ servers: [await serve(register(names))], maxconn: 1 });
    const clients: Client[] = [];
    for (const [i, name] of ['a', 'b', 'c', 'd'].entries()) {
      clients.push(await introduce(port, name));
      await (i === 0 ? served(proxy) : waiting(proxy, i));
    }
    await waitUntil(() => names.length > 0, { what: 'the first name' });
    expect(names).toEqual(['a']);
    expect(proxy.server(10)).toMatchObject({ current: 1, load: 1 });
    for (const [i, one] of clients.entries()) {
      await waitUntil(() => one.text() === 'welcome', { what: `client ${i}` });
      one.socket.resetAndDestroy();
    }
    await idle(proxy);
    expect(names).toEqual(['a', 'b', 'c', 'd']);
    expect(proxy.queued('pool')).toBe(0);
  });

  test('resets whom it has no place for', async () => {
    const { proxy, port } = await run({ servers: [await serve(silent)], maxconn: 1, backend: { maxQueue: 2 } }, 2);
    const clients: Client[] = [];
    for (let i = 0; i < 5; i++) {
      clients.push(await client(port));
      await (i === 0 ? served(proxy) : i < 3 ? waiting(proxy, i) : clients[i].end);
    }
    expect(clients.map((one) => one.ended())).toEqual([undefined, undefined, undefined, 'reset', 'reset']);
    expect(proxy.frontend(3).current).toBe(1);
  });

  test('without places resets at once', async () => {
    const { proxy, port } = await run({ servers: [await serve(silent)], maxconn: 1, backend: { maxQueue: 0 } });
    const first = await client(port);
    await served(proxy);
    expect(await (await client(port)).end).toBe('reset');
    expect(first.ended()).toBeUndefined();
  });

  test('resets who has waited for queueTimeoutMs', async () => {
    const { port, proxy } = await run({ servers: [await serve(silent)], maxconn: 1, backend: { queueTimeoutMs: 150 } });
    const first = await client(port);
    await served(proxy);
    const started = performance.now();
    const second = await client(port);
    expect(await second.end).toBe('reset');
    expect(performance.now() - started).toBeGreaterThanOrEqual(145);
    expect(first.ended()).toBeUndefined();
    expect(proxy.frontend(3).refused).toBe(1);
    expect(proxy.server(10).total).toBe(1);
  });

  test('forgets who leaves, by RST or by FIN', async () => {
    const names: string[] = [];
    const { port, proxy } = await run({ servers: [await serve(register(names))], maxconn: 1, backend: { maxQueue: 3 } });
    const first = await introduce(port, 'first');
    await waitUntil(() => first.text() === 'welcome', { what: 'the first' });
    const leavers = [await client(port), await introduce(port, 'reset'), await client(port)];
    await waitUntil(() => proxy.queued('pool') === 3, { what: 'all three to wait' });
    leavers[0].socket.destroy();
    leavers[1].socket.resetAndDestroy();
    leavers[2].socket.resetAndDestroy();
    await waitUntil(() => proxy.queued('pool') === 0, { what: 'all three to be gone' });
    // Their three places are free again.
    const next = [await introduce(port, 'b'), await introduce(port, 'c'), await introduce(port, 'd')];
    await waitUntil(() => proxy.queued('pool') === 3, { what: 'the next three to wait' });
    expect(next.map((one) => one.ended())).toEqual([undefined, undefined, undefined]);
    first.socket.resetAndDestroy();
    for (const one of next) {
      await waitUntil(() => one.text() === 'welcome', { what: 'the next' });
      one.socket.resetAndDestroy();
    }
    await idle(proxy);
    expect(names).toEqual(['first', 'b', 'c', 'd']);
  });

  test('serves a client that has half-closed behind its request', async () => {
    const { port, proxy } = await run({ servers: [await serve()], maxconn: 1 });
    const first = await client(port);
    await served(proxy);
    const second = ask(port, 'request');
    await waiting(proxy, 1);
    first.socket.resetAndDestroy();
    expect(await second).toBe('request');
    await idle(proxy);
  });

  test('is woken by a slot that another worker freed, and never lets too many in', async () => {
    let now = 0;
    let most = 0;
    const server = await serve((socket) => {
      most = Math.max(most, ++now);
      socket.resume();
      setTimeout(() => {
        now--;
        socket.end('done');
      }, 5);
    });
    const { proxy, port } = await run({ servers: [server], maxconn: 2 }, 3);
    const answers = await Promise.all(Array.from({ length: 60 }, () => ask(port, 'hello')));
    expect(answers.every((text) => text === 'done')).toBe(true);
    expect(most).toBeLessThanOrEqual(2);
    await idle(proxy);
    expect(proxy.server(10).total).toBe(60);
  });

  test('a retry waits for a server that it has not tried', async () => {
    const servers = [await dead(), await serve(silent)];
    const { proxy, port } = await run({ servers, maxconn: 1 });
    const one = await client(port);
    await waitUntil(() => proxy.server(11).current === 1, { what: 'the first' });
    const two = await client(port);
    await waiting(proxy, 1);
    expect(two.ended()).toBeUndefined();
    one.socket.resetAndDestroy();
    await waitUntil(() => proxy.server(11).total === 2, { what: 'the second' });
    two.socket.resetAndDestroy();
    await idle(proxy);
  });

  test('is emptied when its backend has no server left', async () => {
    const server = await serve(silent);
    const world = { servers: [server], maxconn: 1 };
    const { proxy, port } = await run(world);
    const first = await client(port);
    await served(proxy);
    const second = await client(port);
    await waiting(proxy, 1);
    await proxy.configure(planOf(port, { ...world, without: [0] }));
    expect(await second.end).toBe('reset');
    expect(first.ended()).toBeUndefined();
  });
});

describe('maxconn of a frontend', () => {
  test.each([1, 3])('is kept exactly by %i workers; the others wait and all are served', async (workers) => {
    let now = 0;
    let most = 0;
    const server = await serve((socket) => {
      most = Math.max(most, ++now);
      socket.resume();
      setTimeout(() => {
        now--;
        socket.end('done');
      }, 5);
    });
    const { proxy, port } = await run({ servers: [server], frontend: { maxconn: 3 } }, workers);
    const answers = await Promise.all(Array.from({ length: 60 }, () => ask(port)));
    expect(answers.every((text) => text === 'done')).toBe(true);
    expect(most).toBeLessThanOrEqual(3);
    await idle(proxy);
    expect(proxy.frontend(3).total).toBe(60);
  });

  test('its load counts connections from their accept on, also while it drains', async () => {
    const world = { servers: [await serve(silent)], maxconn: 1 };
    const { proxy, port } = await run({ ...world, frontend: { maxconn: 3 } });
    const clients = await Promise.all(Array.from({ length: 4 }, () => client(port)));
    await waitUntil(() => proxy.frontend(3).load === 4, { what: 'one connected, two in the queue, one that waits for room' });
    expect(proxy.frontend(3).current).toBe(1);
    await proxy.configure(planOf(port, { ...world, frontend: { maxconn: 3, draining: true } }));
    expect(proxy.frontend(3)).toMatchObject({ current: 1, load: 4 });
    for (const { socket } of clients) socket.resetAndDestroy();
    await idle(proxy);
  });

  test('holds nobody up who left while waiting', async () => {
    const { proxy, port } = await run({ servers: [await serve(silent)], frontend: { maxconn: 1 } });
    const first = await client(port);
    await served(proxy);
    const others = await Promise.all(Array.from({ length: 5 }, () => client(port)));
    for (const { socket } of others) socket.resetAndDestroy();
    first.socket.resetAndDestroy();
    await idle(proxy);
    const last = await client(port);
    await waitUntil(() => proxy.frontend(3).current === 1, { what: 'the last' });
    last.socket.resetAndDestroy();
    await idle(proxy);
  });
});
