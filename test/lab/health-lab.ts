/** Servers on 127.0.0.1 and a checker for the tests of src/health; all are closed after each test. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, vi } from 'vitest';
import type { Check, CheckResult, Target } from '../../src/health/check.ts';
import { type Change, HealthChecker } from '../../src/health/checker.ts';
import { native } from '../../src/io/native.ts';
import { freePort } from './free-port.ts';

export const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A real server on 127.0.0.1, or on `host`. */
export async function listen(host = '127.0.0.1', port = 0): Promise<Server> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}); // checks end by RST
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, host, resolve));
  // Not at the mercy of who is connected: nothing is read here, so that a FIN behind data is never met.
  closers.push(() => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    return closed;
  });
  return server;
}

export const portOf = (server: Server) => (server.address() as AddressInfo).port;

/** A port of 127.0.0.1 on which nobody listens. */
export const closedPort = () => freePort();

/** A server that accepts nobody and whose backlog is full: the kernel drops further SYNs. No thread that would have to be stopped. */
export async function deafPort(): Promise<number> {
  const port = await closedPort();
  const fd = native().listenTcp('127.0.0.1', port, 1);
  closers.push(() => native().closeFd(fd));
  let open = 0;
  for (let i = 0; i < 8; i++) {
    const filler = connect(port, '127.0.0.1', () => open++);
    filler.on('error', () => {});
    closers.push(() => filler.destroy());
  }
  // It queues one more than its backlog (listen(2), sk_acceptq_is_full).
  await vi.waitFor(() => expect(open).toBeGreaterThanOrEqual(2));
  return port;
}

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Keeps this thread from everything else. */
export function beBusy(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until; );
}

export function target(port: number, more: Partial<Target> = {}): Target {
  return { id: 'a', address: '127.0.0.1', port, intervalMs: 20, jitter: 0.1, timeoutMs: 10_000, rise: 1, fall: 1, ...more };
}

export function checker(check?: (t: Target) => Check, heard: () => number = () => 0) {
  const changes: Change[] = [];
  const warn = vi.fn();
  const infos: [object, string][] = [];
  const health = new HealthChecker({
    onChange: (change) => changes.push(change),
    log: { warn, info: (fields, message) => infos.push([fields, message]) },
    heard,
    ...(check === undefined ? {} : { check }),
  });
  closers.push(() => health.stop());
  return { health, changes, warn, infos, told: () => changes.map(({ target: { id }, from, to }) => `${id} ${from}>${to}`) };
}

/** A check that answers from a list, its last entry for ever. */
export function scripted(...outcomes: CheckResult['outcome'][]) {
  let runs = 0;
  const check = (): Check => ({
    run: async () => {
      const outcome = outcomes[Math.min(runs++, outcomes.length - 1)];
      return { outcome, reason: outcome === 'unknown' ? 'no port' : `${outcome} ${runs}` };
    },
  });
  return { check, runs: () => runs };
}

/** What keeps this process alive, sockets, connects and processes; vitest's own timers come and go. */
export function handles(): string[] {
  return process
    .getActiveResourcesInfo()
    .filter((name) => /^(TCP|Process)/.test(name))
    .sort();
}

/** Runs `task` while this process may open no further file. */
export async function withoutDescriptors<T>(task: () => Promise<T>): Promise<T> {
  const limit = (soft: string) => execFileSync('prlimit', ['--pid', String(process.pid), `--nofile=${soft}:`]);
  const before = execFileSync('prlimit', ['--pid', String(process.pid), '--nofile', '--output=SOFT', '--noheadings'], { encoding: 'utf8' });
  const taken: number[] = [];
  limit(String(Math.max(...readdirSync('/proc/self/fd').map(Number)) + 50));
  try {
    expect(() => {
      for (;;) taken.push(openSync('/dev/null', 'r'));
    }).toThrow('EMFILE');
    return await task();
  } finally {
    for (const fd of taken) closeSync(fd);
    limit(before.trim());
  }
}
