/** What `lb4 doctor` has to say of the packet workers that a file asks for. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { judgeMemory, judgeWorkers } from '../../src/doctor/workers.ts';
import { GOOD } from '../lab/config-lines.ts';

const load = (keys: string) => parseConfig(`${GOOD}[passthrough]\n${keys}`, 'f', { processors: 2 }).config;
const [ok, warn, fail] = ['ok', 'warn', 'fail'];

test.each([
  ['', ok, '1 packet worker, of 4 processors', undefined],
  ['workers = 4', ok, '4 packet workers, of 4 processors', undefined],
  ['cpus = "7,2-3"', ok, '3 packet workers, pinned to 7,2-3', undefined],
  ['workers = 2\ncpus = "2-5"', ok, '2 packet workers, pinned to 2-3', undefined],
  [
    'workers = 5',
    warn,
    '5 packet workers, of 4 processors: more than one a processor take turns, and packets wait for theirs',
    'workers = 4 in [passthrough] of f',
  ],
  [
    'workers = 3\ncpus = "2-3"',
    warn,
    '3 packet workers, pinned to 2-3: more than one a processor take turns, and packets wait for theirs',
    'workers = 2 in [passthrough] of f',
  ],
  [
    'workers = 1\ncpus = "1,5-7"',
    fail,
    "the kernel pins nothing to 1,6 of cpus: not there, or not this process's (cpuset); it may use 2-5,7",
    'cpus = "2-5,7" in [passthrough] of f',
  ],
])('%s on processors 2-5,7, of which 4 are free', (keys, level, message, mend) => {
  const finding = judgeWorkers(load(keys), { usable: [2, 3, 4, 5, 7], parallel: 4 });
  expect(finding).toEqual({ level, check: 'workers', message, ...(mend === undefined ? {} : { mend }) });
});

test('io = "pcap" pins nothing', () => {
  const finding = judgeWorkers(load('io = "pcap"\ncpus = "0-1"'), { usable: [2], parallel: 4 });
  expect(finding).toEqual({ level: ok, check: 'workers', message: '1 packet worker, of 4 processors' });
});

test.each([
  ['', '134 MB for receive rings and 78 MB for flow tables of 1 worker', 134 + 78],
  ['workers = 4', '537 MB for receive rings and 109 MB for flow tables of 4 workers', 537 + 110],
  ['workers = 4\nring_slots = 64', '34 MB for receive rings and 109 MB for flow tables of 4 workers', 34 + 110],
  ['io = "pcap"\nconnection_tracker_capacity = 1000000', '0 MB for receive rings and 267 MB for flow tables of 1 worker', 267],
])('memory: %s', (keys, needed, enough) => {
  const config = load(keys);
  expect(judgeMemory(config, undefined)).toEqual({ level: ok, check: 'memory', message: needed });
  expect(judgeMemory(config, enough * 1e6)).toEqual({ level: ok, check: 'memory', message: `${needed}; ${enough} MB are available` });
  expect(judgeMemory(config, 30e6)).toEqual({
    level: fail,
    check: 'memory',
    message: `${needed}; 30 MB are available`,
    mend: 'fewer workers, ring_slots or connection_tracker_capacity in [passthrough] of f',
  });
});
