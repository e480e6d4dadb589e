/**
 * A client of the lab, against backend.ts:
 *
 *     client.js echo COUNT BYTES HOST:PORT [FIRST_LOCAL_PORT]   COUNT connections at once, each its own data; prints EchoReport
 *     client.js hold COUNT HOST:PORT [FIRST_LOCAL_PORT [MS]]    keeps COUNT connections busy, a ping each so many ms (20); a line
 *                                                               on standard input asks for a HoldReport, its end closes them
 *     client.js load RATE http://HOST:PORT/PATH [MS [FIRST]]    RATE new connections a second; a LoadReport every 200 ms. With MS, an answer
 *                                                               may take so long (2000), and at the end all are waited for. With FIRST,
 *                                                               each connection leaves from the next local port
 */
import { randomBytes } from 'node:crypto';
import { get } from 'node:http';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

export interface EchoReport {
  /** Connections that got all of their own data back, and nothing else. */
  readonly ok: number;
  /** What went wrong, one line a connection. */
  readonly errors: string[];
  /** Connections of each server. */
  readonly servers: Record<string, number>;
  /** Where the servers saw the connections come from, one a connection. */
  readonly peers: string[];
  /** Bytes of all connections together. */
  readonly sent: number;
  readonly received: number;
}

export interface Held {
  server: string;
  /** Pings answered so far. */
  echoed: number;
  /** Why it ended, when it did. */
  ended?: string;
}

export type HoldReport = Held[];

export interface LoadReport {
  /** Per server: answers and bytes of body since the start. */
  servers: Record<string, { answers: number; bytes: number }>;
  sent: number;
  failed: number;
  /** Of the answers since the last report, in milliseconds. */
  median: number;
  slowest: number;
}

function target(text: string): { host: string; port: number } {
  const [host = '', port] = text.split(':');
  return { host, port: Number(port) };
}

/** Of the connection `index`; the kernel's choice without a first one. */
function localPort(first: number | undefined, index: number): { localPort?: number } {
  return first === undefined ? {} : { localPort: first + index };
}

const say = (report: unknown): boolean => process.stdout.write(`${JSON.stringify(report)}\n`);

async function echoAll(count: number, bytes: number, to: string, firstPort: number | undefined): Promise<void> {
  const report = { ok: 0, errors: [] as string[], servers: {} as Record<string, number>, peers: [] as string[], sent: 0, received: 0 };
  let connected = 0;
  let release = (): void => undefined;
  const allConnected = new Promise<void>((resolve) => {
    release = resolve;
  });
  const one = (index: number): Promise<void> =>
    new Promise((resolve) => {
      const sent = Buffer.concat([Buffer.from(`connection ${index} `), randomBytes(bytes)]);
      const received: Buffer[] = [];
      const socket = connect({ ...target(to), allowHalfOpen: true, ...localPort(firstPort, index) });
      let settled = false;
      const settle = (error?: string): void => {
        if (settled) return;
        settled = true;
        if (error !== undefined) report.errors.push(`${index}: ${error}`);
        if (++connected >= count) release();
        resolve();
      };
      socket.on('error', (error) => settle(error.message));
      // All are open before the first one sends: they are parallel, not merely many.
      socket.once('connect', () => {
        if (++connected === count) release();
        void allConnected.then(() => socket.end(sent));
      });
      socket.on('data', (chunk) => received.push(chunk));
      socket.on('end', () => {
        const all = Buffer.concat(received);
        report.sent += sent.length;
        report.received += all.length;
        const greeting = all.indexOf('\n');
        const [server = '', peer = ''] = all.subarray(0, greeting).toString().split(' ');
        report.servers[server] = (report.servers[server] ?? 0) + 1;
        report.peers.push(peer);
        if (all.subarray(greeting + 1).equals(sent)) report.ok++;
        else report.errors.push(`${index}: other data came back (${all.length - greeting - 1} bytes of ${sent.length})`);
        settle();
      });
    });
  const guard = setTimeout(() => release(), 20_000);
  await Promise.all(Array.from({ length: count }, (_, index) => one(index)));
  clearTimeout(guard);
  say(report);
}

function hold(count: number, to: string, firstPort: number | undefined, every = 20): void {
  const held: Held[] = [];
  const sockets: Socket[] = [];
  let greeted = 0;
  for (let index = 0; index < count; index++) {
    const state: Held = { server: '', echoed: 0 };
    held.push(state);
    const socket = connect({ ...target(to), ...localPort(firstPort, index) });
    sockets.push(socket);
    socket.setNoDelay(true);
    let waiting = '';
    socket.on('data', (chunk: Buffer) => {
      waiting += chunk.toString();
      if (state.server === '') {
        const end = waiting.indexOf('\n');
        if (end < 0) return;
        state.server = waiting.slice(0, end).split(' ')[0] ?? '';
        waiting = waiting.slice(end + 1);
        if (++greeted === count) process.stdout.write('holding\n');
        socket.write(`${index}:0;`);
      }
      const expected = `${index}:${state.echoed};`;
      if (waiting === expected) {
        waiting = '';
        state.echoed++;
        setTimeout(() => socket.writable && socket.write(`${index}:${state.echoed};`), every);
      } else if (!expected.startsWith(waiting)) {
        state.ended ??= `got ${waiting} for ${expected}`;
      }
    });
    socket.on('error', (error) => {
      state.ended ??= error.message;
    });
    socket.on('close', () => {
      state.ended ??= 'closed';
    });
  }
  const input = createInterface({ input: process.stdin });
  input.on('line', () => say(held));
  input.on('close', () => {
    // Not a thousand at once: a reset that a full ring loses nobody sends again.
    for (const [index, socket] of sockets.entries()) setTimeout(() => socket.destroy(), Math.floor(index / 50) * 10);
  });
}

function load(rate: number, url: string, patience?: number, firstPort?: number): void {
  const report: LoadReport = { servers: {}, sent: 0, failed: 0, median: 0, slowest: 0 };
  let times: number[] = [];
  const request = (): void => {
    const began = performance.now();
    const from = localPort(firstPort, report.sent++);
    const fail = (): void => {
      report.failed++;
    };
    const asked = get(url, { agent: false, timeout: patience ?? 2_000, ...from }, (response) => {
      const server = String(response.headers['x-server']);
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      response.on('error', fail);
      response.on('end', () => {
        const entry = (report.servers[server] ??= { answers: 0, bytes: 0 });
        entry.answers++;
        entry.bytes += bytes;
        times.push(performance.now() - began);
      });
    });
    asked.on('timeout', () => asked.destroy(new Error('timeout')));
    asked.on('error', fail);
  };
  const start = performance.now();
  const pace = setInterval(() => {
    const due = ((performance.now() - start) / 1_000) * rate;
    while (report.sent < due) request();
  }, 5);
  const tell = setInterval(() => {
    times.sort((a, b) => a - b);
    report.median = times[times.length >> 1] ?? 0;
    report.slowest = times.at(-1) ?? 0;
    times = [];
    say(report);
  }, 200);
  process.stdin.on('end', () => {
    clearInterval(pace);
    clearInterval(tell);
    const end = (): void => {
      say(report);
      process.exit(0);
    };
    if (patience === undefined) setTimeout(end, 300);
    else {
      const isOver = () => Object.values(report.servers).reduce((sum, { answers }) => sum + answers, report.failed) >= report.sent;
      setInterval(() => isOver() && end(), 10);
    }
  });
  process.stdin.resume();
}

const [mode, ...args] = process.argv.slice(2);
const number = (text: string | undefined) => (text === undefined ? undefined : Number(text));
if (mode === 'echo') await echoAll(Number(args[0]), Number(args[1]), args[2] ?? '', number(args[3]));
else if (mode === 'hold') hold(Number(args[0]), args[1] ?? '', number(args[2]), number(args[3]));
else if (mode === 'load') load(Number(args[0]), args[1] ?? '', number(args[2]), number(args[3]));
