/** Plans that change, stops, worker threads, descriptors. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { ask, type Client, client, freePort, idle, named, Proxy, pause, planOf, run, serve, silent, waitUntil } from '../lab/proxy-lab.ts';

const refused = (port: number, host = '127.0.0.1') =>
  client(port, host).then(
    () => 'connected',
    (error: NodeJS.ErrnoException) => error.code,
  );

describe('a new plan', () => {
  test('resets the connections of a server that is gone, and leaves the others', async () => {
    const servers = [await serve(silent), await serve(silent)];
    const world = { servers };
    const { proxy, port } = await run(world, 2);
    const clients = await Promise.all(Array.from({ length: 8 }, () => client(port)));
    await waitUntil(() => proxy.frontend(3).current === 8, { what: '8 connections' });
    const { current } = proxy.server(11);
    const plan = planOf(port, { servers, without: [1] });
    await proxy.configure(plan);
    expect(proxy.frontend(3).current).toBe(8); // it drains: still in the plan
    const [backend] = plan.backends;
    await proxy.configure({ ...plan, backends: [{ ...backend, servers: backend.servers.slice(0, 1) }] });
    expect(proxy.frontend(3).current).toBe(8 - current);
    await waitUntil(() => clients.filter((one) => one.ended() === 'reset').length === current, { what: 'the resets' });
  });

  test('gives a frontend that drains no new connections, and its old ones go on', async () => {
    const world = { servers: [await serve()] };
    const { proxy, port } = await run(world, 2);
    const one = await client(port);
    await waitUntil(() => proxy.frontend(3).current === 1, { what: 'the connection' });
    await proxy.configure(planOf(port, { ...world, frontend: { draining: true } }));
    expect(await refused(port)).toBe('ECONNREFUSED');
    one.socket.write('hello');
    await waitUntil(() => one.text() === 'hello', { what: 'the echo' });
    await proxy.configure({ ...planOf(port, world), frontends: [] });
    expect(await one.end).toBe('reset');
    await idle(proxy);
  });

  test('that is the old one changes nothing', async () => {
    const world = { servers: [await serve(named('a')), await serve(named('b'))] };
    const { proxy, port } = await run(world);
    const answers: string[] = [];
    for (let i = 0; i < 6; i++) {
      answers.push(await ask(port));
      await proxy.configure(planOf(port, world));
    }
    expect(answers.join('')).toBe('ababab');
    expect(proxy.frontend(3).total).toBe(6);
  });

  test('loses no connection while the listeners stay', async () => {
    const world = { servers: [await serve(named('a'))] };
    const { proxy, port } = await run(world, 2);
    const other = await freePort();
    const asked = Promise.all(Array.from({ length: 100 }, () => ask(port)));
    for (let i = 0; i < 10; i++) {
      const plan = planOf(port, world);
      const more = { ...plan.frontends[0], index: 4, name: 'more', port: other };
      await proxy.configure(i % 2 ? plan : { ...plan, frontends: [...plan.frontends, more] });
    }
    expect((await asked).join('')).toBe('a'.repeat(100));
  });

  test('with an address that cannot be listened on changes nothing', async () => {
    const world = { servers: [await serve(named('a'))] };
    const { proxy, port } = await run(world, 2);
    const free = await freePort();
    const busy = (await serve()).port;
    const plan = planOf(port, { servers: [await serve(named('b'))] });
    const frontend = plan.frontends[0];
    const bad = {
      ...plan,
      frontends: [
        { ...frontend, index: 5, name: 'free', port: free },
        { ...frontend, index: 6, name: 'busy', port: busy },
      ],
    };
    await expect(proxy.configure(bad)).rejects.toMatchObject({ code: 'EADDRINUSE', syscall: 'bind' });
    expect(await refused(free)).toBe('ECONNREFUSED');
    expect(await ask(port)).toBe('a');
    const foreign = { ...plan, frontends: [{ ...frontend, host: '192.0.2.1' }] };
    await expect(proxy.configure(foreign)).rejects.toMatchObject({ code: 'EADDRNOTAVAIL' });
    expect(await ask(port)).toBe('a');
    await proxy.configure(plan);
    expect(await ask(port)).toBe('b');
  });

  test('two frontends trade their addresses', async () => {
    const servers = [await serve(named('a')), await serve(named('b'))];
    const { proxy, port } = await run({ servers });
    const other = await freePort();
    const base = planOf(port, { servers, without: [1] });
    const second = { ...planOf(port, { servers, without: [0] }).backends[0], name: 'pool-b' };
    const trade = (one: number, two: number) => ({
      frontends: [
        { ...base.frontends[0], port: one },
        { ...base.frontends[0], index: 4, name: 'b', port: two, backend: 'pool-b' },
      ],
      backends: [
        { ...base.backends[0], servers: base.backends[0].servers.slice(0, 1) },
        { ...second, servers: second.servers.slice(1) },
      ],
    });
    await proxy.configure(trade(port, other));
    expect([await ask(port), await ask(other)]).toEqual(['a', 'b']);
    await proxy.configure(trade(other, port));
    expect([await ask(port), await ask(other)]).toEqual(['b', 'a']);
  });

  test('counts a reused index from 0', async () => {
    const world = { servers: [await serve(named('a'))] };
    const { proxy, port } = await run(world, 2);
    await ask(port);
    await idle(proxy);
    expect(proxy.frontend(3).total).toBe(1);
    const plan = planOf(port, world);
    const renamed = {
      frontends: [{ ...plan.frontends[0], name: 'other' }],
      backends: [{ ...plan.backends[0], servers: [{ ...plan.backends[0].servers[0], name: 'other' }] }],
    };
    await proxy.configure(renamed);
    expect([proxy.frontend(3).total, proxy.server(10).total]).toEqual([0, 0]);
    await ask(port, 'x');
    await idle(proxy);
    expect(proxy.frontend(3)).toEqual({ total: 1, current: 0, bytesTx: 1, bytesRx: 1, load: 0, refused: 0 });
  });

  test('takes an index that goes to the same name at another address as another', async () => {
    const [first, second] = [await serve(), await serve()];
    const { proxy, port } = await run({ servers: [first] }, 2);
    const other = await freePort();
    const busy = async (at: number) => {
      const one = await client(at);
      one.socket.write('x');
      await waitUntil(() => one.text() === 'x', { what: 'the echo' });
      return one;
    };
    const one = await busy(port);
    await proxy.configure(planOf(port, { servers: [second] }));
    expect(await one.end).toBe('reset');
    expect(proxy.server(10)).toMatchObject({ total: 0, bytesTx: 0 });
    const two = await busy(port);
    await proxy.configure(planOf(other, { servers: [second] }));
    expect(await two.end).toBe('reset');
    expect(proxy.frontend(3)).toMatchObject({ total: 0, bytesTx: 0 });
    await busy(other);
    expect([proxy.frontend(3).total, proxy.server(10).total]).toEqual([1, 2]);
  });

  test.each([
    ['frontend 2048: there is room for 2048 frontends, those that still drain included', { frontend: { index: 2048 } }],
    ['no backend nobody', { frontend: { backend: 'nobody' } }],
  ])('is refused: %s', async (message, wrong) => {
    const world = { servers: [await serve()] };
    const { proxy, port } = await run(world);
    await expect(proxy.configure(planOf(port, { ...world, ...wrong }))).rejects.toThrow(message);
  });
});

describe('start and stop', () => {
  test('an address that cannot be listened on rejects, and no thread or descriptor is left', async () => {
    const { port } = await serve();
    const before = readdirSync('/proc/self/fd').length;
    const start = Proxy.start({ plan: planOf(port, { servers: [] }), workers: 2, signal: () => {}, failed: () => {} });
    await expect(start).rejects.toMatchObject({ code: 'EADDRINUSE' });
    // Fewer: an earlier test's may go meanwhile.
    await waitUntil(() => readdirSync('/proc/self/fd').length <= before, { what: 'all descriptors to be closed' });
  });

  test('a stop lets connections end within their grace', async () => {
    const { proxy, port } = await run({ servers: [await serve()] }, 2);
    const one = await client(port);
    one.socket.write('a');
    await waitUntil(() => one.text() === 'a', { what: 'the echo' });
    const stopped = proxy.stop(600_000);
    await waitUntil(async () => (await refused(port)) === 'ECONNREFUSED', { what: 'the listener to close' });
    one.socket.write('b');
    await waitUntil(() => one.text() === 'ab', { what: 'the echo' });
    one.socket.end();
    expect(await one.end).toBe('end');
    await stopped;
  });

  test('a stop resets what outlives its grace, and a second one may shorten it', async () => {
    const { proxy, port } = await run({ servers: [await serve(silent)] }, 2);
    const one = await client(port);
    await waitUntil(() => proxy.frontend(3).current === 1, { what: 'the connection' });
    const first = proxy.stop(60_000);
    await pause(50);
    expect(one.ended()).toBeUndefined();
    await proxy.stop(50);
    await first;
    expect(await one.end).toBe('reset');
  });

  test('leaves no descriptor behind, whatever is going on', async () => {
    const server = await serve(silent);
    const before = readdirSync('/proc/self/fd').length;
    const { proxy, port } = await run({ servers: [server], maxconn: 2, frontend: { maxconn: 6 }, backend: { maxQueue: 3 } }, 2);
    const clients = await Promise.all(Array.from({ length: 12 }, () => client(port)));
    await waitUntil(() => proxy.frontend(3).current === 2, { what: 'the connections' });
    await proxy.stop(0);
    for (const { socket } of clients) socket.destroy();
    for (const socket of server.sockets) socket.destroy();
    await waitUntil(() => readdirSync('/proc/self/fd').length <= before, { what: 'all descriptors to be closed' });
  });

  test('a worker that cannot begin rejects', async () => {
    const plan = planOf(await freePort(), { servers: [], frontend: { clientTimeoutMs: 1n as never } });
    const failures: Error[] = [];
    const start = Proxy.start({ plan, workers: 2, signal: () => {}, failed: (error) => failures.push(error) });
    await expect(start).rejects.toThrow('BigInt');
    expect(failures).toEqual([]);
  });

  test('each worker answers when it is asked whether it lives, and one that is gone is asked nothing', async () => {
    const { proxy } = await run({ servers: [] }, 2);
    expect(proxy.pulses).toHaveLength(2);
    for (const pulse of proxy.pulses) await pulse();
    await proxy.stop(0);
    for (const pulse of proxy.pulses) await pulse();
  });

  test('a worker that dies is told', async () => {
    const failures: Error[] = [];
    const port = await freePort();
    const server = await serve(silent);
    const plan = planOf(port, { servers: [server] });
    const proxy = await Proxy.start({ plan, workers: 1, signal: () => {}, failed: (error) => failures.push(error) });
    // Nonsense that only a worker looks at.
    const nonsense = { ...plan, frontends: [{ ...plan.frontends[0], clientTimeoutMs: 1n }] };
    await proxy.configure(nonsense as never);
    await waitUntil(() => failures.length === 1, { what: 'the failure' });
    expect(failures[0]).toBeInstanceOf(Error);
    await proxy.stop(1000);
  });

  test('also when it dies in the grace of a stop', async () => {
    const failures: Error[] = [];
    const port = await freePort();
    // Nonsense that only a worker looks at, and only when it connects to a server.
    const plan = planOf(port, { servers: [await serve()], frontend: { acceptProxy: true }, backend: { connectTimeoutMs: 1n as never } });
    const proxy = await Proxy.start({ plan, workers: 1, signal: () => {}, failed: (error) => failures.push(error) });
    const one = await client(port);
    await waitUntil(() => proxy.frontend(3).load === 1, { what: 'the connection' });
    const stopped = proxy.stop(60_000);
    await waitUntil(async () => (await refused(port)) === 'ECONNREFUSED', { what: 'the grace to begin' });
    expect(failures).toEqual([]);
    one.socket.write('PROXY UNKNOWN\r\n');
    await stopped;
    expect(failures.map(({ message }) => message)).toEqual([expect.stringContaining('BigInt')]);
  });
});

describe('IPv6', () => {
  test('listens on :: beside 0.0.0.0, reaches servers on ::1', async () => {
    const servers = [await serve(undefined, '::1')];
    const world = { servers, backend: { sendProxy: 'v1' as const } };
    const { proxy, port } = await run(world);
    const plan = planOf(port, world);
    const other = await freePort();
    const both = [
      { ...plan.frontends[0], index: 4, name: 'v4', host: '0.0.0.0', port: other },
      { ...plan.frontends[0], index: 5, name: 'v6', host: '::', port: other },
    ];
    await proxy.configure({ ...plan, frontends: both });
    expect(await ask(other, 'x', '127.0.0.1')).toMatch(/^PROXY TCP4 127.0.0.1 127.0.0.1 \d+ \d+\r\nx$/);
    expect(await ask(other, 'x', '::1')).toMatch(/^PROXY TCP6 ::1 ::1 \d+ \d+\r\nx$/);
    expect([4, 5].map((index) => proxy.frontend(index).total)).toEqual([1, 1]);
  });
});

describe('out of descriptors', () => {
  test('clients wait, none is lost, and no server is blamed', async () => {
    const server = await serve();
    const port = await freePort();
    const program = fileURLToPath(new URL('../lab/proxy-starved.js', import.meta.url));
    const plan = JSON.stringify(planOf(port, { servers: [server] }));
    const child = spawn('sh', ['-c', 'ulimit -n 128; exec "$0" "$@"', process.execPath, program, plan], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      let output = '';
      child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
      await waitUntil(() => output.includes('ready'), { what: 'the proxy' });
      const many: Client[] = [];
      for (let i = 0; i < 100; i++) many.push(await client(port));
      await waitUntil(() => output.includes('ulimit'), { what: 'the warning' });
      expect(many.filter((one) => one.ended() !== undefined)).toEqual([]);
      for (const { socket } of many) socket.resetAndDestroy();
      await waitUntil(async () => (await ask(port, 'hello').catch(() => '')) === 'hello', { what: 'an echo again' });
      expect(output).toContain('warn');
      expect(output.match(/warn/g)!.length).toBeLessThan(10);
      expect(output).not.toContain('signal');
    } finally {
      child.kill('SIGKILL');
      await once(child, 'close');
    }
  });
});

test('the kernel keeps both sides alive', async () => {
  const server = await serve(silent);
  const { proxy, port } = await run({ servers: [server] });
  await client(port);
  await waitUntil(() => proxy.frontend(3).current === 1, { what: 'the connection' });
  const timers = (filter: string) => execFileSync('ss', ['-Htno', 'state', 'established', ...filter.split(' ')], { encoding: 'utf8' });
  expect(timers(`sport = :${port}`)).toContain('timer:(keepalive');
  expect(timers(`dport = :${server.port}`)).toContain('timer:(keepalive');
});
