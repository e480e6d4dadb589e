/** Servers that are found: what a program prints, what becomes of answers, and that a failure keeps the last one. */
import { describe, expect, test, vi } from 'vitest';
import { addressOf } from '../../src/config/address.ts';
import { parseConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/model.ts';
import { answersIn, type Found } from '../../src/discovery/answer.ts';
import { Asking } from '../../src/discovery/asking.ts';
import { Discovery } from '../../src/discovery/discovery.ts';
import { findByProgram, readServers } from '../../src/discovery/exec.ts';
import { expand } from '../../src/discovery/expand.ts';
import { check, FRONTEND, SERVER_ADDRESS } from '../lab/config-lines.ts';

const found = (text: string, weight = 1, backup = false): Found => ({ addr: addressOf(text), weight, backup });
const never = new AbortController().signal;

describe('a program', () => {
  test('prints a server a line', () => {
    const text = '# a comment\n10.0.0.1:80\n\n  10.0.0.2:81   weight=7 backup \n[2001:db8::1]:80 weight=0\n';
    expect(readServers(text)).toEqual([found('10.0.0.1:80'), found('10.0.0.2:81', 7, true), found('[2001:db8::1]:80', 0)]);
    expect(readServers('')).toEqual([]);
  });

  test.each([
    ['10.0.0.1:80\nfoo:80', 'line 2: "foo:80" is a hostname'],
    ['10.0.0.1', 'line 1: "10.0.0.1" has no port'],
    ['0.0.0.0:80', 'line 1: "0.0.0.0:80" is not the address of one host'],
    ['10.0.0.1:80 weight=65536', 'line 1: "weight=65536" is unknown; allowed: weight=0–65535 and backup'],
    ['10.0.0.1:80 wieght=1', 'line 1: "wieght=1" is unknown; allowed: weight=0–65535 and backup'],
  ])('%j is no list', (text, message) => {
    expect(() => readServers(text)).toThrow(message);
  });

  test('runs without a shell, and its answer holds for its interval', async () => {
    const answer = await findByProgram(['/bin/echo', '10.0.0.1:80', 'weight=2'], 7000, never);
    expect(answer).toEqual({ found: [found('10.0.0.1:80', 2)], holdsMs: 7000 });
  });

  test.each([
    [['/bin/sh', '-c', 'echo 10.0.0.1:80; echo why >&2; exit 3'], 'exit 3: why'],
    [['/nonexistent/program'], 'ENOENT'],
    [['/bin/sh', '-c', 'head -c 100000 /dev/zero'], 'it prints more than 65536 bytes'],
  ])('%j is a failure', async (command, message) => {
    await expect(findByProgram(command, 1000, never)).rejects.toThrow(message);
  });
});

describe('a server of the file', () => {
  const server = (keys: string) => check(`${FRONTEND}\n[backends.b.servers.s]\n${keys}`);

  test.each([
    'addr="app.internal:80"',
    'addr="app:80"',
    'addr="my_app.internal.:80"',
    'srv="_http._tcp.app"',
    'exec=["a"]\nexec_interval=2',
  ])('%s', (keys) => {
    expect(server(keys)).toEqual([]);
  });

  test.each([
    ['weight=2', `f:2:1: backends.b.servers.s.addr: missing; needed: ${SERVER_ADDRESS}; or srv, or exec`],
    ['addr="a:1"\nsrv="_a._tcp.b"', 'f:4:5: backends.b.servers.s.srv: there is addr, too; allowed: one of addr, srv, exec'],
    ['srv="_a._tcp.b"\nexec_interval=2', 'f:4:1: warning: backends.b.servers.s.exec_interval: only exec reads it, not srv'],
  ])('%s', (keys, line) => {
    expect(server(keys)).toEqual([line]);
  });
});

describe('answers become servers', () => {
  const toml = `
    [frontends.a]
    listen_addr = "192.0.2.1:80"
    protocol = "all"
    backend = "b"
    [backends.b.servers.fixed]
    addr = "10.0.0.1:80"
    [backends.b.servers.app]
    addr = "app:80"
    weight = 40000
    maxconn = 5
    [backends.b.servers.other]
    exec = ["other"]
    backup = true`;
  const { config } = parseConfig(toml, 'f', { mode: 'passthrough' });
  const serversOf = (name: string, of: typeof config) =>
    of.backends.find((backend) => backend.name === name)?.servers.map((one) => one.name);

  test('beside those of the file, each address once, and each host once for pings', () => {
    const answers = { name: [found('10.0.0.1:80'), found('10.0.0.2:80', 2)], exec: [found('10.0.0.2:80'), found('10.0.0.2:81')], srv: [] };
    const { config: expanded, left } = expand(
      config,
      ({ kind }) => answers[kind],
      () => undefined,
    );
    expect(serversOf('b', expanded)).toEqual(['fixed', 'app@10.0.0.2:80', 'other@10.0.0.2:81']);
    expect(serversOf('b/icmp', expanded)).toEqual(['fixed', 'app@10.0.0.2:80']);
    const [, app, other] = expanded.backends[0]?.servers ?? [];
    expect(app).toMatchObject({ weight: 65_535, maxconn: 5, backup: false });
    expect(other).toMatchObject({ weight: 1, maxconn: 0, backup: true });
    for (const { backend } of expanded.frontends) expect(expanded.backends).toContain(backend);
    expect(left).toEqual([]);
  });

  test('those that are refused are left out, and told', () => {
    const { config: expanded, left } = expand(
      config,
      () => [found('10.0.0.9:80')],
      ({ ip }) => (ip === '10.0.0.9' ? 'is bad' : undefined),
    );
    expect(serversOf('b', expanded)).toEqual(['fixed']);
    expect(left).toContain('b/app: 10.0.0.9:80 is bad');
  });

  test('without answers only the file has servers; a file without names stays the same object', () => {
    expect(
      serversOf(
        'b',
        expand(
          config,
          () => undefined,
          () => undefined,
        ).config,
      ),
    ).toEqual(['fixed']);
    const plain = parseConfig(`${FRONTEND}\nbackends.b.servers.s.addr="192.0.2.2:80"`, 'f').config;
    expect(
      expand(
        plain,
        () => undefined,
        () => undefined,
      ).config,
    ).toBe(plain);
  });
});

test('a failure keeps the last answer, is told once, and so is its end; another order is no change', async () => {
  const lines: string[] = [];
  const log = { info: (_: object, message: string) => lines.push(message), warn: (_: object, message: string) => lines.push(message) };
  const steps = [
    [found('10.0.0.2:80'), found('10.0.0.1:80')],
    undefined,
    undefined,
    [found('10.0.0.1:80'), found('10.0.0.2:80')],
    [found('10.0.0.3:80')],
  ];
  const states: string[] = [];
  let changes = 0;
  await new Promise<void>((resolve) => {
    let asking: Asking | undefined;
    asking = new Asking({
      what: 'app',
      retryMs: 1,
      changed: () => changes++,
      log: log as never,
      ask: async () => {
        // What the last step has left.
        states.push(`${asking?.found?.map(({ addr }) => addr.text).join() ?? 'none'} ${asking?.failure ?? ''}`.trim());
        const step = steps.shift();
        if (steps.length === 0) setTimeout(() => resolve(asking?.stop()), 1);
        if (step === undefined) throw new Error('down');
        return { found: step, holdsMs: 1 };
      },
    });
  });
  const both = '10.0.0.1:80,10.0.0.2:80';
  expect([states.slice(1, 5), changes]).toEqual([[both, `${both} down`, `${both} down`, both], 2]);
  expect(lines).toEqual(['its servers cannot be found: the last that were stay', 'its servers are found again']);
});

test('with a hold a server stays that an answer lacks, until it has been lacking for so long', async () => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
  try {
    const [a, b] = [found('10.0.0.1:80'), found('10.0.0.2:80')];
    const answers = [[a], [b], [a], [a], [a]];
    const asking = new Asking({
      what: 'app',
      holdMs: 2500,
      changed: () => {},
      log: { info: () => {}, warn: () => {} } as never,
      ask: async () => ({ found: answers.shift() ?? [], holdsMs: 1000 }),
    });
    const states: (string | undefined)[] = [];
    for (let second = 0; second < 5; second++) {
      await vi.advanceTimersByTimeAsync(second === 0 ? 0 : 1000);
      states.push(asking.found?.map(({ addr }) => addr.text.slice(5)).join());
    }
    asking.stop();
    expect(states).toEqual(['0.1:80', '0.1:80,0.2:80', '0.1:80,0.2:80', '0.1:80,0.2:80', '0.1:80']);
  } finally {
    vi.useRealTimers();
  }
});

describe('what was found before', () => {
  const toml = (servers: string, nameservers = '127.0.0.1:9') => `
    [frontends.a]
    listen_addr = "192.0.2.1:80"
    backend = "b"
    [backends.b.servers]
    ${servers}
    [discovery]
    nameservers = ["${nameservers}"]`;
  const configOf = (text: string) => parseConfig(text, 'f').config;
  const log = { info: () => {}, warn: () => {} } as never;
  const program = (words: string, interval = 60) => `s = { exec = [${words}], exec_interval = ${interval} }`;
  const answerOf = (discovery: Discovery, config: Config) => discovery.answer(config.backends[0].templates![0].finder, config);

  test('stays while another interval or nameserver has no answer, and while a reload is taken back', async () => {
    const discovery = new Discovery({ families: [4], changed: () => {}, log });
    try {
      const first = configOf(toml(program('"/bin/echo", "10.0.0.1:80"')));
      await discovery.follow(first, 5000);
      expect(answerOf(discovery, first)).toEqual([found('10.0.0.1:80')]);
      // Asked anew, and nobody waits for it.
      const other = configOf(toml(program('"/bin/echo", "10.0.0.1:80"', 30), '127.0.0.1:10'));
      await discovery.follow(other, 0);
      expect(answerOf(discovery, other)).toEqual([found('10.0.0.1:80')]);
      const without = configOf(toml('s = { addr = "10.0.0.9:80" }'));
      await discovery.follow(without, 0);
      const back = discovery.follow(other, 0);
      expect(answerOf(discovery, other)).toEqual([found('10.0.0.1:80')]);
      await back;
    } finally {
      discovery.stop();
    }
  });

  test.each(['', '{', '{}', '5', 'null', '[5]', '[["q"]]', '[["q", [null]]]', '[["q", [{"addr": {"text": "10.0.0.1:80"}}]]]'])(
    'is nothing where it stands there as %s',
    (text) => {
      expect(() => answersIn(text)).toThrow();
    },
  );

  test('is the same when it was written and read', () => {
    const answers = [['q', [found('10.0.0.1:80', 3, true), found('[2001:db8::1]:80')]] as const];
    expect(answersIn(JSON.stringify(answers))).toEqual(answers);
    expect(() => answersIn(JSON.stringify(answers).replaceAll('10.0.0.1', '10.0.0.999'))).toThrow('10.0.0.999');
  });

  test('names have no address that no server can have, and none of this host but by their own words', () => {
    const { config } = parseConfig(toml('s = { addr = "app.test:80" }'), 'f');
    const { config: expanded, left } = expand(
      config,
      () => [found('0.0.0.0:80'), found('10.0.0.2:80')],
      () => undefined,
    );
    expect(expanded.backends[0]?.servers.map(({ addr }) => addr.text)).toEqual(['10.0.0.2:80']);
    expect(left).toEqual(['b/s: 0.0.0.0:80 is not the address of one host']);
  });
});
