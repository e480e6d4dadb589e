/** What is wrong with Convey's health checks, a test a defect; and many servers at once. */
import { createServer } from 'node:net';
import { describe, expect, test, vi } from 'vitest';
import type { CheckSettings } from '../../src/health/check.ts';
import { checkFor } from '../../src/health/check-for.ts';
import { Semaphore } from '../../src/health/semaphore.ts';
import { CHECK_PORTS } from '../../src/layout/ports.ts';
import { freePort } from '../lab/free-port.ts';
import { checker, closedPort, deafPort, listen, portOf, sleep, target, withoutDescriptors } from '../lab/health-lab.ts';

const HTTP: CheckSettings = { type: 'http', path: '/', status: [[200, 399]], host: undefined };

describe("Convey's defect", () => {
  test('checks run one after another: here a server that hangs holds up no other, whatever its check', async () => {
    const mute = portOf(await listen()); // takes connections, says nothing
    const [good, deaf] = [portOf(await listen()), await deafPort()];
    const { health } = checker();
    const hang = { timeoutMs: 60_000 };
    health.set([
      target(deaf, { id: 'tcp hangs', ...hang }),
      target(mute, { id: 'http hangs', check: HTTP, ...hang }),
      target(mute, { id: 'exec hangs', check: { type: 'exec', command: ['sleep', '300'], env: {} }, ...hang }),
      target(good, { id: 'good' }),
      target(await closedPort(), { id: 'bad' }),
    ]);
    await vi.waitFor(() => expect([health.state('good'), health.state('bad')]).toEqual(['up', 'down']));
    expect(['tcp hangs', 'http hangs', 'exec hangs'].map((id) => health.state(id))).toEqual(['unknown', 'unknown', 'unknown']);
  });

  test('success is reported when no local port is free: here nothing is known, and no server changes its state', async () => {
    const [good, bad] = [portOf(await listen()), await closedPort()];
    const { health, changes, warn } = checker();
    for (let port: number = CHECK_PORTS.first; port <= CHECK_PORTS.last; port++) await listen('127.0.0.11', port);
    const from = { sourceAddress: '127.0.0.11' };
    health.set([target(good, { id: 'tcp', ...from }), target(bad, { id: 'http', check: HTTP, ...from })]);
    await vi.waitFor(() => expect(['tcp', 'http'].map((id) => health.describe(id)?.lastReason)).not.toContain(''));
    expect(warn).toHaveBeenCalledTimes(1);
    expect(['tcp', 'http'].map((id) => health.state(id))).toEqual(['unknown', 'unknown']);
    expect(changes).toEqual([]);
    expect(health.describe('tcp')).toMatchObject({ state: 'unknown', failures: 0, lastReason: 'no free local port on 127.0.0.11' });
  });

  test('the first result comes only after an interval: here the first check begins at once and decides alone', async () => {
    const { health } = checker();
    const slow = { intervalMs: 3_600_000, rise: 5, fall: 5 };
    health.set([target(portOf(await listen()), { id: 'good', ...slow }), target(await closedPort(), { id: 'bad', ...slow })]);
    await vi.waitFor(() => expect([health.state('good'), health.state('bad')]).toEqual(['up', 'down']));
  });
});

describe('many servers', () => {
  test('a thousand get their first result from real connections', async () => {
    let most = 0;
    // None of those that other tests take all of, each on an address of its own.
    const port = await freePort('0.0.0.0');
    const server = createServer((socket) => socket.on('error', () => {}));
    await new Promise<void>((resolve) => server.listen({ port, host: '0.0.0.0', backlog: 4096 }, resolve));
    const { health, changes, warn } = checker();
    const watcher = setInterval(() => (most = Math.max(most, openConnections())), 1);
    const targets = Array.from({ length: 1000 }, (_, i) =>
      target(portOf(server), {
        id: `s${i}`,
        address: `127.9.${i >> 8}.${i & 255}`,
        sourceAddress: '127.0.0.12',
        intervalMs: 60_000,
        timeoutMs: 10_000,
      }),
    );
    health.set(targets);
    await vi.waitFor(() => expect(changes).toHaveLength(1000));
    clearInterval(watcher);
    health.stop();
    await new Promise((resolve) => server.close(resolve));
    expect(changes.every(({ to }) => to === 'up')).toBe(true);
    expect(warn).not.toHaveBeenCalled();
    expect(most).toBeLessThanOrEqual(512);
  });

  test.each([
    [512, undefined],
    [64, { type: 'exec', command: ['true'], env: {} }],
  ] as const)('no more than %i checks run at a time; the others wait their turn', async (limit, check) => {
    let [running, most] = [0, 0];
    const { health, changes } = checker(() => ({
      run: async () => {
        most = Math.max(most, ++running);
        await sleep(5);
        running--;
        return { outcome: 'pass', reason: '' };
      },
    }));
    health.set(Array.from({ length: 1100 }, (_, i) => target(1, { id: `s${i}`, intervalMs: 60_000, check })));
    await vi.waitFor(() => expect(changes).toHaveLength(1100));
    expect(most).toBe(limit);
  });

  test('without a file descriptor to spare nothing is known, whatever the check', async () => {
    const server = await listen();
    const end = { ...target(portOf(server)), timeoutMs: 500 };
    const kinds: CheckSettings[] = [{ type: 'tcp' }, HTTP, { type: 'exec', command: ['true'], env: {} }];
    const results = await withoutDescriptors(() =>
      Promise.all(kinds.map((check) => checkFor({ ...end, check }).run(new AbortController().signal))),
    );
    expect(results.map(({ outcome }) => outcome)).toEqual(['unknown', 'unknown', 'unknown']);
    expect(results.every(({ reason }) => reason.includes('EMFILE'))).toBe(true);
    expect((await checkFor(end).run(new AbortController().signal)).outcome).toBe('pass');
  });

  test('a place at a semaphore is handed on after a failure, too', async () => {
    const semaphore = new Semaphore(1);
    const order: number[] = [];
    const tasks = [1, 2, 3].map((i) =>
      semaphore.pass(async () => {
        order.push(i);
        if (i === 1) throw new Error('no');
        return i;
      }),
    );
    expect(await Promise.allSettled(tasks)).toEqual([
      { status: 'rejected', reason: new Error('no') },
      { status: 'fulfilled', value: 2 },
      { status: 'fulfilled', value: 3 },
    ]);
    expect(order).toEqual([1, 2, 3]);
  });

  test('stop ends those that run and those that wait', async () => {
    const before = openConnections();
    const { health, changes } = checker();
    const deaf = await deafPort();
    const source = { sourceAddress: '127.0.0.13', timeoutMs: 60_000 };
    health.set(Array.from({ length: 900 }, (_, i) => target(deaf, { id: `s${i}`, ...source })));
    await sleep(100);
    expect(openConnections()).toBeGreaterThan(before + 100);
    health.stop();
    await vi.waitFor(() => expect(openConnections()).toBeLessThanOrEqual(before + 8)); // deafPort's own
    expect(changes).toEqual([]);
  });
});

/** Client connections of this process, standing or begun. */
function openConnections(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap' || name === 'TCPConnectWrap').length;
}
