import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadConfig, parseConfig } from '../../src/config/load.ts';

const SMALL = `
[frontends.web]
listen_addr = "192.0.2.10:80"
backend = "web"
[backends.web.servers.a]
addr = "198.51.100.11:8080"
`;

describe('a small configuration', () => {
  const { config } = parseConfig(SMALL, 'lb4.toml', { processors: 2 });

  it('gets every default', () => {
    expect(config).toEqual({
      file: 'lb4.toml',
      holdMs: 0,
      frontends: [
        {
          name: 'web',
          listen: { text: '192.0.2.10:80', ip: '192.0.2.10', family: 4, ipNumber: 0xc000020a, port: 80 },
          backend: config.backends[0],
          maxconn: 0,
          acceptProxy: false,
          clientTimeoutMs: 7_440_000,
        },
      ],
      backends: [
        {
          name: 'web',
          protocol: { name: 'tcp', number: 6 },
          balance: undefined,
          dsr: 'nat',
          nat: 'full',
          healthCheck: {
            type: 'tcp',
            http: { path: '/', status: [[200, 399]], host: undefined },
            command: [],
            udp: { send: '', expect: undefined },
            port: undefined,
            jitter: 0.1,
            intervalMs: 5000,
            timeoutMs: 3000,
            rise: 2,
            fall: 2,
          },
          servers: [
            {
              name: 'a',
              addr: { text: '198.51.100.11:8080', ip: '198.51.100.11', family: 4, ipNumber: 0xc633640b, port: 8080 },
              weight: 1,
              maxconn: 0,
              backup: false,
            },
          ],
          sourceAddrs: [],
          sendProxy: undefined,
          connectTimeoutMs: 5000,
          serverTimeoutMs: 7_440_000,
          retries: 3,
          maxQueue: 1024,
          queueTimeoutMs: 5000,
          slowStartMs: 0,
          drainTimeoutMs: 300_000,
        },
      ],
      stats: undefined,
      control: { socket: { path: undefined, group: undefined, mode: 0o600 }, tcp: undefined, dashboard: undefined },
      passthrough: {
        connectionTrackerCapacity: 262144,
        workers: 1,
        cpus: undefined,
        statsUpdateMs: 5000,
        ringSlots: 1024,
        busyPollUs: 10,
        fastPath: 'off',
        io: 'ring',
        resetsPerSecond: 1000,
        resetsPerSource: 100,
        synFloodFrom: 4096,
        timeouts: {
          synMs: 30_000,
          establishedMs: 7_440_000,
          finMs: 120_000,
          timeWaitMs: 60_000,
          closedMs: 10_000,
          udpMs: 30_000,
          udpStreamMs: 120_000,
          icmpMs: 30_000,
        },
      },
      proxy: { workers: 0, gracePeriodMs: 30_000 },
    });
  });

  it('is frozen through and through', () => {
    const objects: object[] = [
      config,
      config.frontends,
      config.frontends[0].listen,
      config.backends[0].servers[0],
      config.passthrough.timeouts,
    ];
    for (const object of objects) expect(Object.isFrozen(object)).toBe(true);
  });
});

describe('the keys', () => {
  it.each([
    { stats: '', listen: '0.0.0.0:7000' },
    { stats: 'port = "8000"', listen: '0.0.0.0:8000' },
    { stats: 'port = 8000', listen: '0.0.0.0:8000' },
    { stats: 'address = "127.0.0.1"', listen: '127.0.0.1:7000' },
  ])('[stats] $stats listens on $listen', ({ stats, listen }) => {
    expect(parseConfig(`${SMALL}[stats]\n${stats}`, 'lb4.toml').config.stats?.listen.text).toBe(listen);
  });

  it.each([
    { what: "a key of lb4's own in a table of Convey's", more: 'maxconn = 10' },
    { what: "a table of lb4's own", more: '[proxy]' },
    { what: "a table of lb4's own in one of Convey's", more: '[passthrough.timeouts]' },
  ])('$what: statistics are for this host alone', ({ more }) => {
    const { config, warnings } = parseConfig(`[stats]\n${SMALL}${more}`, 'lb4.toml');
    expect({ listen: config.stats?.listen.text, warnings }).toEqual({ listen: '127.0.0.1:7000', warnings: [] });
  });

  it.each([
    { what: "Convey's keys alone", more: '[passthrough]\nworkers = 4' },
    { what: 'a name that is a key elsewhere', more: '[backends.maxconn]' },
    { what: 'a key that nobody knows', more: 'nonsense = 1' },
  ])('$what: statistics are for everybody, with a warning', ({ more }) => {
    const { config, warnings } = parseConfig(`[stats]\n${SMALL}${more}`, 'lb4.toml');
    expect(config.stats?.listen.text).toBe('0.0.0.0:7000');
    expect(warnings[0]).toMatchObject({ position: { line: 1 }, path: 'stats.address', message: /^missing: .*every address of this host/ });
  });

  it('take decimals for seconds', () => {
    const { config } = parseConfig(`${SMALL}[passthrough.timeouts]\nsyn = 1.5\n[backends.web]\nhealth_check_interval = 0.25`, 'lb4.toml');
    expect(config.passthrough.timeouts.synMs).toBe(1500);
    expect(config.backends[0].healthCheck.intervalMs).toBe(250);
  });

  it('keep 0 where it means at once, and are whole milliseconds otherwise', () => {
    const { config } = parseConfig(`${SMALL}[backends.web]\ndrain_timeout = 0\nslow_start = 1.1\n[proxy]\ngrace_period = 0`, 'lb4.toml');
    expect(config.backends[0]).toMatchObject({ drainTimeoutMs: 0, slowStartMs: 1100 });
    expect(config.proxy.gracePeriodMs).toBe(0);
  });

  it.each([
    { status: '204', ranges: [[204, 204]] },
    {
      status: '"200-299, 401"',
      ranges: [
        [200, 299],
        [401, 401],
      ],
    },
  ])('health_check_status = $status', ({ status, ranges }) => {
    const text = `${SMALL}[backends.web]\nhealth_check = "http"\nhealth_check_path = "/up?a=1"\nhealth_check_status = ${status}\nhealth_check_host = "[::1]:80"`;
    const { config, warnings } = parseConfig(text, 'lb4.toml');
    expect(warnings).toEqual([]);
    expect(config.backends[0]?.healthCheck).toMatchObject({ type: 'http', http: { path: '/up?a=1', status: ranges, host: '[::1]:80' } });
  });

  it('may be written inline, dotted, quoted and in any order', () => {
    const text = `
      backends."a b".servers = { "s.1" = { addr = "198.51.100.11:1", weight = 0 } }
      frontends = { "constructor" = { backend = "a b", listen_addr = "0.0.0.0:65535" } }
      backends."a b".balance = "roundrobin"`;
    const { config, warnings } = parseConfig(text, 'lb4.toml');
    expect(warnings).toEqual([]);
    expect(config.frontends[0]).toMatchObject({ name: 'constructor', backend: { name: 'a b', balance: 'roundrobin' } });
    expect(config.backends[0].servers[0]).toMatchObject({ name: 's.1', weight: 0 });
  });

  it('ignore a byte order mark and CRLF', () => {
    expect(parseConfig(`\uFEFF${SMALL.replaceAll('\n', '\r\n')}`, 'lb4.toml').warnings).toEqual([]);
  });
});

it("lb4.toml at the root is README's example, and a good one in every mode", () => {
  const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
  const [, example] = /```toml\n([\s\S]*?)```/.exec(readFileSync(path('README.md'), 'utf8')) ?? [];
  expect(readFileSync(path('lb4.toml'), 'utf8')).toBe(example);
  for (const mode of ['proxy', 'passthrough'] as const) expect(loadConfig(path('lb4.toml'), { mode }).warnings).toEqual([]);
});
