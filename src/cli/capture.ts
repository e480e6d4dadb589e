/** `lb4 capture`: packets of a running lb4, as they came in and as they went out, with what became of them. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import type { Writable } from 'node:stream';
import type { Command } from 'commander';
import type { FlowFilter } from '../control/orders.ts';
import { FailureError, messageOf, UsageError } from '../errors.ts';
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
  let response: IncomingMessage | undefined;
  try {
    response = await begin({ ...reach, signal: ending.signal }, query);
    // Not before there is something for it: it takes the place of a file that is there.
    const out = response && (await Output.open(write, end));
    if (response === undefined || out === undefined) return;
    process.stderr.write(told(`capturing${write === undefined || write === '-' ? '' : ` to ${write}`}; Ctrl-C ends it`));
    await copy(response, out, write === undefined, ending.signal);
  } finally {
    // Or it would hold the only capture, and this process.
    response?.destroy();
    for (const signal of ENDS) process.off(signal, end);
  }
}

/** Undefined: it was ended before it began. */
async function begin(reach: Reach & { readonly signal: AbortSignal }, query: Readonly<Record<string, unknown>>) {
  try {
    return await listen(reach, '/v1/capture', query);
  } catch (error) {
    if (reach.signal.aborted) return undefined;
    throw error;
  }
}

/**
 * Whole blocks alone: whenever it ends, what was written can be read.
 * @param ending aborted where it is ended from here: that is no failure
 */
async function copy(response: IncomingMessage, out: Output, asLines: boolean, ending: AbortSignal): Promise<void> {
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
  if (failure !== undefined && !ending.aborted) throw new FailureError(`the lb4 that was asked has ended: ${messageOf(failure)}`);
}

function summarise({ packets, lost, note }: CaptureLines): void {
  process.stderr.write(told(`${packets} packets captured`));
  if (lost > 0) warnOnStderr(`${lost} more were lost: they came faster than they were read`);
  if (note !== undefined) warnOnStderr(note);
}

/** A file, or standard output, which stays open: others may have more to say there. */
class Output {
  readonly #stream: Writable;
  /** One for all that wait: each listener of their own would stay. */
  readonly #over: Promise<void>;
  #error: Error | undefined;
  #isOver = false;

  private constructor(stream: Writable, over: () => void) {
    this.#stream = stream;
    stream.on('error', (error: Error) => (this.#error = error));
    this.#over = new Promise((resolve) => {
      for (const event of ['error', 'close'] as const)
        stream.once(event, () => {
          this.#isOver = true;
          over();
          resolve();
        });
    });
  }

  /** @param over called where it takes nothing more: whoever reads has seen enough, or a file has no room */
  static async open(write: string | undefined, over: () => void): Promise<Output> {
    if (write === undefined || write === '-') return new Output(process.stdout, over);
    // What clients send is for nobody else's eyes.
    const file = createWriteStream(write, { mode: 0o600 });
    try {
      await once(file, 'open');
    } catch (error) {
      throw new FailureError(`${write}: ${messageOf(error)}`, { cause: error });
    }
    return new Output(file, over);
  }

  async write(what: string | Buffer | undefined): Promise<void> {
    if (what === undefined || this.#isOver || this.#stream.write(what)) return;
    const drained = new Promise<void>((resolve) => void this.#stream.once('drain', resolve));
    await Promise.race([drained, this.#over]);
  }

  /** Rejects where not all of it could be written. */
  async close(): Promise<void> {
    if (this.#stream !== process.stdout && !this.#isOver) await new Promise<void>((resolve) => this.#stream.end(resolve));
    const { code, message } = (this.#error ?? {}) as NodeJS.ErrnoException;
    if (message !== undefined && code !== 'EPIPE') throw new FailureError(`what was captured could not be written: ${message}`);
  }
}
