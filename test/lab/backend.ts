/**
 * A server of the lab: `backend.js NAME http=PORT echo=PORT`. It prints `listening` once all ports are open.
 *
 *     GET  /               its name
 *     GET  /content/BYTES  that much of content.ts
 *     GET  /drip/BYTES     zeros, 16 KB every 10 ms
 *     POST /hash           SHA-256 of the body
 *     GET  /health         what health checks are to see: 200, until told otherwise
 *     PUT  /health/STATUS  tells it, and answers who asked last: `HOST-HEADER PEER`
 *
 * Every answer names the server (x-server) and the address that the connection came from (x-peer). The echo port greets with
 * `NAME PEER\n` and sends back what it gets.
 */
import { createHash } from 'node:crypto';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { content } from './content.ts';

const [name = 'server', ...ports] = process.argv.slice(2);

let health = 200;
let asked = '';

const peer = (socket: Socket): string => `${socket.remoteAddress}:${socket.remotePort}`;

function answer(request: IncomingMessage, response: ServerResponse): void {
  response.setHeader('x-server', name);
  response.setHeader('x-peer', peer(request.socket));
  const [, what, size] = (request.url ?? '/').split('/');
  const bytes = Number(size ?? 0);
  if (request.method === 'POST') {
    const hash = createHash('sha256');
    request.on('data', (chunk: Buffer) => hash.update(chunk)).on('end', () => response.end(`${hash.digest('hex')}\n`));
  } else if (what === 'health' && request.method === 'PUT') {
    health = Number(size);
    response.end(asked);
  } else if (what === 'health') {
    asked = `${request.headers.host} ${peer(request.socket)}`;
    response.writeHead(health).end();
  } else if (what === 'content') {
    response.setHeader('content-length', bytes);
    content(bytes).pipe(response);
  } else if (what === 'drip') {
    response.setHeader('content-length', bytes);
    drip(response, bytes);
  } else {
    response.end(`${name}\n`);
  }
}

function drip(response: ServerResponse, bytes: number): void {
  const piece = Buffer.alloc(16 * 1024);
  let left = bytes;
  const timer = setInterval(() => {
    response.write(piece.subarray(0, left));
    left -= piece.length;
    if (left <= 0) response.end();
  }, 10);
  response.on('close', () => clearInterval(timer));
}

function echo(socket: Socket): void {
  socket.on('error', () => socket.destroy());
  socket.write(`${name} ${peer(socket)}\n`);
  socket.pipe(socket);
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve) => server.listen({ port, host: '0.0.0.0', backlog: 4096 }, resolve));
}

for (const argument of ports) {
  const [kind, port] = argument.split('=');
  await listen(kind === 'echo' ? createServer({ allowHalfOpen: true }, echo) : createHttpServer(answer), Number(port));
}
process.stdout.write('listening\n');
