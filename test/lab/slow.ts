/**
 * A client that does not read: `slow.js COUNT BYTES HOST:PORT` asks for BYTES of content over each of COUNT connections, prints
 * `asked`, and reads nothing before a line comes on standard input. Then it reads everything and prints a SlowReport.
 */
import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { contentHash } from './content.ts';

export interface SlowReport {
  /** Connections that got the whole content, intact. */
  readonly ok: number;
  /** What went wrong, one line a connection. */
  readonly errors: string[];
}

const [count = '1', bytes = '0', to = ''] = process.argv.slice(2);
const [host = '', port] = to.split(':');

function ask(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    // Paused from the start: not a byte leaves the kernel.
    const socket = connect({ host, port: Number(port) });
    socket.pause();
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      socket.write(`GET /content/${bytes} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n`);
      resolve(socket);
    });
  });
}

/** Undefined, or what is wrong. */
function readAll(socket: Socket, expected: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const hash = createHash('sha256');
    let head = '';
    let isBody = false;
    socket.on('data', (chunk: Buffer) => {
      if (isBody) return hash.update(chunk);
      head += chunk.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      isBody = true;
      hash.update(Buffer.from(head.slice(end + 4), 'latin1'));
    });
    socket.resume();
    socket.on('error', (error) => resolve(error.message));
    socket.on('end', () => resolve(hash.digest('hex') === expected ? undefined : 'other data came'));
  });
}

const sockets = await Promise.all(Array.from({ length: Number(count) }, ask));
process.stdout.write('asked\n');
createInterface({ input: process.stdin }).once('line', async () => {
  const expected = contentHash(Number(bytes));
  const results = await Promise.all(sockets.map((socket) => readAll(socket, expected)));
  const errors = results.filter((result) => result !== undefined);
  process.stdout.write(`${JSON.stringify({ ok: results.length - errors.length, errors } satisfies SlowReport)}\n`);
  process.exit(0);
});
