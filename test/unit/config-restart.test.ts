import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { needsRestart, restartOnly } from '../../src/config/restart.ts';
import { schemaAt } from '../../src/config/schema/path.ts';
import { GOOD } from '../lab/config-lines.ts';

const load = (toml = '') => parseConfig(`${GOOD}${toml}`, 'f', { processors: 2 }).config;

const KEYS = [
  { path: 'passthrough.connection_tracker_capacity', value: 1000 },
  { path: 'passthrough.workers', value: 2 },
  { path: 'passthrough.cpus', value: '"0"' },
  { path: 'passthrough.ring_slots', value: 64 },
  { path: 'passthrough.busy_poll', value: 50 },
  { path: 'passthrough.fast_path', value: '"tc"' },
  { path: 'passthrough.io', value: '"pcap"' },
  { path: 'passthrough.resets_per_second', value: 1 },
  { path: 'passthrough.resets_per_source', value: 1 },
  { path: 'passthrough.syn_flood_from', value: 1 },
  { path: 'proxy.workers', value: 1 },
];

describe('a reload cannot change', () => {
  it.each(KEYS)('$path', ({ path, value }) => {
    expect(schemaAt(path.split('.'))).toBeDefined();
    expect(needsRestart(path)).toBe(true);
    expect(restartOnly(load(), load(`${path} = ${value}`))).toEqual([path]);
  });

  it('several, each by its name', () => {
    // One worker alone goes with pcap.
    const several = KEYS.filter(({ path }) => path !== 'passthrough.io');
    const changed = load(several.map(({ path, value }) => `${path} = ${value}`).join('\n'));
    expect(restartOnly(load(), changed)).toEqual(several.map(({ path }) => path));
    expect(restartOnly(changed, changed)).toEqual([]);
  });
});

it.each([
  'backends.b.dsr = "l2"',
  'backends.b.servers.s.weight = 3',
  'stats.port = 1',
  'passthrough.timeouts.syn = 1',
  'proxy.grace_period = 1',
])('a reload can change %s', (line) => {
  expect(needsRestart(line.split(' = ')[0] ?? '')).toBe(false);
  expect(restartOnly(load(), load(line))).toEqual([]);
});

it('a default written out is no change', () => {
  expect(restartOnly(load(), load('passthrough.workers = 1'))).toEqual([]);
});
