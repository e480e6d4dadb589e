import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import type { CheckSettings, Target } from '../../src/health/check.ts';
import { HealthChecker } from '../../src/health/checker.ts';
import { PortRotation } from '../../src/health/ports.ts';
import { tcpCheck } from '../../src/health/tcp.ts';
import { CHECK_PORTS } from '../../src/layout/ports.ts';
import { beBusy, checker, closedPort, closers, deafPort, handles, listen, portOf, scripted, sleep, target } from '../lab/health-lab.ts';

/** What `ss` says of IPv4 TCP sockets in any state that match `filter`. */
const sockets4 = (filter: string) => execFileSync('ss', ['-4Htan', ...filter.split(' ')], { encoding: 'utf8' });

const run = (t: Target, ports?: PortRotation) => tcpCheck(t, ports).run(new AbortController().signal);

describe('a TCP check', () => {
  test('passes when somebody listens', async () => {
    const result = await run(target(portOf(await listen())));
    expect(result).toEqual({ outcome: 'pass', reason: expect.stringMatching(/^connected in [\d.]+ ms$/) as string });
  });

  test('fails when nobody does', async () => {
    expect(await run(target(await closedPort()))).toEqual({ outcome: 'fail', reason: 'connection refused' });
  });

  test('fails after its timeout when nothing answers', async () => {
    const result = await run(target(await deafPort(), { timeoutMs: 200 }));
    expect(result).toEqual({ outcome: 'fail', reason: 'no answer in 200 ms' });
  });

  test('leaves from the source address and a port in 32768–33767', async () => {
    const port = await deafPort(); // a check waits there long enough to be looked at
    const more = { sourceAddress: '127.0.0.3', timeoutMs: 500 };
    const checks = Array.from({ length: 20 }, () => run(target(port, more)));
    await sleep(100);
    const sockets = sockets4(`state syn-sent src 127.0.0.3 and dport = :${port}`);
    await Promise.all(checks);
    const ports = [...sockets.matchAll(/127\.0\.0\.3:(\d+)/g)].map((match) => Number(match[1]));
    expect(new Set(ports).size).toBe(20);
    expect(Math.min(...ports)).toBeGreaterThanOrEqual(32768);
    expect(Math.max(...ports)).toBeLessThanOrEqual(33767);
  });

  test('leaves no TIME_WAIT: one port serves a hundred checks in a row', async () => {
    const server = await listen();
    const [port, only] = [portOf(server), new PortRotation(33000, 33000)];
    for (let i = 0; i < 100; i++) {
      expect((await run(target(port, { sourceAddress: '127.0.0.4' }), only)).outcome).toBe('pass');
    }
    expect(sockets4(`src 127.0.0.4 and dport = :${port}`)).toBe('');
  });

  test('takes another port when one is in use', async () => {
    await listen('127.0.0.5', 33100);
    const server = await listen();
    const result = await run(target(portOf(server), { sourceAddress: '127.0.0.5' }), new PortRotation(33100, 33101));
    expect(result.outcome).toBe('pass');
  });

  test('without a free local port knows nothing: a thousand listeners hold them all', async () => {
    for (let port: number = CHECK_PORTS.first; port <= CHECK_PORTS.last; port++) await listen('127.0.0.6', port);
    for (const port of [portOf(await listen()), await closedPort()]) {
      const result = await run(target(port, { sourceAddress: '127.0.0.6' }));
      expect(result).toEqual({ outcome: 'unknown', reason: 'no free local port on 127.0.0.6' });
    }
  });

  test('from an address that is not ours knows nothing', async () => {
    const result = await run(target(portOf(await listen()), { sourceAddress: '198.51.100.1' }));
    expect(result).toEqual({ outcome: 'unknown', reason: '198.51.100.1 is no address of this host' });
  });

  test('from an address that is not ours goes on with the next, which finds the server alive or dead', async () => {
    const from = { sourceAddress: '198.51.100.1', otherSources: ['198.51.100.2', '127.0.0.14'] };
    expect((await run(target(portOf(await listen()), from))).outcome).toBe('pass');
    expect(await run(target(await closedPort(), from))).toEqual({ outcome: 'fail', reason: 'connection refused' });
    const nowhere = { ...from, otherSources: ['198.51.100.2'] };
    expect((await run(target(await closedPort(), nowhere))).reason).toBe('198.51.100.1 is no address of this host');
  });

  test('passes where the answer came in time, though lb4 itself had no time to look until it was over', async () => {
    const checked = run(target(portOf(await listen()), { timeoutMs: 100 }));
    beBusy(200);
    expect((await checked).outcome).toBe('pass');
  });

  test('ends at once when it is stopped', async () => {
    const port = await deafPort();
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 30);
    const result = await tcpCheck(target(port, { timeoutMs: 5000 })).run(abort.signal);
    // At its timeout it would have failed.
    expect(result.outcome).toBe('unknown');
    expect((await tcpCheck(target(port)).run(abort.signal)).outcome).toBe('unknown');
  });
});

describe('the port rotation', () => {
  test('gives every port once a turn', () => {
    const rotation = new PortRotation();
    const turn = Array.from({ length: rotation.size }, () => rotation.next()).sort();
    expect(turn).toEqual(Array.from({ length: 1000 }, (_, i) => 32768 + i));
  });

  test('starts anywhere', () => {
    const starts = new Set(Array.from({ length: 20 }, () => new PortRotation().next()));
    expect(starts.size).toBeGreaterThan(5);
  });
});

describe('the checker', () => {
  test('decides by the first check, and follows a server that goes and comes', async () => {
    const port = await closedPort();
    const server = await listen('127.0.0.1', port);
    const { health, told, changes } = checker();
    health.set([target(port)]);
    expect(health.state('a')).toBe('unknown');
    await vi.waitFor(() => expect(health.state('a')).toBe('up'));
    await new Promise((resolve) => server.close(resolve));
    await vi.waitFor(() => expect(health.state('a')).toBe('down'));
    await listen('127.0.0.1', port);
    await vi.waitFor(() => expect(health.state('a')).toBe('up'));
    expect(told()).toEqual(['a unknown>up', 'a up>down', 'a down>up']);
    // Reset, where a check was under way when the listener closed.
    expect(changes[1]?.reason).toMatch(/^connection (refused|reset)$/);
  });

  test('a failure elsewhere than the server serves says where', async () => {
    const { health, changes } = checker();
    health.set([target(await closedPort(), { serverPort: 80, asked: 'at port 8080' })]);
    await vi.waitFor(() => expect(changes[0]?.reason).toBe('connection refused, at port 8080'));
  });

  test('needs rise and fall in a row', async () => {
    const results = scripted('pass', 'fail', 'fail', 'pass', 'fail', 'fail', 'fail', 'pass', 'fail', 'pass', 'pass');
    const { health, told, changes } = checker(results.check);
    health.set([target(1, { intervalMs: 2, rise: 2, fall: 3 })]);
    await vi.waitFor(() => expect(results.runs()).toBeGreaterThan(12));
    expect(told()).toEqual(['a unknown>up', 'a up>down', 'a down>up']);
    expect(changes.map(({ reason }) => reason)).toEqual(['pass 1', 'fail 7', 'pass 11']);
  });

  test('an unknown result neither counts nor breaks a row, and is logged once', async () => {
    const results = scripted('unknown', 'unknown', 'pass', 'fail', 'unknown', 'fail', 'pass');
    const { health, told, warn } = checker(results.check);
    health.set([target(1, { intervalMs: 2, fall: 2, rise: 9999 })]);
    await vi.waitFor(() => expect(results.runs()).toBeGreaterThan(8));
    expect(told()).toEqual(['a unknown>up', 'a up>down']);
    expect(warn).toHaveBeenCalledTimes(2);
  });

  test('checks all servers at once', async () => {
    const port = await deafPort();
    const { health, changes } = checker();
    const started = performance.now();
    health.set(Array.from({ length: 50 }, (_, i) => target(port, { id: `s${i}`, timeoutMs: 200, sourceAddress: '127.0.0.7' })));
    await vi.waitFor(() => expect(changes).toHaveLength(50));
    // One after the other takes ten seconds.
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  test('set is idempotent, keeps the state of what stays, and forgets what goes', async () => {
    const port = portOf(await listen());
    const { health, told } = checker();
    const [a, b] = [target(port), target(port, { id: 'b' })];
    health.set([a, b]);
    health.set([a, b]);
    await vi.waitFor(() => expect(told().sort()).toEqual(['a unknown>up', 'b unknown>up']));
    health.set([{ ...a, intervalMs: 10, fall: 3 }]);
    expect(health.state('a')).toBe('up');
    expect(health.state('b')).toBe('unknown');
    await sleep(60);
    expect(told()).toHaveLength(2);
    // Looked at from elsewhere it is the same server.
    health.set([{ ...a, sourceAddress: '127.0.0.8' }]);
    expect(health.state('a')).toBe('up');
    health.set([{ ...a, port: await closedPort() }]);
    expect(health.state('a')).toBe('unknown');
    await vi.waitFor(() => expect(health.state('a')).toBe('down'));
  });

  test('another kind of check takes effect at once where one is under way, without the state being lost', async () => {
    const port = portOf(await listen()); // takes connections, says nothing
    const { health, told, changes } = checker();
    const http: CheckSettings = { type: 'http', path: '/', status: [[200, 299]], host: undefined };
    health.set([target(port, { intervalMs: 60_000 })]);
    await vi.waitFor(() => expect(health.state('a')).toBe('up'));
    health.set([target(port, { intervalMs: 5, check: http, timeoutMs: 100 })]);
    expect(health.state('a')).toBe('up');
    await vi.waitFor(() => expect(health.state('a')).toBe('down'));
    expect(changes[1]?.reason).toBe('no answer in 100 ms');
    health.set([target(port, { intervalMs: 5, check: http, timeoutMs: 300 })]);
    await sleep(50); // an HTTP check is under way
    health.set([target(port, { intervalMs: 5, check: { type: 'exec', command: ['true'], env: {} } })]);
    expect(health.state('a')).toBe('down');
    await vi.waitFor(() => expect(health.state('a')).toBe('up'));
    expect(told()).toEqual(['a unknown>up', 'a up>down', 'a down>up']);
    expect(changes[2]?.reason).toBe('exit 0');
  });

  test('what a check saw whose settings have changed meanwhile counts for nothing', async () => {
    const server = await listen();
    const { health, told } = checker();
    const directory = mkdtempSync(join(tmpdir(), 'lb4-health-'));
    closers.push(() => rmSync(directory, { recursive: true }));
    const [begun, go] = ['begun', 'go'].map((name) => join(directory, name)) as [string, string];
    const hangs = { type: 'exec', command: ['sh', '-c', `: >${begun}; until [ -e ${go} ]; do sleep 0.02; done; exit 1`], env: {} } as const;
    health.set([target(portOf(server), { check: hangs })]);
    await vi.waitFor(() => expect(existsSync(begun)).toBe(true));
    health.set([target(portOf(server))]);
    writeFileSync(go, '');
    await vi.waitFor(() => expect(health.state('a')).toBe('up'));
    expect(told()).toEqual(['a unknown>up']);
  });

  test('describes a server for statistics', async () => {
    const { health, changes } = checker(scripted('pass', 'fail', 'fail', 'pass', 'unknown').check);
    expect(health.describe('a')).toBeUndefined();
    expect(health.damped('a')).toBe(false);
    const began = Date.now();
    health.set([target(1, { intervalMs: 2, rise: 2 })]);
    expect(health.describe('a')).toMatchObject({ state: 'unknown', damped: false, failures: 0, changes: 0, lastReason: '' });
    await vi.waitFor(() => expect(health.describe('a')?.lastReason).toBe('no port'));
    expect(health.describe('a')).toMatchObject({ state: 'down', damped: false, failures: 2, changes: 2 });
    expect(health.describe('a')?.since).toBeGreaterThanOrEqual(began);
    expect(changes).toHaveLength(2);
  });

  test('a change may stop the checker that tells it', async () => {
    const results = scripted('pass');
    const health: HealthChecker = new HealthChecker({ onChange: () => health.stop(), check: results.check });
    health.set([target(1, { intervalMs: 1 })]);
    await sleep(50);
    expect(results.runs()).toBe(1);
  });

  test('a shorter interval counts from now on', async () => {
    const results = scripted('pass');
    const { health } = checker(results.check);
    health.set([target(1, { intervalMs: 60_000 })]);
    await vi.waitFor(() => expect(health.state('a')).toBe('up'));
    health.set([target(1, { intervalMs: 5 })]);
    await vi.waitFor(() => expect(results.runs()).toBeGreaterThan(3));
  });

  test('keeps to its interval within ten per cent', async () => {
    vi.useFakeTimers();
    try {
      const times: number[] = [];
      const { health } = checker(() => ({
        run: async () => {
          times.push(performance.now());
          return { outcome: 'pass', reason: '' };
        },
      }));
      health.set([target(1, { intervalMs: 1000 })]);
      await vi.advanceTimersByTimeAsync(60_000);
      health.stop();
      expect(times.length).toBeGreaterThan(50);
      const gaps = times.slice(1).map((time, i) => time - times[i]);
      expect(Math.min(...gaps)).toBeGreaterThanOrEqual(899);
      expect(Math.max(...gaps)).toBeLessThanOrEqual(1101);
      // Not all at the same moment: many servers are checked from here.
      expect(new Set(gaps).size).toBeGreaterThan(1);
    } finally {
      vi.useRealTimers();
    }
  });

  test('stop leaves no handle and tells nothing more', async () => {
    const port = await deafPort();
    const before = handles();
    const { health, changes } = checker();
    const more = { sourceAddress: '127.0.0.8', timeoutMs: 5000 };
    const targets = Array.from({ length: 20 }, (_, i) => target(port, { id: `s${i}`, ...more }));
    health.set(targets);
    health.set(targets.slice(10));
    await sleep(30);
    expect(handles()).not.toEqual(before);
    health.stop();
    // Fewer: an earlier test's may go meanwhile.
    await vi.waitFor(() => expect(handles().length).toBeLessThanOrEqual(before.length));
    expect(changes).toEqual([]);
  });
});
