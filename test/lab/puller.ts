/**
 * The client of transfers.ts: downloads that are looked at while they run.
 *
 *     puller.js COUNT http://HOST/PATH    COUNT at once. `running` once each has got something; a line on standard input is answered by
 *                                         a Progress; at the end a TransferReport
 */
import { createHash } from 'node:crypto';
import { get } from 'node:http';
import { createInterface } from 'node:readline';

export interface Progress {
  /** The longest time, in milliseconds, that one of them has got nothing since the last such answer. */
  readonly longest: number;
  /** Bytes that the slowest of those that run has got. */
  readonly least: number;
}

export interface TransferReport {
  /** Of what each one got, SHA-256 in hexadecimal; or what went wrong. */
  readonly hashes: string[];
  /** Milliseconds, as in a Progress. */
  readonly longest: number;
}

const [count = '1', url = ''] = process.argv.slice(2);
/** When each of those that run has got something last. */
const last = new Map<number, number>();
/** What each of those that run has got. */
const got = new Map<number, number>();
let longest = 0;

function longestSoFar(): number {
  const told = Math.round(longest);
  longest = 0;
  return told;
}

function look(index: number, now: number): void {
  longest = Math.max(longest, now - (last.get(index) ?? now));
}

function transfer(index: number): Promise<string> {
  return new Promise((resolve) => {
    const end = (how: string): void => {
      last.delete(index);
      got.delete(index);
      resolve(how);
    };
    const request = get(url, { agent: false }, (response) => {
      const hash = createHash('sha256');
      response.on('data', (piece: Buffer) => {
        const now = performance.now();
        look(index, now);
        if (!last.has(index) && last.size + 1 === Number(count)) process.stdout.write('running\n');
        last.set(index, now);
        got.set(index, (got.get(index) ?? 0) + piece.length);
        hash.update(piece);
      });
      response.on('end', () => end(hash.digest('hex')));
      response.on('error', (error) => end(error.message));
    });
    request.on('error', (error) => end(error.message));
  });
}

createInterface({ input: process.stdin }).on('line', () => {
  const now = performance.now();
  for (const index of last.keys()) look(index, now);
  const progress: Progress = { longest: longestSoFar(), least: Math.min(...got.values()) };
  process.stdout.write(`${JSON.stringify(progress)}\n`);
});

const hashes = await Promise.all(Array.from({ length: Number(count) }, (_, index) => transfer(index)));
process.stdout.write(`${JSON.stringify({ hashes, longest: longestSoFar() } satisfies TransferReport)}\n`);
process.exit(0);
