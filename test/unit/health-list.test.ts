/** Several kinds of check of one server: all must pass. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test, vi } from 'vitest';
import { allOf, partsOf } from '../../src/health/all.ts';
import type { CheckResult, CheckSettings } from '../../src/health/check.ts';
import { checker, closers, target } from '../lab/health-lab.ts';

const HTTP: CheckSettings = { type: 'http', path: '/', status: [[200, 200]], host: undefined };
const UDP: CheckSettings = { type: 'udp', send: Buffer.alloc(0), expect: undefined };

const pass = (reason: string): CheckResult => ({ outcome: 'pass', reason });
const fail = (reason: string): CheckResult => ({ outcome: 'fail', reason });
const unknown = (reason: string): CheckResult => ({ outcome: 'unknown', reason });

test.each<[string, CheckResult[], string, string]>([
  ['all pass', [pass('a'), pass('b'), pass('c')], 'pass', 'tcp: a; http: b; udp: c'],
  ['one fails', [pass('a'), fail('HTTP 500'), pass('c')], 'fail', 'http: HTTP 500'],
  ['several fail', [fail('refused'), fail('refused'), pass('c')], 'fail', 'tcp: refused; http: refused'],
  ['one could not be made', [pass('a'), unknown('no port'), pass('c')], 'unknown', 'http: no port'],
  ['one fails though another could not be made', [unknown('no port'), pass('b'), fail('silent')], 'fail', 'udp: silent'],
])('%s', (_, results, outcome, reason) => {
  const parts = partsOf(target(80, { check: { type: 'tcp' }, also: [HTTP, UDP] }));
  expect(allOf(parts, results)).toMatchObject({ outcome, reason });
});

test('one kind alone says what it says', () => {
  const [one, ...more] = partsOf(target(80));
  expect([more, allOf([one], [fail('refused')])]).toEqual([[], fail('refused')]);
});

test('a server that accepts, and answers badly, is down until it answers well; without a list it was up', async () => {
  let status = 500;
  const server = createServer((_request, response) => response.writeHead(status).end()).listen(0, '127.0.0.1');
  closers.push(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const web = target((server.address() as AddressInfo).port, { check: { type: 'tcp' } });
  const { health, changes, told } = checker();
  health.set([web]);
  await vi.waitFor(() => expect(told()).toEqual(['a unknown>up']));
  health.set([{ ...web, also: [HTTP] }]);
  await vi.waitFor(() => expect(changes.at(-1)).toMatchObject({ to: 'down', reason: 'http: HTTP 500' }));
  expect(health.describe('a')?.lastReason).toBe('http: HTTP 500');
  status = 200;
  await vi.waitFor(() =>
    expect(changes.at(-1)).toMatchObject({ to: 'up', reason: expect.stringMatching(/^tcp: connected in .*; http: HTTP 200 in /) }),
  );
});
