import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { OrderError, type Orders } from '../../src/control/orders.ts';
import { type StatsServer, type StatsServerOptions, startStatsServer } from '../../src/control/server.ts';
import { TokenGate, type WrongTokens } from '../../src/control/token.ts';
import { conveyStats } from '../fixtures/convey-stats.schema.ts';
import { backendOf, countersOf, frontendOf, serverOf, sourceOf, viewOf } from '../lab/control-world.ts';

setFlagsFromString('--expose-gc');

/** As they were before the first server started. */
const globals = [globalThis.Request, globalThis.Response];
const servers: StatsServer[] = [];
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

const source = sourceOf('proxy', { frontends: [countersOf(5, 2, 100, 1000)], servers: [countersOf(5, 2, 100, 1000)] });
const view = viewOf({ frontends: [frontendOf('web', 0)], backends: [backendOf('app', [serverOf('one', 0)])] });

async function start(more: Partial<StatsServerOptions> = {}, host = '127.0.0.1'): Promise<{ server: StatsServer; url: string }> {
  const server = await startStatsServer(host, 0, { source, view: () => view, version: '1.2.3', isLocal: true, ...more });
  servers.push(server);
  return { server, url: `http://${host.includes(':') ? `[${host}]` : host}:${server.port}` };
}

async function connected({ port }: StatsServer): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Everything that comes back until the other side closes. */
async function answerTo(server: StatsServer, request: string): Promise<string> {
  const socket = await connected(server);
  let text = '';
  socket.setEncoding('utf8').on('data', (data: string) => (text += data));
  socket.write(request);
  await once(socket, 'close');
  return text;
}

describe('the three pages', () => {
  test("/stats is Convey's document", async () => {
    const { url } = await start();
    const response = await fetch(`${url}/stats?pretty`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('application/json');
    expect(response.headers.get('cache-control')).toBe('no-store');
    const { lb4, ...convey } = (await response.json()) as Record<string, unknown>;
    expect(conveyStats.parse(convey).backends['app']?.servers).toEqual({ '10.0.0.0:80': true });
    expect(lb4).toMatchObject({ mode: 'proxy' });
  });

  test("/metrics is Prometheus' text", async () => {
    const { url } = await start();
    const response = await fetch(`${url}/metrics`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(await response.text()).toContain('\nlb4_frontend_sessions_total{frontend="web",protocol="tcp"} 5\n');
  });

  test('/healthz says ok, also after a failed reload, and 503 while lb4 stops, or lacks what it put on the host', async () => {
    let now = view;
    const { url } = await start({ view: () => now });
    const ask = async () => {
      const response = await fetch(`${url}/healthz`);
      expect(response.headers.get('content-type')).toBe('application/json');
      expect(response.headers.get('cache-control')).toBe('no-store');
      return [response.status, await response.json()];
    };
    expect(await ask()).toEqual([200, { status: 'ok', mode: 'proxy', last_reload_succeeded: true }]);
    now = { ...view, reload: { ...view.reload, lastSucceeded: false, lastError: 'secret' } };
    expect(await ask()).toEqual([200, { status: 'ok', mode: 'proxy', last_reload_succeeded: false }]);
    const rules = {
      what: 'rules',
      name: 'firewall rules',
      serves: false,
      missing: ['missing a', 'missing b'],
      reason: 'locked',
      repairs: 0,
    };
    now = { ...view, host: [{ ...rules, missing: [], reason: undefined }] };
    expect(await ask()).toEqual([200, { status: 'ok', mode: 'proxy', last_reload_succeeded: true }]);
    now = { ...view, host: [rules] };
    const reasons = ['firewall rules: missing a, and 1 more: locked'];
    expect(await ask()).toEqual([503, { status: 'broken', mode: 'proxy', last_reload_succeeded: true, reasons }]);
    // What is only missed later is told elsewhere.
    now = { ...view, host: [{ ...rules, serves: true }] };
    expect((await ask())[0]).toBe(200);
    now = { ...view, stopping: true };
    expect(await ask()).toEqual([503, { status: 'stopping', mode: 'proxy', last_reload_succeeded: true }]);
  });

  test.each(['/stats', '/metrics', '/healthz'])('HEAD %s has no body, everything else is 405', async (path) => {
    const { url, server } = await start();
    const head = await fetch(url + path, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
      const body = method === 'POST' ? { body: 'x'.repeat(100_000) } : {};
      const response = await fetch(url + path, { method, ...body });
      expect([response.status, response.headers.get('allow')], method).toEqual([405, 'GET, HEAD']);
      await response.text();
    }
    expect(await answerTo(server, `TRACE ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)).toMatch(/^HTTP\/1\.1 40[05] /);
  });

  test.each(['/dashboard/', '/dashboard/../package.json', '/stats/', '/STATS', '/stats/../etc/passwd', '/%73tat', '//stats'])(
    '%s is 404 in one line',
    async (path) => {
      const { server } = await start();
      const answer = await answerTo(server, `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
      expect(answer).toMatch(/^HTTP\/1\.1 404 /);
      expect(answer).toMatch(/cache-control: no-store/i);
      expect(answer).toContain('lb4: GET /stats, /metrics, /healthz, or / in a browser\n');
    },
  );

  test('an HTTP/1.0 client without a Host header is served', async () => {
    const { server } = await start();
    expect(await answerTo(server, 'GET /healthz HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 [^]*"status":"ok"/);
  });
});

test('what fails is 500, told to the caller and not to the client', async () => {
  const failures: Error[] = [];
  const broken = () => {
    throw new Error('the engine has gone');
  };
  const { url } = await start({ view: broken, failed: (error) => failures.push(error) });
  for (const path of ['/stats', '/metrics', '/healthz']) {
    const response = await fetch(url + path);
    expect([response.status, await response.text()]).toEqual([500, 'lb4: internal error\n']);
  }
  expect(failures.map(({ message }) => message)).toEqual(Array(3).fill('the engine has gone'));
});

describe('a name that is not this host’s is of a page from elsewhere', () => {
  const status = async (server: StatsServer, host: string) =>
    (await answerTo(server, `GET /healthz HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)).split('\r\n')[0];

  test.each(['localhost', 'LOCALHOST:8080', 'localhost.:7000', '127.0.0.1', '[::1]:7000', '192.0.2.1:80', hostname()])(
    '%s is',
    async (host) => {
      expect(await status((await start()).server, host)).toBe('HTTP/1.1 200 OK');
    },
  );

  test.each(['a', 'rebound.example:7000', 'localhost.example', '127.0.0.1.example'])('%s is not', async (host) => {
    expect(await status((await start()).server, host)).toMatch(/^HTTP\/1\.1 421 /);
    expect(await status((await start({ isLocal: false })).server, host)).toBe('HTTP/1.1 200 OK');
  });

  test('HTTP/1.0 names none', async () => {
    expect(await answerTo((await start()).server, 'GET /healthz HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.\d 200 /);
  });
});

describe('what the dashboard orders', () => {
  const TOKEN = '0123456789abcdef';
  const ordered: unknown[] = [];
  const told: WrongTokens[] = [];
  const orders: Pick<Orders, 'set'> = {
    set: async (server, order) => {
      if (server !== 'app/one') throw new OrderError('unknown', `there is no server "${server}"`);
      ordered.push(order);
      return { server, set: { state: 'drain' } };
    },
  };
  const writable = (token: string | undefined = TOKEN) =>
    start({ writer: { orders, token: () => token, gate: new TokenGate((wrong) => told.push(wrong)) } });
  const HEADERS = { 'content-type': 'application/json', authorization: `Bearer ${TOKEN}` };
  const order = async (url: string, headers: Readonly<Record<string, string>> = HEADERS, server = 'app/one') => {
    const response = await fetch(`${url}/dashboard/server?server=${server}`, { method: 'POST', headers, body: '{"state":"drain"}' });
    expect(response.headers.get('access-control-allow-origin')).toBeNull();
    return [response.status, await response.json()];
  };
  const refused = (status: number, message: RegExp) => [
    status,
    { error: { why: expect.any(String), message: expect.stringMatching(message) } },
  ];
  const mode = async (url: string) => ((await (await fetch(`${url}/stats`)).json()) as { lb4: { dashboard: string } }).lb4.dashboard;

  test('goes the way of the control API', async () => {
    const { url } = await writable();
    expect(await order(url)).toEqual([200, { server: 'app/one', set: { state: 'drain' } }]);
    expect(ordered.splice(0)).toEqual([{ state: 'drain', weight: undefined }]);
    expect((await order(url, { ...HEADERS, origin: url }))[0]).toBe(200);
    expect(ordered.splice(0)).toHaveLength(1);
    expect(await order(url, HEADERS, 'app/two')).toEqual(refused(404, /there is no server "app\/two"/));
    expect(await mode(url)).toBe('write');
  });

  test.each([
    ['without a token', { 'content-type': 'application/json' }, 401, /needed: Authorization: Bearer TOKEN/],
    ['with another one', { ...HEADERS, authorization: 'Bearer 0123456789abcdeF' }, 401, /needed: Authorization/],
    ['from a page from elsewhere', { ...HEADERS, origin: 'http://evil.example' }, 403, /Origin/],
    ['from a page of no origin', { ...HEADERS, origin: 'null' }, 403, /Origin/],
    ['as forms are sent', { ...HEADERS, 'content-type': 'text/plain' }, 415, /application\/json/],
  ])('%s it is refused', async (_, headers, status, message) => {
    const { url } = await writable();
    expect(await order(url, headers)).toEqual(refused(status, message));
    expect(ordered).toEqual([]);
  });

  test('of a dashboard that is read-only it is refused, and asked before it is sent nothing is allowed', async () => {
    for (const { url } of [await start(), await start({ writer: { orders, token: () => undefined, gate: new TokenGate(() => {}) } })]) {
      expect(await order(url)).toEqual(refused(403, /read-only; in the file: \[control\] dashboard = "write"/));
      expect(await mode(url)).toBe('read');
    }
    const { url } = await writable();
    for (const method of ['GET', 'OPTIONS', 'PUT']) {
      const answer = await fetch(`${url}/dashboard/server?server=app/one`, { method });
      expect([answer.status, answer.headers.get('allow'), answer.headers.get('access-control-allow-origin')]).toEqual([405, 'POST', null]);
    }
  });

  test('who guesses waits, and is told of once; on this host, where all are one, the right one is taken all the same', async () => {
    told.length = 0;
    const { url } = await writable();
    const wrong = { ...HEADERS, authorization: 'Bearer wrong' };
    for (let i = 0; i < 5; i++) expect((await order(url, wrong))[0]).toBe(401);
    expect(await order(url, wrong)).toEqual(refused(429, /again in a minute/));
    expect([told, ordered]).toEqual([[{ from: '127.0.0.1', attempts: 1 }], []]);
    expect((await order(url))[0]).toBe(200);
    expect(ordered.splice(0)).toHaveLength(1);
  });

  test('others do not wait for who guesses, nor he for more than a minute; of IPv6 a network is one', () => {
    told.length = 0;
    const gate = new TokenGate((wrong) => told.push(wrong));
    const judge = (from: string, token: string, at: number) => gate.judge(TOKEN, `Bearer ${token}`, from, at);
    for (let i = 0; i < 5; i++) expect(judge(`2001:db8::${i}`, 'x', i)).toBe('wrong');
    expect([judge('2001:db8::9', TOKEN, 9), judge('2001:db8:0:1::9', TOKEN, 9), judge('192.0.2.1', TOKEN, 9)]).toEqual([
      'later',
      'right',
      'right',
    ]);
    expect([judge('2001:db8::9', TOKEN, 59_999), judge('2001:db8::9', TOKEN, 60_000)]).toEqual(['later', 'right']);
    expect(judge('192.0.2.2', 'x', 60_000)).toBe('wrong');
    expect(told).toEqual([
      { from: '2001:db8::0', attempts: 1 },
      { from: '192.0.2.2', attempts: 5 },
    ]);
  });
});

test.each([
  ['no HTTP at all', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n'],
  ['a bad request line', 'GET\r\n\r\n'],
  ['a header without a colon', 'GET /stats HTTP/1.1\r\nHost\r\n\r\n'],
  ['a huge header', `GET /stats HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`],
  ['a bad host', 'GET /stats HTTP/1.1\r\nHost: a b/@\r\nConnection: close\r\n\r\n'],
  ['two lengths', 'GET /stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n'],
])('%s is refused, and the next one served', async (_, request) => {
  const { server, url } = await start();
  expect(await answerTo(server, request)).toMatch(/^HTTP\/1\.1 4\d\d |^$/);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

test('many at once are served', async () => {
  const { url } = await start();
  const paths = Array.from({ length: 150 }, (_, i) => ['/stats', '/metrics', '/healthz'][i % 3]);
  const answers = await Promise.all(
    paths.map(async (path) => {
      const response = await fetch(url + path);
      return { status: response.status, size: (await response.text()).length };
    }),
  );
  expect(answers.filter(({ status, size }) => status !== 200 || size < 40)).toEqual([]);
});

test('many that do not read their answers starve nobody, and it is not written for each of them', async () => {
  // Some 10 MB, of which the kernel takes a part.
  const frontends = Array.from({ length: 1000 }, (_, i) => frontendOf(`${i}`.padEnd(1500, 'x'), 0));
  let written = 0;
  const many = { ...view, frontends };
  const { server, url } = await start({ view: () => (written++, many) });
  const readers: Socket[] = [];
  for (let i = 0; i < 45; i++) {
    const socket = await connected(server);
    readers.push(socket);
    socket.pause().on('data', () => {});
    socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n');
    if (i % 20 === 0) expect((await fetch(`${url}/healthz`, { headers: { connection: 'close' } })).status).toBe(200);
  }
  // Each /healthz has looked once, too.
  expect(written - 3).toBeLessThan(30);
  const size = (await (await fetch(`${url}/metrics`)).text()).length;
  // The oldest made way, so that what was left unread was bounded: they do not get all of it.
  for (const socket of readers) socket.resume();
  await vi.waitFor(() => expect(readers.every(({ destroyed, bytesRead }) => destroyed || bytesRead >= size)).toBe(true));
  expect(readers.filter(({ bytesRead }) => bytesRead < size).length).toBeGreaterThan(5);
});

test('one answer at a time a connection: who asks on and on without waiting is sent away, and no answer is written for each', async () => {
  let written = 0;
  const { server, url } = await start({ view: () => (written++, view) });
  const answers = await answerTo(server, 'GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(1000));
  expect(answers.split('HTTP/1.1 200').length - 1).toBeLessThanOrEqual(1);
  expect(written).toBeLessThanOrEqual(1);
  // One after the other on the same connection they are answered.
  const socket = await connected(server);
  for (let i = 0; i < 3; i++) {
    socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1\.1 200/);
  }
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

test('hundreds of idle connections keep nobody out', async () => {
  const { server, url } = await start();
  for (let i = 0; i < 300; i++) await connected(server);
  for (let i = 0; i < 3; i++) expect((await fetch(`${url}/healthz`, { headers: { connection: 'close' } })).status).toBe(200);
});

test('who does not finish a request is sent away, and keeps nobody waiting', async () => {
  const { server, url } = await start();
  const slow = answerTo(server, 'GET /stats HTTP/1.1\r\nHost: localhost\r\nX-Slow: ');
  expect((await fetch(`${url}/stats`)).status).toBe(200);
  expect(await slow).toMatch(/^HTTP\/1\.1 408 /);
});

test('a client that goes away in the middle harms nobody', async () => {
  const failures: Error[] = [];
  const { server, url } = await start({ failed: (error) => failures.push(error) });
  for (let i = 0; i < 20; i++) {
    const socket = await connected(server);
    socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n');
    socket.resetAndDestroy();
  }
  expect((await fetch(`${url}/metrics`)).status).toBe(200);
  expect(failures).toEqual([]);
});

test('a port that is taken is an error of the system', async () => {
  const { server } = await start();
  await expect(startStatsServer('127.0.0.1', server.port, { source, view: () => view, version: '1', isLocal: true })).rejects.toMatchObject(
    {
      code: 'EADDRINUSE',
      syscall: 'listen',
      port: server.port,
    },
  );
});

test('listens on IPv6, too', async () => {
  const { url } = await start({}, '::1');
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

test('close ends open connections at once, and leaves no handle', async () => {
  const { server, url } = await start();
  const idle = await connected(server);
  const unfinished = await connected(server);
  unfinished.write('GET /stats HTTP/1.1\r\n');
  expect(await answerTo(server, 'GET /stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /);
  const ended = Promise.all([once(idle, 'close'), once(unfinished, 'close')]);
  await server.close();
  await ended;
  await server.close();
  await expect(fetch(`${url}/stats`)).rejects.toThrow('fetch failed');
  const open = () => process.getActiveResourcesInfo().filter((name) => name === 'TCPServerWrap');
  await vi.waitFor(() => expect(open()).toEqual([]));
});

test('a server that moves a thousand times leaves nothing behind', async () => {
  const collect = runInNewContext('gc') as () => void;
  const move = async (times: number) => {
    for (let i = 0; i < times; i++)
      await (await startStatsServer('127.0.0.1', 0, { source, view: () => view, version: '1', isLocal: true })).close();
    await sleep(50); // closed sockets and their promises go with the next turns of the event loop
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = await move(100);
  // Less than 4 KiB each, which is noise: a registry with prom-client's own metrics takes about 30.
  expect((await move(1000)) - before).toBeLessThan(4 * 2 ** 20);
});

test('does not replace the global Request and Response', async () => {
  await start();
  expect([globalThis.Request, globalThis.Response]).toEqual(globals);
});
