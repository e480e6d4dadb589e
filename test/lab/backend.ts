/**
 * A server of the lab: `backend.js NAME http=PORT echo=PORT`. It prints `listening` once all ports are open. `http6` and `echo6`
 * are on IPv6.
 *
 *     GET  /               its name
 *     GET  /content/BYTES  that much of content.ts
 *     GET  /drip/BYTES     zeros, 16 KB every 10 ms
 *     GET  /paced/BYTES[/MS]  as /content, in pieces of 1,200 bytes, one every so many ms (20)
 *     GET  /wait/MS        its name, so much later
 *     POST /hash           SHA-256 of the body
 *     POST /late           the same, reading nothing until it is told to
 *     PUT  /late           tells it, for good
 *     GET  /health         what health checks are to see: 200, until told otherwise
 *     PUT  /health/STATUS  tells it, and answers who asked last: `HOST-HEADER PEER`
 *
 * Every answer names the server (x-server), the address that the connection came from (x-peer) and the most requests that it had
 * at a time so far (x-most). The echo port greets with `NAME PEER\n` and sends back what it gets.
 */
import { createHash } from 'node:crypto';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { content } from './content.ts';
import { pause } from './wait.ts';

const [name = 'server', ...ports] = process.argv.slice(2);

/** Uploads that wait to be read; undefined: none waits any more. */
let late: (() => void)[] | undefined = [];

let health = 200;
let asked = '';

const peer = (socket: Socket): string => `${socket.remoteAddress}:${socket.remotePort}`;

let running = 0;
let most = 0;

function answer(request: IncomingMessage, response: ServerResponse): void {
  response.setHeader('x-server', name);
  response.setHeader('x-peer', peer(request.socket));
  most = Math.max(most, ++running);
  response.setHeader('x-most', most);
  response.on('close', () => running--);
  const [, what, size, every] = (request.url ?? '/').split(/[/?]/);
  const amount = Number(size ?? 0);
  if (request.method === 'POST') {
    const read = () => hashBody(request, response);
    if (what === 'late' && late !== undefined) late.push(read);
    else read();
  } else if (what === 'late') {
    for (const read of late ?? []) read();
    late = undefined;
    response.end();
  } else if (what === 'health' && request.method === 'PUT') {
    health = amount;
    response.end(asked);
  } else if (what === 'health') {
    asked = `${request.headers.host} ${peer(request.socket)}`;
    response.writeHead(health).end();
  } else if (what === 'wait') {
    setTimeout(
      () =>
        response.end(`${name}
`),
      amount,
    );
  } else if (what === 'content') {
    response.setHeader('content-length', amount);
    content(amount).pipe(response);
  } else if (what === 'paced') {
    response.setHeader('content-length', amount);
    void pace(response, amount, Number(every ?? 20));
  } else if (what === 'drip') {
    response.setHeader('content-length', amount);
    drip(response, amount);
  } else {
    response.end(`${name}\n`);
  }
}

function hashBody(request: IncomingMessage, response: ServerResponse): void {
  const hash = createHash('sha256');
  request.on('data', (chunk: Buffer) => hash.update(chunk)).on('end', () => response.end(`${hash.digest('hex')}\n`));
}

async function pace(response: ServerResponse, bytes: number, every: number): Promise<void> {
  let due = performance.now();
  for await (const piece of content(bytes, 1_200)) {
    // Each has its time: one that is late delays none behind it.
    await pause(Math.max(0, due - performance.now()));
    due += every;
    if (response.destroyed) return;
    response.write(piece);
  }
  response.end();
}

function drip(response: ServerResponse, bytes: number): void {
  const piece = Buffer.alloc(16 * 1024);
  let left = bytes;
  const timer = setInterval(() => {
    response.write(piece.subarray(0, left));
    left -= piece.length;
    if (left > 0) return;
    // Not when it has closed: on a slow way that is later, and whoever writes after the end ends the whole server.
    clearInterval(timer);
    response.end();
  }, 10);
  response.on('close', () => clearInterval(timer));
}

function echo(socket: Socket): void {
  socket.on('error', () => socket.destroy());
  socket.write(`${name} ${peer(socket)}\n`);
  socket.pipe(socket);
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve) => server.listen({ port, host, ipv6Only: true, backlog: 4096 }, resolve));
}

for (const argument of ports) {
  const [kind = '', port] = argument.split('=');
  const server = kind.startsWith('echo') ? createServer({ allowHalfOpen: true }, echo) : createHttpServer(answer);
  await listen(server, kind.endsWith('6') ? '::' : '0.0.0.0', Number(port));
}
process.stdout.write('listening\n');
