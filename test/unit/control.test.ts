/** The control API: what it lets in, what it answers, and what of a configuration it shows. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { ask } from '../../src/cli/control-client.ts';
import { listText } from '../../src/cli/list.ts';
import { ratesBetween } from '../../src/cli/rates.ts';
import { whyText } from '../../src/cli/why.ts';
import { addressOf } from '../../src/config/address.ts';
import { keysInEffect } from '../../src/config/effective.ts';
import { parseConfig } from '../../src/config/load.ts';
import type { Control } from '../../src/config/model.ts';
import { MODES, type Mode } from '../../src/config/modes.ts';
import { renderKeys } from '../../src/config/written.ts';
import { apiOf } from '../../src/control/api.ts';
import { type CaptureWanted, type FlowFilter, OrderError, type Orders, type ServerOrder } from '../../src/control/orders.ts';
import { TokenGate, type WrongTokens } from '../../src/control/token.ts';
import { expand } from '../../src/discovery/expand.ts';
import type { Lb4Error } from '../../src/errors.ts';
import { createLogger } from '../../src/log.ts';
import { ControlPort } from '../../src/service/control-port.ts';
import { RuntimeSettings } from '../../src/service/runtime.ts';
import { backendOf, countersOf, frontendOf, serverOf, sourceOf, viewOf } from '../lab/control-world.ts';
import { PYTHON } from '../lab/processes.ts';
import { freePort } from '../lab/proxy-lab.ts';
import { waitUntil } from '../lab/wait.ts';

const directory = mkdtempSync(join(tmpdir(), 'lb4-control-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** What was ordered. */
const ordered: unknown[] = [];

const servers = [serverOf('a', 0, { set: { weight: 5 }, weight: 5 }), serverOf('b', 1, { state: 'down' })];
const orders: Orders = {
  source: sourceOf('passthrough', { frontends: [countersOf(30, 3, 50_000, 20)], servers: [countersOf(10, 1), countersOf(20, 2)] }),
  view: () =>
    viewOf({
      frontends: [frontendOf('web', 0, { address: '192.0.2.1:80', backend: 'app' })],
      backends: [backendOf('app', servers, { balance: 'maglev' })],
    }),
  about: () => ({ version: '1.2.3', pid: 7, mode: 'passthrough', file: '/etc/lb4.toml', uptime: 60, statistics: null }),
  set: async (server: string, order: ServerOrder) => {
    if (server === 'app/c') throw new OrderError('unknown', 'there is no server "app/c"');
    ordered.push([server, order]);
    return { server, set: null };
  },
  explain: () => [],
  trace: async (client: string, frontend: string) => {
    ordered.push([client, frontend]);
    return [];
  },
  flows: async (filter: FlowFilter, limit: number) => {
    ordered.push([filter, limit]);
    return { flows: [], more: false };
  },
  kill: async (filter: FlowFilter) => {
    ordered.push(filter);
    return { killed: 2, reset: 1 };
  },
  capture: async (wanted: CaptureWanted) => {
    ordered.push(wanted);
    throw new OrderError('refused', 'another capture runs');
  },
  reload: () => Promise.reject(new Error('two\nlines')),
  config: () => '',
};
const failures: string[] = [];
const failed = (error: Error) => void failures.push(error.message);
const api = apiOf({ orders, failed });

async function answer(request: string, body?: string): Promise<{ status: number; json: unknown }> {
  const [method, path = ''] = request.split(' ');
  const response = await api.request(path, { method, ...(body !== undefined && { body }) });
  return { status: response.status, json: await response.json() };
}

describe('the API', () => {
  test.each([
    ['POST /v1/server?server=app/a', '{"state":"drain"}', ['app/a', { state: 'drain', weight: undefined }]],
    ['POST /v1/server?server=app%2Fa', '{"weight":0,"state":"ready"}', ['app/a', { state: 'ready', weight: 0 }]],
    ['GET /v1/flows?client=192.0.2.0/24&limit=5', undefined, [{ client: '192.0.2.0/24' }, 5]],
    ['DELETE /v1/flows?frontend=web', undefined, { frontend: 'web' }],
    ['GET /v1/trace?client=192.0.2.7:4711&frontend=web', undefined, ['192.0.2.7:4711', 'web']],
  ])('%s %s', async (request, body, order) => {
    expect((await answer(request, body)).status).toBe(200);
    expect(ordered.pop()).toEqual(order);
  });

  test.each([
    ['POST /v1/server?server=app/c', '{"weight":1}', 404, 'unknown', /no server "app\/c"/],
    ['POST /v1/server?server=app/a', '{"weight":-1}', 400, 'wrong', /weight: -1; allowed: a whole number, 0–65535/],
    ['POST /v1/server?server=app/a', '{"weight":"5"}', 400, 'wrong', /weight: "5"/],
    ['POST /v1/server?server=app/a', '{"state":"dran"}', 400, 'wrong', /state: "dran"; allowed: ready, drain, down/],
    ['POST /v1/server?server=app/a', '{"wieght":1}', 400, 'wrong', /did you mean "weight"\?/],
    ['POST /v1/server?server=app/a', '{}', 400, 'wrong', /needed: state, or weight/],
    ['POST /v1/server?server=app/a', '[]', 400, 'wrong', /needed/],
    ['POST /v1/server?server=app/a', 'weight', 400, 'wrong', /no JSON/],
    ['POST /v1/server?server=app/a', ' '.repeat(5000), 400, 'wrong', /more than 4096 bytes/],
    ['POST /v1/server', '{"weight":1}', 400, 'wrong', /needed: \?server/],
    ['GET /v1/flows?limit=0', undefined, 400, 'wrong', /limit: "0"; allowed: 1–100000/],
    ['GET /v1/capture?count=0', undefined, 400, 'wrong', /count: "0"; allowed: 1–/],
    ['GET /v1/capture?snaplen=50', undefined, 400, 'wrong', /snaplen: "50"; allowed: 96–65535/],
    ['GET /v1/flows?severs=a', undefined, 400, 'wrong', /did you mean "server"\?/],
    ['GET /v1/trace?client=192.0.2.7:4711', undefined, 400, 'wrong', /needed: \?client=IP:PORT&frontend=NAME/],
    ['DELETE /v1/flows', undefined, 400, 'wrong', /needed: one of server, client, frontend/],
    ['PUT /v1/server', undefined, 404, 'wrong', /there are: GET \/v1\/status/],
    ['POST /v1/reload', undefined, 500, 'failed', /^internal error: two lines$/],
  ])('%s %s is refused in one line', async (request, body, status, why, message) => {
    expect(await answer(request, body)).toEqual({ status, json: { error: { why, message: expect.stringMatching(message) as string } } });
    expect(ordered).toEqual([]);
  });

  test('with a token only for who says it', async () => {
    const told: WrongTokens[] = [];
    const gate = new TokenGate((wrong) => told.push(wrong));
    const secret = apiOf({ orders, token: { text: '0123456789abcdef', gate }, failed });
    const status = async (authorization: string) => (await secret.request('/v1/status', { headers: { authorization } })).status;
    expect([await status(''), await status('Bearer 0123456789abcdeF'), await status('0123456789abcdef')]).toEqual([401, 401, 401]);
    expect(await status('Bearer 0123456789abcdef')).toBe(200);
    expect([await status('x'), await status('x'), await status('Bearer 0123456789abcdef')]).toEqual([401, 401, 429]);
    expect(told).toHaveLength(1);
  });
});

test('the table has frontends with their servers, and what was set', async () => {
  const listing = (await answer('GET /v1/servers')).json as Parameters<typeof listText>[0];
  expect(`\n${listText(listing, {})}`).toBe(`
lb4 passthrough
Prot  Frontend  Address       State  Weight  Active  Conns  InBytes  OutBytes  Remarks
tcp   web       192.0.2.1:80  open                3     30    50.0K        20  maglev
  ->  app/a     10.0.0.0:80   up          5       1     10        0         0  weight 5 by control
  ->  app/b     10.0.0.1:80   down        1       2     20        0         0
`);
  const later = structuredClone(listing);
  Object.assign(later.backends[0]?.servers[0] ?? {}, { total: 13, current: 4 });
  expect(ratesBetween(listing, later, 1).backends[0]?.servers.map(({ total, current }) => [total, current])).toEqual([
    [3, 4],
    [0, 2],
  ]);
  const shown = listText(ratesBetween(listing, later, 1), { numeric: true, rate: true }).split('\n');
  expect(shown[2]).toBe('tcp   192.0.2.1:80  maglev   open                3    0      0       0');
});

test('why: reasons, what would change it, and the last checks', () => {
  const text = whyText(
    {
      server: 'app/a',
      protocol: 'tcp',
      address: '10.0.0.1:80',
      state: 'down',
      weight: 1,
      file_weight: 1,
      set: null,
      load: 2,
      leaving: false,
      since: 940,
      damped: false,
      checks: [{ at: 990, outcome: 'fail', reason: 'connection refused' }],
      reasons: ['its checks fail'],
      remedies: ['2 checks in a row'],
    },
    1000,
  );
  expect(text).toBe(
    'app/a, 10.0.0.1:80 tcp: down (its health for 1 min 0 s), weight 1, 2 connections\nwhy:\n  its checks fail\n' +
      'what would change it:\n  2 checks in a row\nlast checks:\n  1970-01-01T00:16:30.000Z  fail  connection refused\n',
  );
});

describe('what is in effect', () => {
  const everyKey = readFileSync(new URL('../fixtures/config/every-key.toml', import.meta.url), 'utf8');
  const example = readFileSync(new URL('../../lb4.toml', import.meta.url), 'utf8');

  test.each([
    ['lb4.toml', example, 'proxy'],
    ['lb4.toml', example, 'passthrough'],
    ['every key', everyKey.replace('token = "0123456789abcdef"\n', ''), undefined],
  ] as const)('%s: lb4 takes it without a warning, and it is the same', (_, text, mode?: Mode) => {
    const { config, keys } = parseConfig(text, 'a.toml', { mode });
    const written = renderKeys(keys, mode);
    const again = parseConfig(written, 'a.toml', { mode });
    expect(again.warnings).toEqual([]);
    // What has no name of its own before has the mode's.
    const settled = config.backends.map((backend) => ({ ...backend, balance: backend.balance ?? (mode && MODES[mode].balance) }));
    expect(again.config).toMatchObject({
      ...config,
      backends: settled,
      frontends: config.frontends.map(({ backend: _backend, ...one }) => one),
    });
    expect(again.keys).toEqual(keys);
  });

  test('a token is not shown, nor an address that would have none', () => {
    const { keys } = parseConfig(everyKey, 'a.toml');
    const written = renderKeys(keys, undefined);
    expect(written).not.toContain('0123456789abcdef');
    expect(written).toMatch(/^# \[control\] address = "127\.0\.0\.1:7001" and dashboard = "write", with a token that is not shown here\n/);
    expect(parseConfig(written, 'a.toml').config.control.tcp).toBeUndefined();
  });

  test("what GLB's tables are made of is shown, and said to be: with other keys packets would go elsewhere", () => {
    const written = renderKeys(parseConfig(everyKey, 'a.toml').keys, undefined);
    expect(written).toContain("# hash_key and seed of GLB's tables are shown");
    expect(written).toContain('hash_key = "12345678901234561234567890123456"');
    expect(renderKeys(parseConfig(example, 'a.toml').keys, undefined)).not.toContain('hash_key');
  });

  test('what was set at run time stands beside it, and changes nothing', () => {
    const text = '[frontends.web]\nlisten_addr = "192.0.2.1:80"\nbackend = "my app"\n[backends."my app".servers]\n';
    const { keys } = parseConfig(`${text}a = { addr = "10.0.0.1:80" }\nb = { srv = "_http._tcp.app" }\n`, 'a.toml');
    const written = renderKeys(keys, undefined, [
      { backend: 'my app', server: 'a', setting: { state: 'drain', weight: 5 } },
      { backend: 'my app', server: 'b@10.0.0.2:80', setting: { state: undefined, weight: 7 } },
    ]);
    const by = 'set at run time, by lb4 set or the dashboard';
    expect(written).toContain(`[backends."my app".servers.a]\n# state drain: ${by}\n# weight 5: ${by}\naddr = "10.0.0.1:80"\n`);
    expect(written).toContain(`[backends."my app".servers.b]\n# b@10.0.0.2:80: weight 7: ${by}\n`);
    expect(parseConfig(written, 'a.toml').keys).toEqual(keys);
  });

  test('of what only a restart changes, what it was started with', () => {
    const [start, now] = ['ring_slots = 64\nresets_per_second = 1', 'ring_slots = 128\n[passthrough.timeouts]\nsyn = 9'].map(
      (more) => parseConfig(`${example}\n[passthrough]\n${more}`, 'a.toml').keys,
    );
    const { passthrough } = keysInEffect(now, start);
    expect([passthrough.ring_slots, passthrough.resets_per_second, passthrough.timeouts.syn]).toEqual([64, 1, 9]);
  });
});

describe('what was set at run time', () => {
  const FILE = '[frontends.web]\nlisten_addr = "192.0.2.1:80"\nbackend = "app"\n[backends.app.servers]\n';
  const load = (server: string) => parseConfig(FILE + server, 'a.toml').config;
  const A = 'a = { addr = "10.0.0.1:80", weight = 2 }';
  /** Of server a of a file, once that was reloaded. */
  const after = (settings: RuntimeSettings, text: string) => {
    const config = load(text);
    const forgotten = settings.follow(config).forgotten.map(({ server, reason }) => `${server}: ${reason}`);
    const [backend] = config.backends;
    return { set: settings.of(backend, backend.servers[0]), forgotten };
  };

  function settingsOf(state: 'drain' | 'down' | undefined, weight: number | undefined): RuntimeSettings {
    const settings = new RuntimeSettings();
    const [backend] = load(A).backends;
    settings.set(backend, backend.servers[0], { state, weight });
    return settings;
  }

  test.each([
    ['the same file keeps it', A, { state: 'drain', weight: 5 }, []],
    ['another key keeps it', 'a = { addr = "10.0.0.1:80", weight = 2, maxconn = 9 }', { state: 'drain', weight: 5 }, []],
    [
      'another weight takes the weight alone',
      'a = { addr = "10.0.0.1:80", weight = 3 }',
      { state: 'drain' },
      ['app/a: the file has another weight, 3'],
    ],
    [
      'another address takes both',
      'a = { addr = "10.0.0.2:80", weight = 2 }',
      undefined,
      ['app/a: the file has another addr, 10.0.0.2:80'],
    ],
    ['out of the file', 'b = { addr = "10.0.0.1:80" }', undefined, ['app/a: it has left the file']],
  ])('%s', (_, text, set, forgotten) => {
    expect(after(settingsOf('drain', 5), text)).toEqual({ set, forgotten });
  });

  test('what has gone does not come back by the next reload', () => {
    const settings = settingsOf('down', undefined);
    after(settings, 'b = { addr = "10.0.0.1:80" }');
    expect(after(settings, A)).toEqual({ set: undefined, forgotten: [] });
  });

  test('a server that was found keeps it while it is not found, and when its answer gives it another weight; out of the file it goes', () => {
    const written = load('app = { srv = "_http._tcp.app", weight = 2 }');
    const found = (weight?: number) => {
      const servers = weight === undefined ? [] : [{ addr: addressOf('10.0.0.1:80'), weight, backup: false }];
      return expand(
        written,
        () => servers,
        () => undefined,
      ).config;
    };
    const [backend] = found(10).backends;
    const settings = new RuntimeSettings();
    settings.set(backend, backend.servers[0], { state: 'drain', weight: 7 });
    for (const weight of [undefined, 30, 10]) expect(settings.follow(found(weight)).forgotten).toEqual([]);
    expect(settings.of(backend, backend.servers[0])).toEqual({ state: 'drain', weight: 7 });
    const reason = 'the file has another weight, 3';
    const other = expand(
      load('app = { srv = "_http._tcp.app", weight = 3 }'),
      () => [{ addr: addressOf('10.0.0.1:80'), weight: 10, backup: false }],
      () => undefined,
    );
    expect(settings.follow(other.config).forgotten).toEqual([{ server: 'app/app@10.0.0.1:80', reason }]);
    expect(settings.follow(load('b = { addr = "10.0.0.1:80" }')).forgotten).toEqual([
      { server: 'app/app@10.0.0.1:80', reason: 'it has left the file' },
    ]);
  });

  test("'ready' takes a state back, the file's weight a weight, and what failed is as before", () => {
    const settings = settingsOf('down', 7);
    const [backend] = load(A).backends;
    const [server] = backend.servers;
    settings.set(backend, server, { state: 'ready' });
    expect(settings.of(backend, server)).toEqual({ weight: 7 });
    const takeBack = settings.set(backend, server, { weight: 2 });
    expect(settings.all).toEqual([]);
    takeBack();
    expect(settings.of(backend, server)).toEqual({ weight: 7 });
  });
});

describe('the socket', () => {
  const lines: string[] = [];
  const log = createLogger({ level: 'info', stream: { write: (line) => lines.push(line) } });
  const at = (path: string, more: Partial<NonNullable<Control['socket']>> = {}): Control => {
    return { socket: { path, group: undefined, mode: 0o600, ...more }, tcp: undefined, dashboard: undefined };
  };
  const port = () => new ControlPort({ orders, log });

  test('is its owner’s, in a directory of his, answers, and leaves nothing', async () => {
    const path = join(directory, 'own', 'a.sock');
    const control = port();
    await control.move(at(path));
    expect([statSync(path).mode & 0o777, statSync(join(directory, 'own')).mode & 0o777]).toEqual([0o600, 0o700]);
    expect(await ask({ control: path }, 'GET', '/v1/status')).toMatchObject({ version: '1.2.3', servers: { up: 1, down: 1 }, set: 1 });
    await expect(ask({ control: path }, 'POST', '/v1/server', { server: 'app/c' }, { weight: 1 })).rejects.toMatchObject({ exitCode: 4 });
    // One that says nothing of its length is read no further than it may be.
    await expect(ask({ control: path }, 'DELETE', '/v1/flows', { server: 'app/a' })).resolves.toEqual({ killed: 2, reset: 1 });
    ordered.pop();
    await control.close();
    expect(() => statSync(join(directory, 'own'))).toThrow('ENOENT');
    await expect(ask({ control: path }, 'GET', '/v1/status')).rejects.toMatchObject({ exitCode: 3 });
  });

  test('who says nothing does not keep lb4 from its end', async () => {
    const path = join(directory, 'silent.sock');
    const control = port();
    await control.move(at(path));
    const silent = connect(path);
    await once(silent, 'connect');
    await control.close();
    await once(silent, 'close');
  });

  test('of a process that died is replaced, one that answers is not', async () => {
    const path = join(directory, 'b.sock');
    writeDead(path);
    const [first, second] = [port(), port()];
    await first.move(at(path));
    lines.length = 0;
    await second.move(at(path));
    expect(lines.join('')).toMatch(/"level":"warn".*another program answers at .*b\.sock; \[control\] path names another place/);
    expect(await ask({ control: path }, 'GET', '/v1/status')).toMatchObject({ pid: 7 });
    // In a takeover it is free for a moment: the second one does not take it for its own then, but does later.
    await first.close();
    await second.move({ ...at(path), tcp: undefined });
    await first.move(at(path));
    expect(lines.join('')).not.toMatch(/orders are taken"/);
    await first.close();
    for (let look = 0; look < 2; look++) await second.move(at(path));
    expect(lines.join('')).toMatch(/"level":"info".*control: orders are taken"/);
    await second.close();
  });

  test('is there again when somebody has removed it', async () => {
    const path = join(directory, 'c.sock');
    const control = port();
    await control.move(at(path));
    rmSync(path);
    await waitUntil(() => connects(path), { what: 'the socket' });
    await control.close();
  });

  test.each([
    ['writable by others', (place: string) => mkdirSync(place, { mode: 0o777 }), /writable by others \(mode 777\)/],
    ['no directory', (place: string) => writeFileSync(place, ''), /is no directory/],
  ])('is not made where its directory is %s', async (what, make, reason) => {
    const place = join(directory, what.replaceAll(' ', '-'));
    const before = process.umask(0);
    make(place);
    process.umask(before);
    lines.length = 0;
    const control = port();
    await control.move(at(join(place, 'd.sock')));
    expect(lines.join('')).toMatch(reason);
    await control.close();
  });

  test('the token of the dashboard is read at each reload; without one it is read-only, and that is told', async () => {
    const file = join(directory, 'token');
    const wanted: Control = { socket: undefined, tcp: undefined, dashboard: { token: undefined, tokenFile: file } };
    const control = port();
    const token = () => control.dashboard.token();
    lines.length = 0;
    await control.move(wanted);
    expect([token(), lines.join('')]).toEqual([undefined, expect.stringMatching(/"at":"dashboard","reason":"ENOENT.*no orders are taken/)]);
    for (const text of ['0123456789abcdef', 'fedcba9876543210']) {
      writeFileSync(file, `${text}\n`);
      await control.move(wanted);
      expect(token()).toBe(text);
    }
    await control.move({ ...wanted, dashboard: undefined });
    expect(token()).toBeUndefined();
    await control.close();
  });

  test('by TCP, for whoever has the token of its file; who guesses waits, and is not told to say another', async () => {
    const file = join(directory, 'tcp-token');
    const listen = addressOf(`127.0.0.1:${await freePort()}`);
    const wanted: Control = { socket: undefined, tcp: { listen, token: undefined, tokenFile: file }, dashboard: undefined };
    const status = (token: string) => {
      vi.stubEnv('LB4_CONTROL_TOKEN', token);
      return ask({ control: `http://${listen.text}` }, 'GET', '/v1/status').catch((error: Lb4Error) => [error.exitCode, error.message]);
    };
    const control = port();
    try {
      for (const token of ['0123456789abcdef', 'fedcba9876543210']) {
        writeFileSync(file, `${token}\n`);
        await control.move(wanted);
        expect(await status(token)).toMatchObject({ version: '1.2.3' });
      }
      const refused = [77, expect.stringMatching(/^needed: .*; LB4_CONTROL_TOKEN has it for this command$/)];
      for (let guess = 0; guess < 5; guess++) expect(await status('0123456789abcdef')).toEqual(refused);
      expect(await status('0123456789abcdef')).toEqual([5, 'too many wrong tokens from this address; again in a minute']);
      await control.move({ ...wanted, tcp: undefined });
      expect(await status('fedcba9876543210')).toEqual([3, expect.stringContaining('no lb4 takes orders at http://127.0.0.1')]);
    } finally {
      vi.unstubAllEnvs();
      await control.close();
    }
  });

  test('of a group, by its name or its number, with the mode that the file says', async () => {
    // Whoever is not root may give a file to his own alone.
    const group = String(process.getegid?.() === 0 ? 4 : process.getegid?.());
    const [name = ''] = /^[^:]+(?=:[^:]*:4:)/m.exec(readFileSync('/etc/group', 'utf8').replaceAll(`:${group}:`, ':4:')) ?? [];
    for (const [i, one] of [group, name].entries()) {
      const path = join(directory, `group-${i}`, 'f.sock');
      const control = port();
      await control.move(at(path, { group: one, mode: 0o620 }));
      const seen = [path, join(path, '..')].map((place) => statSync(place)).map(({ gid, mode }) => [gid, mode & 0o777]);
      expect(seen).toEqual([
        [Number(group), 0o620],
        [Number(group), 0o750],
      ]);
      await control.close();
    }
  });

  test('a group that there is none of is told', async () => {
    lines.length = 0;
    const control = port();
    await control.move(at(join(directory, 'e.sock'), { group: 'nobodys-group' }));
    expect(lines.join('')).toMatch(/there is no group \\"nobodys-group\\" in \/etc\/group/);
    await control.close();
  });
});

function connects(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** A socket at which nobody listens any more, as after a kill. */
function writeDead(path: string): void {
  execFileSync(PYTHON, ['-c', 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])', path]);
}
