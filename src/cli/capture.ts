/** `lb4 capture`: packets of a running lb4, as they came in and as they went out, with what became of them. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import type { Writable } from 'node:stream';
import type { Command } from 'commander';
import type { FlowFilter } from '../control/orders.ts';
import { FailureError, Lb4Error, messageOf, UsageError } from '../errors.ts';
import { Blocks, CaptureLines } from './capture-lines.ts';
import { controlCommand, listen, type Reach } from './control-client.ts';
import { withFilters } from './flows.ts';
import { told, warnOnStderr } from './lines.ts';
import { withExamples } from './manual.ts';

interface CaptureOptions extends Reach, FlowFilter {
  readonly write?: string | undefined;
  readonly count?: string | undefined;
  readonly snaplen?: string | undefined;
}

/** Bytes of a packet, unless told: a whole one of a usual link, and for lines all that they show. */
const SNAPLEN = { file: 1600, lines: 128 } as const;
const ENDS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** The command, for the program to add. */
export function captureCommand(): Command {
  const command = withFilters(controlCommand('capture', 'capture packets that come in and go out, with what became of them'))
    .option('-w, --write <file>', 'write pcapng to a file for tshark or Wireshark, "-" to standard output; without: a line a packet')
    .option('--count <number>', 'so many packets, and out')
    .option('--snaplen <bytes>', `bytes of each packet that are kept (default: ${SNAPLEN.file}, of lines ${SNAPLEN.lines})`)
    .action(async ({ write, count, server, client, frontend, ...options }: CaptureOptions) => {
      const snaplen = options.snaplen ?? (write === undefined ? SNAPLEN.lines : SNAPLEN.file);
      if (write === '') throw new UsageError('--write= names no file');
      if (write === '-' && process.stdout.isTTY) throw new UsageError('standard output is a terminal, and pcapng is not for one: -w FILE');
      await capture(options, { server, client, frontend, count, snaplen }, write);
    });
  return withExamples(command, {
    'lb4 capture --client 192.0.2.7': 'what a client sends and gets, a line a packet',
    'lb4 capture --frontend web --count 1000 -w web.pcapng': 'for Wireshark',
    'lb4 capture -w - --count 100 >all.pcapng': 'the same to standard output, or a pipe',
  });
}

async function capture(reach: Reach, query: Readonly<Record<string, unknown>>, write: string | undefined): Promise<void> {
  const ending = new AbortController();
  const end = () => ending.abort();
  for (const signal of ENDS) process.once(signal, end);
  try {
    const response = await listen({ ...reach, signal: ending.signal }, '/v1/capture', query);
    const out = await Output.open(write, end);
    process.stderr.write(told(`capturing${write === undefined || write === '-' ? '' : ` to ${write}`}; Ctrl-C ends it`));
    await copy(response, out, write === undefined);
  } catch (error) {
    if (error instanceof Lb4Error && !ending.signal.aborted) throw error;
  } finally {
    for (const signal of ENDS) process.off(signal, end);
  }
}

/** Whole blocks alone: whenever it ends, what was written can be read. */
async function copy(response: IncomingMessage, out: Output, asLines: boolean): Promise<void> {
  const blocks = new Blocks();
  const lines = new CaptureLines();
  let failure: unknown;
  try {
    for await (const part of response)
      for (const block of blocks.take(part as Buffer)) {
        const line = lines.take(block);
        await out.write(asLines ? line : block);
      }
  } catch (error) {
    failure = error;
  }
  await out.close();
  summarise(lines);
  if (!out.isOver && failure !== undefined && !isAbort(failure))
    throw new FailureError(`the lb4 that was asked has ended: ${messageOf(failure)}`);
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

function summarise({ packets, lost, note }: CaptureLines): void {
  process.stderr.write(told(`${packets} packets captured`));
  if (lost > 0) warnOnStderr(`${lost} more were lost: they came faster than they were read`);
  if (note !== undefined) warnOnStderr(note);
}

/** A file, or standard output, which stays open: others may have more to say there. */
class Output {
  readonly #stream: Writable;
  #error: Error | undefined;
  #isOver = false;

  private constructor(stream: Writable, over: () => void) {
    this.#stream = stream;
    stream.on('error', (error: Error) => (this.#error = error));
    for (const event of ['error', 'close'] as const)
      stream.once(event, () => {
        this.#isOver = true;
        over();
      });
  }

  /** @param over called where it takes nothing more: whoever reads has seen enough, or a file has no room */
  static async open(write: string | undefined, over: () => void): Promise<Output> {
    if (write === undefined || write === '-') return new Output(process.stdout, over);
    const file = createWriteStream(write);
    try {
      await once(file, 'open');
    } catch (error) {
      throw new FailureError(`${write}: ${messageOf(error)}`, { cause: error });
    }
    return new Output(file, over);
  }

  /** It takes nothing more. */
  get isOver(): boolean {
    return this.#isOver;
  }

  async write(what: string | Buffer | undefined): Promise<void> {
    if (what === undefined || this.#isOver || this.#stream.write(what)) return;
    await Promise.race([once(this.#stream, 'drain'), once(this.#stream, 'close')]);
  }

  /** Rejects where not all of it could be written. */
  async close(): Promise<void> {
    if (this.#stream !== process.stdout && !this.#isOver) await new Promise<void>((resolve) => this.#stream.end(resolve));
    const { code, message } = (this.#error ?? {}) as NodeJS.ErrnoException;
    if (message !== undefined && code !== 'EPIPE') throw new FailureError(`what was captured could not be written: ${message}`);
  }
}
