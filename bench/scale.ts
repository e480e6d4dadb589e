/**
 * What the core costs at 1,000 … 10 million established connections, table and records as large as lb4 makes them for so many, in a file as
 * lb4's own: nanoseconds a packet of random connections; bytes of memory a connection; milliseconds of processor time that one sweep of all
 * connections takes (of many a part is swept, and the rest reckoned); milliseconds that another process takes to map the memory and
 * recover the connections, once that process is there. Each run is a process of its own, and runs of the sizes alternate; filling a table of
 * a million takes longer than to measure, so that of those one process measures several times. Prints a table, and draws docs/scale.svg where
 * asked (`scale.js draw`).
 */
import { execFileSync } from 'node:child_process';
import { constants, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { recover } from '../src/engine/recovery.ts';
import { tableCapacity } from '../src/flow/table.ts';
import { Ways } from '../src/forward/ways.ts';
import { native } from '../src/io/native.ts';
import { memoryIn, memorySize, type Room } from '../src/layout/memory.ts';
import { chart } from './chart.ts';
import { build, coreOver, run, serviceSet } from './established.ts';
import { median, root, spread, table, threadTime } from './measure.ts';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

const SIZES = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const RUNS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const ROUNDS = 20;
/** Connections of a sweep that are measured at most. */
const SWEPT = 1 << 19;
/** The kernel brings a thread's time up to date every few milliseconds. */
const LEAST_MS = 50;
const WARM_UP = 100;
const ONCE_FROM = 1_000_000;

interface Run {
  /** Nanoseconds. */
  readonly packet: number;
  /** Of all arrays. */
  readonly bytes: number;
  /** Milliseconds. */
  readonly sweep: number;
  /** Milliseconds. */
  readonly recovery: number;
}

/** The descriptor of the memory in a process that recovers from it. */
const MEMORY_FD = 3;
const PAGE_WORDS = 1024;

function roomFor(connections: number): Room {
  return { connections, capacity: tableCapacity(connections), workers: 1 };
}

/** So many measurements of a core with so many connections. */
function measure(connections: number, count: number): Run[] {
  const room = roomFor(connections);
  const shared = memorySize(room);
  const fd = openMemory(shared);
  globalThis.gc?.();
  const before = process.memoryUsage().arrayBuffers;
  const bench = build(connections, memoryIn(native().mapSharedMemory(fd), room, 0));
  globalThis.gc?.();
  const bytes = shared + process.memoryUsage().arrayBuffers - before - bench.leaving.byteLength;
  const { core } = bench;
  run(bench, ROUNDS);
  const end = core.records.capacity;
  const part = Math.min(end, SWEPT);
  for (let i = 0; i < WARM_UP; i++) core.sweep.visit(0, Math.min(end, 1 << 14), end, 0);
  const results: Run[] = [];
  for (let i = 0; i < count; i++) {
    const packet = median(run(bench, ROUNDS));
    // Each time another part.
    const first = Math.floor(((end - part) * i) / count);
    const start = threadTime();
    let sweeps = 0;
    do {
      core.sweep.visit(first, part, part, 0);
      sweeps++;
    } while (threadTime() - start < LEAST_MS);
    const sweep = ((threadTime() - start) / sweeps) * (end / part);
    results.push({ packet, bytes, sweep, recovery: Number(child(['recover', `${connections}`], fd)) });
  }
  return results;
}

/** A file on a tmpfs as lb4's own (io/kept-files.ts): such memory has huge pages where there are any. It goes with its last descriptor. */
function openMemory(bytes: number): number {
  const path = `/dev/shm/lb4-bench-${process.pid}`;
  const fd = openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    native().allocateFile(fd, bytes);
    return fd;
  } finally {
    rmSync(path);
  }
}

/** As a worker does that goes on with the memory of one that died (engine/worker.ts). Returns milliseconds. */
function recoverFrom(connections: number): number {
  const set = serviceSet(connections);
  const start = performance.now();
  const mapping = native().mapSharedMemory(MEMORY_FD);
  const words = new Int32Array(mapping, 0, mapping.byteLength >>> 2);
  for (let at = 0; at < words.length; at += PAGE_WORDS) Atomics.load(words, at);
  const { core } = coreOver(memoryIn(mapping, roomFor(connections), 0));
  const hops = new Ways().apply(set);
  core.services.apply(set, hops);
  const recovered = recover(core, set, hops, 0);
  const spent = performance.now() - start;
  if (recovered !== connections) throw new Error(`only ${recovered} connections were recovered`);
  return spent;
}

function child(call: readonly string[], memory?: number): string {
  const arguments_ = ['--max-old-space-size=8192', '--expose-gc', fileURLToPath(import.meta.url), ...call];
  return execFileSync(process.execPath, arguments_, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit', memory] });
}

function measured(connections: number, count: number): Run[] {
  return JSON.parse(child(['measure', `${connections}`, `${count}`])) as Run[];
}

function main(draw: boolean): void {
  const runs = new Map(SIZES.map((size) => [size, [] as Run[]]));
  for (let i = 0; i < RUNS; i++) for (const size of SIZES.filter((one) => one < ONCE_FROM)) runs.get(size)?.push(...measured(size, 1));
  for (const size of SIZES.filter((one) => one >= ONCE_FROM)) runs.get(size)?.push(...measured(size, RUNS));
  // What one costs does not grow with connections.
  const [{ bytes: least }] = measured(1, 1);
  const of = (size: number, key: keyof Run) => (runs.get(size) ?? []).map((one) => one[key]);
  console.log(`medians of ${RUNS} runs (least–most); the ratio is to ${SIZES[0].toLocaleString('en')} connections`);
  table([
    ['connections', 'ns a packet', 'ratio', 'bytes a connection', 'ms a sweep', 'ms to recover'],
    ...SIZES.map((size) => [
      size.toLocaleString('en'),
      spread(of(size, 'packet')),
      (median(of(size, 'packet')) / median(of(SIZES[0], 'packet'))).toFixed(2),
      ((median(of(size, 'bytes')) - least) / size).toFixed(0),
      spread(of(size, 'sweep')),
      spread(of(size, 'recovery')),
    ]),
  ]);
  if (!draw) return;
  const points = (key: keyof Run) =>
    SIZES.map((size) => ({ x: size, y: median(of(size, key)), low: Math.min(...of(size, key)), high: Math.max(...of(size, key)) }));
  const panels = [
    { title: 'nanoseconds a packet', points: points('packet') },
    { title: 'milliseconds a sweep', points: points('sweep') },
    { title: 'milliseconds to recover', points: points('recovery') },
  ];
  writeFileSync(join(root, 'docs/scale.svg'), chart(`connections; medians and spread of ${RUNS} runs`, panels));
}

const [, , command = '', connections = '', count = ''] = process.argv;
if (command === 'measure') console.log(JSON.stringify(measure(Number(connections), Number(count))));
else if (command === 'recover') console.log(recoverFrom(Number(connections)));
else main(command === 'draw');
