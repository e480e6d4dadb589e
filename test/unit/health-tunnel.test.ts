/** What becomes of an echo request by a tunnel, whose sending is stood in for; test/netns/glb.test.ts sends real ones. */
import { expect, test } from 'vitest';
import { tunnelCheck } from '../../src/health/tunnel.ts';
import { target } from '../lab/health-lab.ts';

type Echoed = Awaited<ReturnType<Parameters<typeof tunnelCheck>[2]>>;

function error(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}

const TOLD = 'is the script of "lb4 rules --dsr --for 127.0.0.1" installed there? sh FILE status tells';

test.each<[string, Echoed, { outcome: string; reason: string }]>([
  ['an answer', { end: 'answered', ms: 1.25 }, { outcome: 'pass', reason: 'answered by its tunnel in 1.3 ms' }],
  [
    'silence',
    { end: 'silent', error: undefined },
    { outcome: 'fail', reason: `no answer by its tunnel (UDP port 6080) in 3000 ms: ${TOLD}` },
  ],
  [
    'a closed port',
    { end: 'silent', error: error('ECONNREFUSED') },
    { outcome: 'fail', reason: `it unwraps nothing at UDP port 6080: ${TOLD}` },
  ],
  [
    'no way to it',
    { end: 'silent', error: error('EHOSTUNREACH') },
    { outcome: 'fail', reason: 'no route to host: it answers no ARP, or a route or firewall says unreachable' },
  ],
  [
    'an answer that this host may have lost',
    { end: 'unheard' },
    { outcome: 'unknown', reason: 'this host had no room for all answers to checks by tunnels' },
  ],
  ['no room for it here', { end: 'unsent', error: error('ENOBUFS') }, { outcome: 'unknown', reason: 'this host has no buffer space' }],
])('%s', async (_, echoed, result) => {
  const asked: unknown[] = [];
  const echo = (to: unknown) => {
    asked.push(to);
    return Promise.resolve(echoed);
  };
  const check = tunnelCheck(target(80, { timeoutMs: 3000 }), { type: 'gue', port: 6080, source: undefined }, echo);
  expect(await check.run(new AbortController().signal)).toEqual(result);
  expect(asked).toEqual([{ server: '127.0.0.1', port: 6080 }]);
});

test('of IP in IP there is no port to tell', async () => {
  const echo = () => Promise.resolve({ end: 'silent' as const, error: undefined });
  const check = tunnelCheck(target(80, { timeoutMs: 3000 }), { type: 'ipip', port: 0, source: undefined }, echo);
  expect((await check.run(new AbortController().signal)).reason).toBe(`no answer by its tunnel (IP in IP) in 3000 ms: ${TOLD}`);
});
