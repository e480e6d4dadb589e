/** The proxy's data path between real sockets: bytes, ends, resets, counters. */
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { reset } from '../../src/proxy/reset.ts';
import { deaf } from '../lab/proxy-deaf.ts';
import { ask, client, echo, idle, named, pause, planOf, run, serve, silent, waitUntil } from '../lab/proxy-lab.ts';

describe('bytes', () => {
  test('pass both ways, whole and in order, and are counted exactly', async () => {
    const server = await serve();
    const { proxy, port } = await run({ servers: [server] }, 2);
    const payload = randomBytes(3_000_000);
    const answers = await Promise.all(Array.from({ length: 8 }, () => ask(port, payload)));
    for (const answer of answers) expect(Buffer.from(answer, 'latin1').equals(payload)).toBe(true);
    await idle(proxy);
    const counted = { total: 8, current: 0, bytesTx: 8 * payload.length, bytesRx: 8 * payload.length, load: 0 };
    expect(proxy.frontend(3)).toEqual({ ...counted, refused: 0 });
    expect(proxy.server(10)).toEqual({ ...counted, connectFailures: 0, retries: 0 });
  });

  test('a connection counts once it has reached a server, until both sides are done', async () => {
    const server = await serve();
    const { proxy, port } = await run({ servers: [server] });
    const one = await client(port);
    await waitUntil(() => proxy.frontend(3).current === 1, { what: 'the connection' });
    expect(proxy.server(10)).toMatchObject({ total: 1, current: 1, load: 1 });
    one.socket.end();
    expect(await one.end).toBe('end');
    await idle(proxy);
    expect(proxy.frontend(3)).toMatchObject({ total: 1, current: 0 });
  });

  test('a slow reader holds up the sender, and memory stays bounded', async () => {
    const size = 160 << 20;
    let taken = 0;
    const chunk = randomBytes(1 << 16);
    const server = await serve((socket) => {
      const more = () => {
        while (taken < size) {
          taken += chunk.length;
          if (!socket.write(chunk)) return;
        }
        socket.end();
      };
      socket.on('drain', more).resume();
      more();
    });
    const { proxy, port } = await run({ servers: [server] });
    const before = process.memoryUsage().rss;
    const one = await client(port, '127.0.0.1', { quiet: true });
    let steady = -1;
    await waitUntil(
      async () => {
        const was = steady;
        await pause(200);
        return (steady = taken) === was;
      },
      { what: 'the server to be held up' },
    );
    // The kernel's buffers of two connections and both processes' own.
    expect(taken).toBeLessThan(80 << 20);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 << 20);
    const hash = createHash('sha1');
    let received = 0;
    one.socket.on('data', (data) => {
      received += data.length;
      hash.update(data);
    });
    expect(await one.end).toBe('end');
    expect(received).toBe(size);
    const expected = createHash('sha1');
    for (let i = 0; i < size; i += chunk.length) expected.update(chunk);
    expect(hash.digest('hex')).toBe(expected.digest('hex'));
    one.socket.end();
    await idle(proxy);
    expect(proxy.frontend(3).bytesRx).toBe(size);
  });

  test('a slow server holds up the client', async () => {
    const server = await serve((socket) => socket.pause());
    const { port } = await run({ servers: [server] });
    const one = await client(port);
    const chunk = Buffer.alloc(1 << 16);
    let sent = 0;
    const more = () => {
      while (sent < 160 << 20) {
        sent += chunk.length;
        if (!one.socket.write(chunk)) return;
      }
    };
    one.socket.on('drain', more);
    more();
    let steady = -1;
    await waitUntil(
      async () => {
        const was = steady;
        await pause(200);
        return (steady = sent) === was;
      },
      { what: 'the client to be held up' },
    );
    expect(sent).toBeLessThan(80 << 20);
  });

  test('nothing is read from a client before its server is there', async () => {
    const server = await deaf();
    const { proxy, port } = await run({ servers: [server], backend: { connectTimeoutMs: 5_000, retries: 0 } });
    const one = await client(port);
    const chunk = Buffer.alloc(1 << 16);
    while (one.socket.writableLength < 32 << 20) one.socket.write(chunk);
    await pause(700);
    // What has left is in kernel buffers.
    expect(one.socket.writableLength).toBeGreaterThan(20 << 20);
    expect(await one.end).toBe('reset');
    await idle(proxy);
  });
});

describe('ends', () => {
  test("a client's FIN goes on to the server, whose answer still arrives", async () => {
    let got = '';
    const server = await serve((socket) => {
      socket.on('data', (chunk) => (got += chunk.toString()));
      socket.on('end', () => setTimeout(() => socket.end(`${got} back`), 50));
    });
    const { proxy, port } = await run({ servers: [server] });
    expect(await ask(port, 'there and')).toBe('there and back');
    await idle(proxy);
  });

  test("a server's FIN goes on to the client, whose bytes still arrive", async () => {
    let got = '';
    let isEnded = false;
    const server = await serve((socket) => {
      socket.end('bye');
      socket.on('data', (chunk) => (got += chunk.toString())).on('end', () => (isEnded = true));
    });
    const { proxy, port } = await run({ servers: [server] });
    const one = await client(port);
    expect(await one.end).toBe('end');
    expect(one.text()).toBe('bye');
    one.socket.write('still ');
    await pause(50);
    expect(proxy.frontend(3).current).toBe(1);
    one.socket.end('here');
    await idle(proxy);
    await waitUntil(() => isEnded, { what: "the client's FIN" });
    expect(got).toBe('still here');
  });

  test("a client's RST goes on to the server", async () => {
    let error: NodeJS.ErrnoException | undefined;
    const server = await serve((socket) => socket.on('error', (e) => (error = e)).resume());
    const { proxy, port } = await run({ servers: [server] });
    const one = await client(port);
    await waitUntil(() => server.sockets.length === 1, { what: 'the connection' });
    one.socket.resetAndDestroy();
    await waitUntil(() => error !== undefined, { what: 'the reset' });
    expect(error?.code).toBe('ECONNRESET');
    await idle(proxy);
  });

  test("a server's RST goes on to the client", async () => {
    const server = await serve((socket) => void setTimeout(() => socket.resetAndDestroy(), 20));
    const { proxy, port } = await run({ servers: [server] });
    const one = await client(port);
    expect(await one.end).toBe('reset');
    await idle(proxy);
  });

  test('a reset in the middle of a shutdown loses no descriptor', async () => {
    const server = await serve(echo);
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 10; i++) {
      const { socket } = await client(server.port);
      socket.end();
      process.nextTick(() => reset(socket));
    }
    await waitUntil(() => readdirSync('/proc/self/fd').length <= before, { what: 'all sockets to be closed' });
  });

  test('a client that leaves in the middle takes nothing with it', async () => {
    const server = await serve(echo);
    const { proxy, port } = await run({ servers: [server] });
    const clients = await Promise.all(Array.from({ length: 20 }, () => client(port)));
    for (const [i, one] of clients.entries()) {
      one.socket.write(Buffer.alloc(100_000));
      if (i % 2) one.socket.destroy();
      else one.socket.resetAndDestroy();
    }
    await idle(proxy);
  });
});

describe('silence', () => {
  test("a client's ends the connection after clientTimeoutMs", async () => {
    const server = await serve(silent);
    const { proxy, port } = await run({ servers: [server], frontend: { clientTimeoutMs: 200 } });
    const started = performance.now();
    const one = await client(port);
    expect(await one.end).toBe('reset');
    expect(performance.now() - started).toBeGreaterThanOrEqual(200);
    await idle(proxy);
  });

  test("a server's ends the connection after serverTimeoutMs", async () => {
    const server = await serve(silent);
    const { proxy, port } = await run({ servers: [server], backend: { serverTimeoutMs: 200 } });
    const one = await client(port);
    expect(await one.end).toBe('reset');
    await idle(proxy);
  });

  test('counts while plans come faster than it is looked at', async () => {
    const world = { servers: [await serve(silent)], frontend: { clientTimeoutMs: 200 } };
    const { proxy, port } = await run(world);
    const one = await client(port);
    const plan = planOf(port, world);
    const isReset = async () => {
      await proxy.configure(plan);
      return one.ended() === 'reset';
    };
    await waitUntil(isReset, { what: 'the reset', timeout: 20_000 });
  });

  test('a download without a word from the client goes on', async () => {
    const server = await serve((socket) => {
      let rounds = 0;
      const timer = setInterval(() => {
        socket.write('tick ');
        if (++rounds === 50) socket.end();
      }, 50);
      socket.resume().on('close', () => clearInterval(timer));
    });
    // The server's own silence, on a busy machine, is shorter.
    const { port } = await run({ servers: [server], frontend: { clientTimeoutMs: 1500 }, backend: { serverTimeoutMs: 1500 } });
    const one = await client(port);
    expect(await one.end).toBe('end');
    expect(one.text()).toBe('tick '.repeat(50));
  });

  test("after the client's FIN only the server's silence counts", async () => {
    const server = await serve((socket) => socket.resume().on('end', () => setTimeout(() => socket.end('late'), 2500)));
    const { port } = await run({ servers: [server], frontend: { clientTimeoutMs: 1000 } });
    expect(await ask(port, 'hello')).toBe('late');
  });
});

describe('servers', () => {
  test('take turns', async () => {
    const servers = [await serve(named('a')), await serve(named('b'))];
    const { proxy, port } = await run({ servers });
    const answers: string[] = [];
    for (let i = 0; i < 6; i++) answers.push(await ask(port));
    expect(answers.sort().join('')).toBe('aaabbb');
    await idle(proxy);
    expect([10, 11].map((index) => proxy.server(index).total)).toEqual([3, 3]);
  });

  test('none eligible: a reset at once', async () => {
    const server = await serve();
    const { proxy, port } = await run({ servers: [server], without: [0] });
    const one = await client(port);
    expect(await one.end).toBe('reset');
    await idle(proxy);
    expect(proxy.frontend(3).total).toBe(0);
  });
});
