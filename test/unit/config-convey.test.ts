/** Convey's three sample configurations load unchanged, without a mistake, in the modes that they are meant for; the one doubt is who may read their statistics. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/model.ts';
import type { Mode } from '../../src/config/modes.ts';

function load(mode: Mode): Config {
  const path = fileURLToPath(new URL(`../fixtures/convey/${mode}.toml`, import.meta.url));
  const { config, warnings } = loadConfig(path, { mode, processors: 2 });
  expect(warnings.map(({ path }) => path)).toEqual(['stats.address']);
  return config;
}

const frontendsOf = ({ frontends }: Config) => frontends.map(({ name, listen, backend }) => [name, listen.text, backend.name]);
const serversOf = ({ backends }: Config) => backends.map(({ servers }) => servers.map(({ addr, weight }) => [addr.text, weight]));

describe.each(['passthrough', 'dsr'] as const)('%s', (mode) => {
  const config = load(mode);

  it('has one frontend and four servers of equal weight', () => {
    expect(frontendsOf(config)).toEqual([['tcp_80', '192.168.1.140:80', 'tcp80_out']]);
    expect(serversOf(config)).toEqual([[21, 22, 23, 24].map((host) => [`192.168.1.${host}:80`, 1])]);
    expect(config.backends[0]).toMatchObject({ balance: undefined, dsr: 'nat', healthCheck: { type: 'tcp', intervalMs: 5000 } });
  });

  it('serves statistics on every address', () => expect(config.stats?.listen.text).toBe('0.0.0.0:7000'));
});

it('passthrough has a table of its own', () => {
  expect(load('passthrough').passthrough).toMatchObject({ connectionTrackerCapacity: 1000, workers: 4, statsUpdateMs: 5000 });
});

it('DSR does without', () => {
  expect(load('dsr').passthrough).toMatchObject({ connectionTrackerCapacity: 262_144, workers: 1, statsUpdateMs: 5000 });
});

it('proxy has two frontends and weights', () => {
  const config = load('proxy');
  expect(frontendsOf(config)).toEqual([
    ['tcp_3000', '192.168.1.140:3000', 'tcp3000_out'],
    ['tcp_3001', '192.168.1.140:3001', 'tcp3001_out'],
  ]);
  expect(config.backends.map(({ servers }) => servers.map(({ weight }) => weight))).toEqual([
    [10, 100, 1, 1],
    [1, 1],
  ]);
  // 0 means the default, as does leaving it out.
  expect(config.backends.map(({ healthCheck }) => healthCheck.intervalMs)).toEqual([5000, 5000]);
  expect(config.stats?.listen.text).toBe('0.0.0.0:7000');
});
