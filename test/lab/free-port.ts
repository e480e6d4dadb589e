/** Ports for who must know one before it is listened on, or needs one on which nobody listens. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

/** Below those that the kernel gives to whoever asks for any: a port that it has just given, and taken back, is the next one's who asks, in whichever process. */
const FIRST = 10_000;
/** Of two processes that run tests at the same time each has ports of its own. */
const SLICES = 8;

const slice = Number(process.env['VITEST_POOL_ID'] ?? 0) % SLICES;
const [givenFrom = 32_768] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s+/).map(Number);
const size = Math.floor((Math.max(givenFrom, 20_000) - FIRST) / SLICES);
/** Other runs may be under way: not all begin with the same. */
let turn = randomInt(size);

/** A port of TCP on which nobody listens now, and which nobody else will be given. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  for (;;) {
    turn = (turn + 1) % size;
    const port = FIRST + slice * size + turn;
    if (await isFree(port, host)) return port;
  }
}

async function isFree(port: number, host: string): Promise<boolean> {
  const server = createServer().listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
    throw error;
  }
  await new Promise((resolve) => server.close(resolve));
  return true;
}
