/** What doctor reads from a lb4 that runs. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import type { Host } from '../../src/doctor/finding.ts';
import { running } from '../../src/doctor/running.ts';

/** The findings, one line each, where /stats says so; without a document, nobody listens. */
async function findings(lb4: object | undefined, mode = 'passthrough'): Promise<string[]> {
  const server = createServer((_request, response) => response.end(JSON.stringify({ lb4 })));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const stop = () => new Promise<void>((resolve) => server.close(() => resolve()));
  try {
    if (lb4 === undefined) await stop();
    const listen = { text: `127.0.0.1:${port}`, ip: '127.0.0.1', port };
    const found = await running({
      mode,
      config: { file: 'f', stats: { listen }, backends: [{ name: 'web', dsr: 'gue' }] },
    } as unknown as Host);
    return found.map(({ level, check, message }) => `${level} ${check}: ${message}`);
  } finally {
    if (lb4 !== undefined) await stop();
  }
}

test('what it lacks on this host fails, with the reason; what it has says nothing', async () => {
  const host = [
    { what: 'rules', missing: [] },
    { what: 'frames', missing: ['-d 192.0.2.1/32', 'b', 'c'], reason: 'its packet socket is deaf' },
  ];
  expect(await findings({ host })).toEqual([
    'fail running: lb4 runs and lacks frames: -d 192.0.2.1/32 and 2 more: its packet socket is deaf',
  ]);
});

test('silent servers and silent frontends fail', async () => {
  const servers = { app: { '192.0.2.9:80': { name: 's1', silent: true }, '192.0.2.8:80': { name: 's2', silent: false } } };
  expect(await findings({ servers, silent_frontends: ['web'] })).toEqual([
    expect.stringMatching(/^fail silence: app \/ s1 \(192\.0\.2\.9:80\) passes its health checks, yet/),
    expect.stringMatching(/^fail silence: frontend web: its servers answer others, yet none of its connections/),
  ]);
});

test('packets that did not fit a tunnel are a warning, and none where there is no tunnel', async () => {
  expect(await findings({ verdicts: { tooBig: 7 } }, 'dsr')).toEqual([
    expect.stringMatching(/^warn MSS: lb4 has sent back 7 packets that do not fit a tunnel \(tooBig\): a server of backend web, /),
  ]);
  expect(await findings({ verdicts: { tooBig: 0 } }, 'dsr')).toEqual([]);
  expect(await findings({ verdicts: { tooBig: 7 } })).toEqual([]);
});

test('nobody runs, or it is well: nothing to say', async () => {
  expect(await findings(undefined)).toEqual([]);
  expect(await findings({})).toEqual([]);
});

test('without a statistics port it says that it cannot look', async () => {
  const found = await running({ mode: 'passthrough', config: { file: 'lb4.toml' } } as Host);
  expect(found).toMatchObject([{ level: 'warn', check: 'running', message: expect.stringMatching(/^no \[stats\]: /) as string }]);
});
