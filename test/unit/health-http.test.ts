import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { describe, expect, test, vi } from 'vitest';
import { readStatus } from '../../src/config/schema/http.ts';
import type { HttpSettings, Target } from '../../src/health/check.ts';
import { checkFor } from '../../src/health/check-for.ts';
import { closedPort, closers, deafPort, handles, listen, portOf, target } from '../lab/health-lab.ts';

const OK: HttpSettings = { type: 'http', path: '/', status: [[200, 399]], host: undefined };

function run(port: number, settings: Partial<HttpSettings> = {}, more: Partial<Target> = {}, signal = new AbortController().signal) {
  return checkFor(target(port, { check: { ...OK, ...settings }, timeoutMs: 5000, ...more })).run(signal);
}

/** A real HTTP server that answers with `status`, and what it was asked. */
async function website(status: number, headers: Record<string, string> = {}, host = '127.0.0.1') {
  const asked: IncomingMessage[] = [];
  const server = createHttpServer((request, response) => {
    asked.push(request);
    response.writeHead(status, headers).end('body');
  });
  await listening(server, host);
  return { port: portOf(server), asked };
}

/** A server that does as it is told with every connection, once the request is there. */
async function rogue(act: (socket: Socket, request: Buffer) => void, host = '127.0.0.1') {
  const ends: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', (error: NodeJS.ErrnoException) => ends.push(error.code ?? ''));
    socket.once('data', (request: Buffer) => act(socket, request));
  });
  await listening(server, host);
  return { port: portOf(server), ends };
}

async function listening(server: Server, host: string): Promise<void> {
  server.listen(0, host);
  await once(server, 'listening');
  closers.push(() => new Promise((resolve) => server.close(resolve)));
}

describe('an HTTP check', () => {
  test('asks with a plain GET of its own connection', async () => {
    const { port, asked } = await website(204);
    const result = await run(port, { path: '/health?deep=1' });
    expect(result).toEqual({ outcome: 'pass', reason: expect.stringMatching(/^HTTP 204 in [\d.]+ ms$/) as string });
    const { method, url, httpVersion, headers } = asked[0];
    expect({ method, url, httpVersion }).toEqual({ method: 'GET', url: '/health?deep=1', httpVersion: '1.1' });
    expect(headers).toEqual({ host: `127.0.0.1:${port}`, 'user-agent': 'lb4-health', accept: '*/*', connection: 'close' });
  });

  test('names the host it is told', async () => {
    const { port, asked } = await website(200);
    await run(port, { host: 'www.example.org' });
    expect(asked[0]?.headers.host).toBe('www.example.org');
  });

  test.each([
    ['v1', 'PROXY UNKNOWN\r\n'],
    ['v2', '\r\n\r\n\0\r\nQUIT\n\x20\0\0\0'],
  ] as const)('begins with a header of its own where servers expect the PROXY protocol: %s', async (sendProxy, header) => {
    let said = '';
    const { port } = await rogue((socket, data) => {
      said = data.toString('latin1');
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
    });
    expect(await run(port, { sendProxy, path: '/up' })).toMatchObject({ outcome: 'pass' });
    expect(said).toMatch(/GET \/up HTTP\/1\.1\r\n/);
    expect(said.slice(0, said.indexOf('GET'))).toBe(header);
  });

  test('reaches a server by IPv6, from an IPv6 address', async () => {
    const { port, asked } = await website(200, {}, '::1');
    const result = await run(port, {}, { address: '::1', sourceAddress: '::1' });
    expect(result.outcome).toBe('pass');
    expect(asked[0]?.headers.host).toBe(`[::1]:${port}`);
  });

  test('leaves from the source address and a port in 32768–33767', async () => {
    const from: string[] = [];
    const { port } = await rogue((socket) => {
      from.push(`${socket.remoteAddress} ${socket.remotePort}`);
      socket.write('HTTP/1.1 200 OK\r\n');
    });
    for (let i = 0; i < 5; i++) expect((await run(port, {}, { sourceAddress: '127.0.0.9' })).outcome).toBe('pass');
    const ports = from.map((end) => Number(end.split(' ')[1]));
    expect(from.every((end) => end.startsWith('127.0.0.9 '))).toBe(true);
    expect(Math.min(...ports)).toBeGreaterThanOrEqual(32768);
    expect(Math.max(...ports)).toBeLessThanOrEqual(33767);
  });

  test.each([
    [200, '200-399', 'pass'],
    [399, '200-399', 'pass'],
    [400, '200-399', 'fail'],
    [503, '200-399', 'fail'],
    [401, '200-299,401', 'pass'],
    [302, '200-299,401', 'fail'],
  ] as const)('status %i with %s: %s', async (code, ranges, outcome) => {
    const { port } = await website(code);
    const result = await run(port, { status: readStatus(ranges) ?? [] });
    expect(result.outcome).toBe(outcome);
    expect(result.reason).toMatch(new RegExp(`^HTTP ${code}`));
  });

  test('follows no redirect', async () => {
    const goal = await website(200);
    const { port } = await website(302, { location: `http://127.0.0.1:${goal.port}/` });
    expect((await run(port, { status: [[200, 299]] })).reason).toBe('HTTP 302');
    expect(goal.asked).toEqual([]);
  });

  test('passes at the status line, whatever comes after it, and closes by RST', async () => {
    const { port, ends } = await rogue((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      socket.write('X: '.padEnd(1 << 20, 'x'));
    });
    expect((await run(port)).outcome).toBe('pass');
    await vi.waitFor(() => expect(ends).toEqual([expect.stringMatching(/^(ECONNRESET|EPIPE)$/)]));
  });

  test('reads a status line without a reason phrase, and one in pieces', async () => {
    const { port } = await rogue((socket) => {
      for (const [i, piece] of ['HT', 'TP/1.0 2', '0', '0', '\n'].entries()) setTimeout(() => socket.write(piece), i * 10);
    });
    expect((await run(port)).outcome).toBe('pass');
  });

  test('waits for the answer behind interim ones (RFC 9110 15.2)', async () => {
    const { port } = await rogue((socket) => {
      socket.write('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n');
      setTimeout(() => socket.write('HTTP/1.1 503 Service Unavailable\r\n\r\n'), 20);
    });
    expect(await run(port, { status: [[100, 399]] })).toEqual({ outcome: 'fail', reason: 'HTTP 503' });
  });
});

describe('an HTTP check fails within its timeout', () => {
  const silence = 'no answer in 200 ms';
  test.each<[string, (socket: Socket) => void, string | RegExp]>([
    ['a server that says nothing', () => {}, silence],
    ['a server that trickles its status line', trickle('HTTP/1.1 '.padEnd(500, '1')), silence],
    ['headers of an interim answer that trickle and never end', trickle('HTTP/1.1 100 Continue\r\n'.padEnd(500, 'a: b\r\n')), silence],
    ['a greeting of another protocol', (socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n'), 'not HTTP: "SSH-2.0-OpenSSH_9.2\\r\\n"'],
    ['bytes that are no text', (socket) => socket.write(Buffer.from([0x15, 3, 1, 0xff])), 'not HTTP: "\\u0015\\u0003\\u0001ÿ"'],
    ['HTTP/0.9', (socket) => socket.end('<html>hello</html>'), 'not HTTP: "<html>hello</html>"'],
    ['a status that is no number', (socket) => socket.write('HTTP/1.1 ok\r\n'), 'not HTTP: "HTTP/1.1 ok\\r\\n"'],
    ['megabytes without a line end', (socket) => socket.write('HTTP/1.1 200 '.padEnd(4 << 20, 'x')), /^not HTTP: "HTTP\/1.1 200 x+"$/],
    ['megabytes of interim headers', (socket) => socket.write('HTTP/1.1 100 C\r\n'.padEnd(4 << 20, 'a: b\r\n')), /^not HTTP: /],
    ['a server that hangs up', (socket) => socket.end(), 'connection closed before an answer'],
    ['a server that hangs up in the middle', (socket) => socket.end('HTTP/1.1 20'), 'connection closed before an answer'],
    ['a server that resets', (socket) => socket.resetAndDestroy(), 'connection reset'],
  ])('%s', async (_name, act, reason) => {
    const { port } = await rogue(act);
    const result = await run(port, {}, { timeoutMs: reason === silence ? 200 : 5000 });
    expect(result).toEqual({ outcome: 'fail', reason: typeof reason === 'string' ? reason : expect.stringMatching(reason) });
  });

  test('nobody listens; nobody answers the SYN', async () => {
    expect(await run(await closedPort())).toEqual({ outcome: 'fail', reason: 'connection refused' });
    expect(await run(await deafPort(), {}, { timeoutMs: 200 })).toEqual({ outcome: 'fail', reason: silence });
  });

  function trickle(text: string): (socket: Socket) => void {
    return (socket) => {
      let i = 0;
      const timer = setInterval(() => socket.write(text[i++ % text.length]), 5);
      socket.once('close', () => clearInterval(timer));
    };
  }
});

test('an HTTP check that is stopped leaves no socket', async () => {
  let isAsked = false;
  const { port, ends } = await rogue(() => {
    isAsked = true;
  });
  const before = handles();
  const abort = new AbortController();
  const check = run(port, {}, { timeoutMs: 60_000 }, abort.signal);
  await vi.waitFor(() => expect(isAsked).toBe(true));
  abort.abort();
  expect(await check).toEqual({ outcome: 'unknown', reason: expect.any(String) as string });
  // Fewer: an earlier test's may go meanwhile.
  await vi.waitFor(() => expect(handles().length).toBeLessThanOrEqual(before.length));
  await vi.waitFor(() => expect(ends).toEqual(['ECONNRESET']));
});

test('an HTTP check without a free local port knows nothing', async () => {
  for (let port = 32768; port <= 33767; port++) await listen('127.0.0.10', port);
  const { port } = await website(200);
  const result = await run(port, {}, { sourceAddress: '127.0.0.10' });
  expect(result).toEqual({ outcome: 'unknown', reason: 'no free local port on 127.0.0.10' });
});
