/**
 * Processes that share a port, and those who call it:
 *
 *     fan serve PORT [ADDRESS]                answers each connection with its port
 *     fan call                                for each line of its input, ADDRESS PORT COUNT [SOURCE], as many connections, each from an address
 *                                             of its own, from SOURCE on; prints who answered how many
 *     fan load ADDRESS PORT SOURCE            one connection after the other until its standard input ends; prints the same
 */
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

/** What is printed. */
export interface Answered {
  /** By the port of the process. */
  readonly by: Readonly<Record<string, number>>;
  /** By the error. */
  readonly failed: Readonly<Record<string, number>>;
}

const AT_A_TIME = 100;

function serve(port: number, address: string): void {
  // Half open: a client that resets must not make this one wait in FIN_WAIT.
  const server = createServer((socket) => socket.on('error', () => {}).end(`${port}\n`));
  server.listen({ port, host: address, backlog: 4096 }, () => console.log(`listening at ${port}`));
}

/** The `i`-th address from `first` on: the last two bytes of IPv4, the last word of IPv6. */
function addressFrom(first: string, i: number): string {
  if (first.includes(':')) return `${first}${(i + 1).toString(16)}`;
  const [a, b] = first.split('.');
  return `${a}.${b}.${1 + (i >> 7)}.${1 + (i & 127)}`;
}

class Tally implements Answered {
  readonly by: Record<string, number> = {};
  readonly failed: Record<string, number> = {};

  /** Resolves when it is over, however. */
  call(host: string, port: number, localAddress: string | undefined): Promise<void> {
    return new Promise((resolve) => {
      const socket = connect({ host, port, ...(localAddress !== undefined && { localAddress }) });
      const end = (counts: Record<string, number>, what: string) => {
        counts[what] = (counts[what] ?? 0) + 1;
        socket.removeAllListeners().on('error', () => {});
        // No TIME_WAIT: there are tens of thousands.
        socket.resetAndDestroy();
        resolve();
      };
      socket.once('data', (answer) => end(this.by, String(answer).trim()));
      socket.once('end', () => end(this.failed, 'closed'));
      socket.once('error', (error: NodeJS.ErrnoException) => end(this.failed, error.code ?? error.message));
    });
  }
}

async function call(host: string, port: number, count: number, source: string | undefined): Promise<Answered> {
  const tally = new Tally();
  let next = 0;
  const one = async () => {
    while (next < count) {
      const i = next++;
      await tally.call(host, port, source === undefined ? undefined : addressFrom(source, i));
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, one));
  return tally;
}

async function calls(): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    const [host = '', port, count, source] = line.split(' ');
    console.log(JSON.stringify(await call(host, Number(port), Number(count), source)));
  }
}

async function load(host: string, port: number, source: string): Promise<void> {
  const tally = new Tally();
  let isOver = false;
  process.stdin.on('end', () => (isOver = true)).resume();
  console.log('calling');
  for (let i = 0; !isOver; i++) {
    const sources = Array.from({ length: 8 }, (_, k) => addressFrom(source, (8 * i + k) % 8000));
    await Promise.all(sources.map((from) => tally.call(host, port, from)));
  }
  console.log(JSON.stringify(tally));
  process.exit();
}

const [verb, ...args] = process.argv.slice(2);
const [first = '', second = '', third] = args;
if (verb === 'serve') serve(Number(first), second || '::');
else if (verb === 'call') await calls();
else if (verb === 'load') await load(first, Number(second), third ?? '');
