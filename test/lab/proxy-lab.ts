/** Real clients, servers and a running proxy for the proxy's tests. Everything made here is gone after each test. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket, type SocketConstructorOpts } from 'node:net';
import { afterEach, expect } from 'vitest';
import { type Candidate, prepare, type SchedulerName } from '../../src/balance/index.ts';
import type { BackendPlan, FrontendPlan, ProxyPlan, ServerPlan } from '../../src/proxy/plan.ts';
import type * as ProxyModule from '../../src/proxy/proxy.ts';
import { freePort } from './free-port.ts';
import { pause, waitUntil } from './wait.ts';

/** Compiled by proxy-setup.ts. */
const built = new URL('../../dist/src/proxy/proxy.js', import.meta.url).href;
export const { Proxy } = (await import(built)) as typeof ProxyModule;
export type Proxy = ProxyModule.Proxy;

const closers: (() => unknown)[] = [];
/** Run after the test, last first. */
export const cleanUp = (close: () => unknown) => closers.push(close);

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

export interface Backend {
  readonly port: number;
  readonly host: string;
  /** Live and past connections, in order. */
  readonly sockets: Socket[];
  /** Stops listening and resets what is connected. */
  close(): Promise<void>;
}

/** A server; `serve` has each connection, by default everything is echoed. */
export async function serve(onConnection: (socket: Socket) => void = echo, host = '127.0.0.1'): Promise<Backend> {
  const sockets: Socket[] = [];
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  server.listen(0, host);
  await once(server, 'listening');
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  };
  cleanUp(close);
  return { port: (server.address() as AddressInfo).port, host, sockets, close };
}

export const echo = (socket: Socket) => void socket.pipe(socket);
/** Answers with its name and hangs up. */
export const named = (name: string) => (socket: Socket) => {
  socket.end(name);
  socket.resume();
};
export const silent = (socket: Socket) => void socket.resume();

export interface Client {
  readonly socket: Socket;
  /** All that was received so far. */
  text(): string;
  /** How it ended: `end` FIN, `reset` RST; undefined so far not. */
  ended(): 'end' | 'reset' | undefined;
  /** Resolves with {@link ended}. */
  readonly end: Promise<'end' | 'reset'>;
}

/** A client that is connected, or was reset at once, and that reads all it gets. `quiet`: it does not. */
export async function client(port: number, host = '127.0.0.1', options: SocketConstructorOpts & { quiet?: boolean } = {}): Promise<Client> {
  const socket = connect({ port, host, noDelay: true, allowHalfOpen: true, ...options });
  cleanUp(() => socket.destroy());
  let text = '';
  let how: 'end' | 'reset' | undefined;
  const end = new Promise<'end' | 'reset'>((resolve) => {
    socket.on('error', () => resolve((how ??= 'reset'))).on('end', () => resolve((how ??= 'end')));
  });
  const isRefused = (error: NodeJS.ErrnoException) => error.code !== 'ECONNRESET';
  await new Promise((resolve, reject) => {
    socket.once('connect', resolve).once('error', (error) => (isRefused(error) ? reject(error) : resolve(undefined)));
  });
  if (options.quiet !== true) socket.on('data', (chunk) => (text += chunk.toString('latin1')));
  return { socket, text: () => text, ended: () => how, end };
}

/** Connects, sends, half-closes, and returns all that came back until the end. */
export async function ask(port: number, request: string | Buffer = '', host?: string): Promise<string> {
  const one = await client(port, host);
  one.socket.end(request);
  const how = await one.end;
  expect(how).toBe('end');
  return one.text();
}

export interface World {
  readonly servers: readonly Backend[];
  readonly scheduler?: SchedulerName;
  readonly frontend?: Partial<FrontendPlan>;
  readonly backend?: Partial<BackendPlan>;
  /** Each server's. */
  readonly maxconn?: number;
  /** Of the servers in their order; 1 where left out. */
  readonly weights?: readonly number[];
  /** Positions of `servers` that may not be chosen. */
  readonly without?: readonly number[];
}

/** A plan of one frontend, index 3, and one backend whose servers have the indexes 10, 11 … Times that a busy machine does not run out of. */
export function planOf(
  port: number,
  { servers, scheduler = 'roundrobin', frontend, backend, maxconn = 0, weights = [], without = [] }: World,
): ProxyPlan {
  const plans: ServerPlan[] = servers.map(({ host, port }, i) => ({ index: 10 + i, name: `s${i}`, host, port, maxconn }));
  const candidates: Candidate[] = plans
    .map(({ index, host, port }, i) => ({ name: `${host}:${port}`, weight: weights[i] ?? 1, index, maxconn }))
    .filter((_, i) => !without.includes(i));
  return {
    frontends: [
      {
        index: 3,
        name: 'web',
        host: '127.0.0.1',
        port,
        backend: 'pool',
        maxconn: 0,
        acceptProxy: false,
        clientTimeoutMs: 30_000,
        draining: false,
        ...frontend,
      },
    ],
    backends: [
      {
        name: 'pool',
        choice: prepare(scheduler, candidates),
        servers: plans,
        sendProxy: undefined,
        connectTimeoutMs: 30_000,
        serverTimeoutMs: 30_000,
        retries: 3,
        maxQueue: 100,
        queueTimeoutMs: 30_000,
        ...backend,
      },
    ],
  };
}

export interface Running {
  readonly proxy: Proxy;
  readonly port: number;
  readonly signals: { server: number; reason: string }[];
  readonly warnings: { fields: Record<string, unknown>; message: string }[];
  readonly failures: Error[];
}

/** Starts a proxy on a free port; after the test it is stopped and must have leaked nothing. */
export async function run(world: World, workers = 1): Promise<Running> {
  const host = world.frontend?.host ?? '127.0.0.1';
  const port = world.frontend?.port ?? (await freePort(host));
  const signals: Running['signals'] = [];
  const warnings: Running['warnings'] = [];
  const failures: Error[] = [];
  const proxy = await Proxy.start({
    plan: planOf(port, world),
    workers,
    signal: (server, reason) => signals.push({ server, reason }),
    failed: (error) => failures.push(error),
    log: { warn: (fields, message) => warnings.push({ fields: fields as Record<string, unknown>, message }) },
  });
  cleanUp(async () => {
    await proxy.stop(0);
    expect(failures).toEqual([]);
    expect(gauges(proxy)).toEqual({ frontend: 0, accepted: 0, loads: 0, currents: 0 });
  });
  return { proxy, port, signals, warnings, failures };
}

/** What must be 0 when nothing is connected. */
export function gauges(proxy: Proxy) {
  const servers = Array.from({ length: 10 }, (_, i) => proxy.server(10 + i));
  const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
  return {
    frontend: proxy.frontend(3).current,
    accepted: proxy.frontend(3).load,
    loads: sum(servers.map(({ load }) => load)),
    currents: sum(servers.map(({ current }) => current)),
  };
}

/** Waits until nothing is connected any more, by the proxy's own account; and not until {@link planOf}'s timeouts have ended what hangs. */
export async function idle(proxy: Proxy): Promise<void> {
  await waitUntil(() => Object.values(gauges(proxy)).every((n) => n === 0), { what: 'all gauges at 0', timeout: 20_000 });
}

export { freePort, pause, waitUntil };
