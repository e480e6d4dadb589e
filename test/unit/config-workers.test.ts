/** `workers` and `cpus` of `[passthrough]`: how many, where, and what there is to say against a file that asks for others. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatCpus, LAST_CPU, readCpus } from '../../src/config/cpus.ts';
import { type LoadOptions, parseConfig } from '../../src/config/load.ts';
import { check, GOOD, linesOf } from '../lab/config-lines.ts';

const toml = (keys: string) => `${GOOD}[passthrough]\n${keys}\n`;
const passthrough = (keys: string, processors = 2) => parseConfig(toml(keys), 'f', { processors }).config.passthrough;
const ALLOWED = 'allowed: processors, 0–1023, none of them twice, "2-5,8"';

describe('workers', () => {
  it.each([
    [1, 1],
    [2, 1],
    [3, 1],
    [4, 2],
    [9, 4],
    [128, 64],
    [1000, 64],
  ])('on %i processors are %i where nothing is written, or 0', (processors, workers) => {
    expect(passthrough('', processors).workers).toBe(workers);
    expect(passthrough('workers = 0', processors).workers).toBe(workers);
  });

  it.each([1, 4, 64])('are %i where it is written, as in Convey, whatever the host has', (workers) => {
    expect(passthrough(`workers = ${workers}`, 1).workers).toBe(workers);
  });

  it.each([
    ['cpus = "2-5,8"', 5],
    ['workers = 0\ncpus = "7"', 1],
    ['workers = 2\ncpus = "2-5,8"', 2],
    ['workers = 9\ncpus = "2-5,8"', 9],
    [`workers = 3\ncpus = "0-${LAST_CPU}"`, 3],
    ['io = "pcap"', 1],
    ['io = "pcap"\ncpus = "2-5"', 1],
    ['io = "pcap"\nworkers = 1', 1],
    ['connection_tracker_capacity = 3', 3],
    ['connection_tracker_capacity = 3\nio = "pcap"', 1],
  ])('of %s on 100 processors', (keys, workers) => {
    expect(passthrough(keys, 100).workers).toBe(workers);
  });

  it.each([
    ['workers = 65', 'f:4:11: passthrough.workers: 65 is too large; allowed: a whole number, 0–64'],
    ['workers = -1', 'f:4:11: passthrough.workers: -1 is too small; allowed: a whole number, 0–64'],
    [
      'fast_path = "tc"\nio = "pcap"',
      'f:4:13: passthrough.fast_path: "tc": io = "pcap" has no fast path in the kernel; allowed: "off" or "auto"',
    ],
    ['workers = 2\nio = "pcap"', 'f:4:11: passthrough.workers: 2 is too many: io = "pcap" forwards with one worker; allowed: 0 or 1'],
    [
      'connection_tracker_capacity = 3\nworkers = 4',
      'f:4:31: passthrough.connection_tracker_capacity: 3 is less than one for each of 4 workers; needed: at least 4',
    ],
    [
      'connection_tracker_capacity = 3\ncpus = "0-3"',
      'f:4:31: passthrough.connection_tracker_capacity: 3 is less than one for each of 4 workers; needed: at least 4',
    ],
    [
      'cpus = "0-64"',
      'f:4:8: passthrough.cpus: "0-64" names 65 processors, and with workers = 0 each has a worker; allowed: at most 64, or workers = 1–64',
    ],
  ])('%s is refused, in every mode', (keys, line) => {
    for (const mode of [undefined, 'proxy', 'passthrough', 'dsr'] as const) expect(check(toml(keys), mode)).toEqual([line]);
  });
});

describe('cpus', () => {
  it.each([
    ['0', [0]],
    ['2-5,8', [2, 3, 4, 5, 8]],
    ['8,2-3,0', [8, 2, 3, 0]],
    ['4-4', [4]],
    ['1023', [1023]],
  ])('%s is a list, in its own order', (text, cpus) => {
    expect(passthrough(`cpus = "${text}"`).cpus).toEqual(cpus);
  });

  it('are none without the key', () => expect(passthrough('workers = 2').cpus).toBeUndefined());

  it.each([
    ['""', 'is not a list of processors'],
    ['"a"', 'is not a list of processors'],
    ['"-1"', 'is not a list of processors'],
    ['"1,"', 'is not a list of processors'],
    ['"1, 2"', 'is not a list of processors'],
    ['"0-10:2/4"', 'is not a list of processors'],
    ['"0-10:2"', 'is not a list of processors'],
    ['"5-2"', 'has a range that runs backwards, 5-2'],
    ['"1024"', 'goes beyond processor 1023'],
    ['"0-99999999999999999999"', 'goes beyond processor 1023'],
    ['"1,0-3"', 'names processor 1 twice'],
    ['2', 'is a number'],
    ['[2, 3]', 'is an array'],
  ])('= %s is refused', (text, problem) => {
    const shown = text.startsWith('[') ? '' : `${text} `;
    expect(check(toml(`cpus = ${text}`))).toEqual([`f:4:8: passthrough.cpus: ${shown}${problem}; ${ALLOWED}`]);
  });

  it('are read as they are written', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(LAST_CPU), { minLength: 1, maxLength: 100 }), (cpus) => {
        expect(readCpus(formatCpus(cpus))).toEqual({ cpus });
        const sorted = cpus.toSorted((a, b) => a - b);
        expect(readCpus(formatCpus(sorted))).toEqual({ cpus: sorted });
      }),
    );
  });

  it('are ranges where they can be', () => {
    expect([[], [3], [0, 1, 2, 8], [8, 7]].map(formatCpus)).toEqual(['none', '3', '0-2,8', '8,7']);
  });
});

describe('processors of this host', () => {
  const HERE = {
    mode: 'passthrough',
    isOwn: ({ ip }) => ip === '192.0.2.1',
    usableCpus: () => [0, 1, 2, 3, 6],
  } as const satisfies LoadOptions;
  const say = (keys: string, options: LoadOptions = {}) => linesOf(() => parseConfig(toml(keys), 'f', { ...HERE, ...options }));
  const CPUS = 'cpus = "0-7"';
  const REFUSED = 'passthrough.cpus: "0-7": this process may not use 4-5,7, or there is none; allowed here: 0-3,6';

  it('that a packet mode may not be pinned to are refused, and those that it may are named', () => {
    for (const mode of ['passthrough', 'dsr'] as const) expect(say(CPUS, { mode })).toEqual([`f:4:8: ${REFUSED}`]);
    expect(say('cpus = "6,0-3"')).toEqual([]);
    expect(say('workers = 1')).toEqual([]);
  });

  it('are a warning to a lb4 that runs, since it keeps those that it has', () => {
    expect(say(CPUS, { reload: true })).toEqual([`f:4:8: warning: ${REFUSED}; the next start will be refused`]);
  });

  it('do not matter in proxy mode, to io = "pcap", to a file for another host, or where nobody can tell', () => {
    expect(say(`${CPUS}\nio = "pcap"`)).toEqual([]);
    for (const mode of ['proxy', undefined] as const) expect(say(CPUS, { mode })).toEqual([]);
    expect(say(CPUS, { isOwn: () => false })).toEqual([]);
    expect(say(CPUS, { usableCpus: () => undefined })).toEqual([]);
    expect(say(CPUS, { usableCpus: undefined })).toEqual([]);
  });
});
