import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadConfig, parseConfig } from '../../src/config/load.ts';

function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/config/${name}`, import.meta.url));
}

const SMALL = `
[frontends.web]
listen_addr = "192.0.2.10:80"
backend = "web"
[backends.web.servers.a]
addr = "198.51.100.11:8080"
`;

describe("Convey's three configurations load unchanged", () => {
  it('passthrough', () => {
    const { config, warnings } = loadConfig(fixture('convey-passthrough.toml'));
    expect(warnings).toEqual([]);
    expect(config.frontends.map(({ name, listen, backend }) => [name, listen.text, backend.name])).toEqual([
      ['tcp_80', '192.168.1.140:80', 'tcp80_out'],
    ]);
    expect(config.backends[0].servers.map(({ name, addr, weight }) => [name, addr.text, weight])).toEqual([
      ['server1', '192.168.1.21:80', 1],
      ['server2', '192.168.1.22:80', 1],
      ['server3', '192.168.1.23:80', 1],
      ['server4', '192.168.1.24:80', 1],
    ]);
    expect(config.backends[0].healthCheck.intervalMs).toBe(3000);
    expect(config.stats?.listen.text).toBe('0.0.0.0:7000');
    expect(config.passthrough).toMatchObject({ connectionTrackerCapacity: 20000, workers: 4, statsUpdateMs: 5000 });
  });

  it('DSR, without a table for it', () => {
    const { config, warnings } = loadConfig(fixture('convey-dsr.toml'));
    expect(warnings).toEqual([]);
    expect(config.passthrough).toMatchObject({ connectionTrackerCapacity: 262144 });
  });

  it('proxy', () => {
    const { config, warnings } = loadConfig(fixture('convey-proxy.toml'));
    expect(warnings).toEqual([]);
    expect(config.backends.map(({ servers }) => servers.map(({ weight }) => weight))).toEqual([
      [10, 100, 1, 1],
      [1, 1],
    ]);
    expect(config.backends[0].healthCheck.intervalMs).toBe(5000);
    expect(config.frontends[1].backend).toBe(config.backends[1]);
  });
});

describe('a small configuration', () => {
  const { config } = parseConfig(SMALL, 'lb4.toml');

  it('gets every default', () => {
    expect(config).toEqual({
      file: 'lb4.toml',
      frontends: [
        { name: 'web', listen: { text: '192.0.2.10:80', ip: '192.0.2.10', ipNumber: 0xc000020a, port: 80 }, backend: config.backends[0] },
      ],
      backends: [
        {
          name: 'web',
          balance: undefined,
          dsr: 'nat',
          healthCheck: { intervalMs: 5000, timeoutMs: 3000, rise: 2, fall: 2 },
          servers: [{ name: 'a', addr: { text: '198.51.100.11:8080', ip: '198.51.100.11', ipNumber: 0xc633640b, port: 8080 }, weight: 1 }],
        },
      ],
      stats: undefined,
      passthrough: {
        connectionTrackerCapacity: 262144,
        workers: 1,
        statsUpdateMs: 5000,
        ringSlots: 1024,
        resetsPerSecond: 1000,
        timeouts: { synMs: 30_000, establishedMs: 7_440_000, finMs: 120_000, timeWaitMs: 60_000, closedMs: 10_000 },
      },
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

  it('take decimals for seconds', () => {
    const { config } = parseConfig(`${SMALL}[passthrough.timeouts]\nsyn = 1.5\n[backends.web]\nhealth_check_interval = 0.25`, 'lb4.toml');
    expect(config.passthrough.timeouts.synMs).toBe(1500);
    expect(config.backends[0].healthCheck.intervalMs).toBe(250);
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

it('lb4.toml at the root is a good example of ten lines', () => {
  const path = fileURLToPath(new URL('../../lb4.toml', import.meta.url));
  expect(loadConfig(path).warnings).toEqual([]);
  expect(readFileSync(path, 'utf8').trim().split('\n')).toHaveLength(10);
});
