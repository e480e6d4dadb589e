/** The log's way out: descriptors that are full, gone, or read by nobody. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { LogSink } from '../../src/io/log-sink.ts';
import { waitUntil } from '../lab/wait.ts';

const cleanUps: (() => void)[] = [];
afterEach(() => cleanUps.splice(0).forEach((step) => step()));

const CAPACITY = 65_536;

function openSink(fd: number, capacity = CAPACITY): LogSink {
  const sink = new LogSink(fd, capacity);
  sink.onLoss((lost) => sink.write(`lost ${lost}\n`));
  cleanUps.push(() => sink.close(0));
  return sink;
}

/** A pipe whose reader is this test: what it holds is read when the test says so. */
function pipe() {
  const directory = mkdtempSync(join(tmpdir(), 'lb4-log-'));
  cleanUps.push(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'pipe');
  execFileSync('mkfifo', [path]);
  const attach = () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const reader = attach();
  const writer = openSync(path, 'w');
  cleanUps.push(() => closeSync(writer));
  return { reader, writer, attach };
}

/** What is in the pipe now, at most `most` bytes. */
function read(fd: number, most = 1 << 20): string {
  const buffer = Buffer.alloc(most);
  try {
    return buffer.toString('utf8', 0, readSync(fd, buffer));
  } catch {
    return ''; // EAGAIN
  }
}

/** Reads until `pattern` shows, a piece at a time. */
async function readUntil(fd: number, pattern: RegExp, most?: number): Promise<string> {
  let text = '';
  await waitUntil(() => pattern.test((text += read(fd, most))), { what: `${pattern}`, every: 1 });
  return text;
}

const line = (n: number) => `line ${n} ${'x'.repeat(1000)}\n`;
/** More than the pipe (64 KB) and the sink hold together. */
const MANY = 400;

function logMany(sink: LogSink): void {
  for (let n = 0; n < MANY; n++) sink.write(line(n));
}

test('a pipe that nobody reads: nobody waits, what waits is bounded, the rest is counted; read again, it says how many are missing', async () => {
  const { reader, writer } = pipe();
  const sink = openSink(writer);
  logMany(sink);
  const { lost } = sink;
  expect(lost).toBeGreaterThan(MANY - 2 * (CAPACITY / 1000) - 2);
  const text = await readUntil(reader, /lost \d+\n/);
  const lines = text.split('\n');
  expect(lines.at(-2)).toBe(`lost ${lost}`);
  // Those that found room, in order: while the pipe was filling, more of them than the first.
  const numbers = lines.slice(0, -2).map((one) => Number(/^line (\d+) x{1000}$/.exec(one)?.[1]));
  expect(numbers).toHaveLength(MANY - lost);
  expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
  sink.write('after\n');
  expect(await readUntil(reader, /\n/)).toBe('after\n');
  closeSync(reader);
});

test('a reader that goes and another that comes: lines in between are lost and counted', async () => {
  const { reader, writer, attach } = pipe();
  const sink = openSink(writer);
  closeSync(reader);
  for (let n = 0; n < 3; n++) sink.write(line(n));
  await waitUntil(() => sink.lost === 3, { what: 'three lost lines' });
  const second = attach();
  expect(await readUntil(second, /\n/)).toBe('lost 3\n');
  sink.write('after\n');
  expect(await readUntil(second, /\n/)).toBe('after\n');
  expect(sink.lost).toBe(3);
  closeSync(second);
});

test('a very slow reader gets everything in order while there is room', async () => {
  const { reader, writer } = pipe();
  const sink = openSink(writer, 1 << 20);
  const lines = Array.from({ length: 100 }, (_, n) => line(n));
  for (const one of lines) sink.write(one);
  expect(await readUntil(reader, /line 99 x+\n/, 4096)).toBe(lines.join(''));
  expect(sink.lost).toBe(0);
  closeSync(reader);
});

test.each([
  ['a full disk', () => openSync('/dev/full', 'w')],
  ['a descriptor that is only read', () => openSync('/dev/null', 'r')],
])('%s: every line is lost and counted, none throws', async (_, open) => {
  const fd = open();
  const sink = openSink(fd);
  closeSync(fd); // it has its own
  for (let n = 0; n < 5; n++) expect(sink.write(line(n))).toBeUndefined();
  await waitUntil(() => sink.lost === 5, { what: 'five lost lines' });
});

test('a line longer than all there is room for is lost alone', async () => {
  const { reader, writer } = pipe();
  const sink = openSink(writer);
  sink.write('x'.repeat(CAPACITY + 1));
  sink.write('short\n');
  expect(sink.lost).toBe(1);
  expect(await readUntil(reader, /lost 1\n/)).toContain('short\n');
  closeSync(reader);
});

test('a pipe that others have set O_NONBLOCK is waited for, and its flags stay as they are', async () => {
  const { reader, writer } = pipe();
  const { O_WRONLY, O_NONBLOCK } = constants;
  const nonBlocking = openSync(`/proc/self/fd/${writer}`, O_WRONLY | O_NONBLOCK);
  const flagsOf = (fd: number) => /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  const flags = [writer, nonBlocking].map(flagsOf);
  for (const fd of [nonBlocking, writer]) {
    const sink = openSink(fd, 1 << 20);
    for (let n = 0; n < 100; n++) sink.write(line(n));
    expect(await readUntil(reader, /line 99 x+\n/)).toHaveLength(Array.from({ length: 100 }, (_, n) => line(n)).join('').length);
    expect(sink.lost).toBe(0);
  }
  expect([writer, nonBlocking].map(flagsOf)).toEqual(flags);
  writeSync(nonBlocking, 'x');
  closeSync(nonBlocking);
  closeSync(reader);
});
