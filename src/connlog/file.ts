/** The connection log as a file, which others move away (logrotate), delete, or leave no room for. A thread of its own writes it. */
import { closeSync, constants, fstatSync, openSync, type Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { getSystemErrorMap } from 'node:util';
import { messageOf } from '../errors.ts';
import { type LogWriter, native } from '../io/native.ts';
import type { Destination } from './destination.ts';

const { O_WRONLY, O_APPEND, O_CREAT, O_NOCTTY, O_NONBLOCK } = constants;
/** Bytes that may wait, some 8,000 lines. */
const CAPACITY = 2 ** 21;
const TOO_SLOW = 'it takes lines more slowly than they come';

export class LogFile implements Destination {
  readonly name: string;
  #writer: LogWriter | undefined;
  #opened: Pick<Stats, 'dev' | 'ino'> | undefined;
  #lost = 0;
  #trouble: string | undefined;
  #isLooking = false;
  #isClosed = false;

  /** Opens it, or tries again later. */
  constructor(path: string) {
    this.name = path;
    this.reopen();
  }

  write(line: string): void {
    if (this.#writer === undefined) this.#lost++;
    else this.#trouble = this.#writer.write(`${line}\n`, false) ? undefined : TOO_SLOW;
  }

  get lost(): number {
    return this.#lost + (this.#writer?.counters().lost ?? 0);
  }

  get trouble(): string | undefined {
    const { error } = this.#writer?.counters() ?? { error: 0 };
    return error === 0 ? this.#trouble : textOf(error);
  }

  look(): void {
    if (this.#writer === undefined) this.reopen();
    else void this.#compare();
  }

  /** The file that is there now, made where there is none. */
  reopen(): void {
    let fd: number | undefined;
    try {
      // Without waiting: it may be a pipe that nobody reads, which is none for a log.
      fd = openSync(this.name, O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_NONBLOCK, 0o600);
      const opened = fstatSync(fd);
      if (!opened.isFile()) throw new Error(`${this.name} is no regular file`);
      const writer = new (native().LogWriter)(fd, CAPACITY);
      this.#end();
      this.#writer = writer;
      this.#opened = opened;
      this.#trouble = undefined;
    } catch (error) {
      this.#end();
      this.#trouble = messageOf(error);
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  close(timeoutMs: number): void {
    this.#isClosed = true;
    this.#writer?.drain(timeoutMs);
    this.#end();
  }

  /** Not by a call that waits: the file may be on another host, which is gone. */
  async #compare(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const there = await stat(this.name).catch(() => undefined);
    this.#isLooking = false;
    const isSame = there?.ino === this.#opened?.ino && there?.dev === this.#opened?.dev;
    if (!isSame && !this.#isClosed) this.reopen();
  }

  /** What waits is still written. */
  #end(): void {
    if (this.#writer === undefined) return;
    this.#lost += this.#writer.counters().lost;
    this.#writer.close();
    this.#writer = undefined;
  }
}

/** `ENOSPC: no space left on device` */
function textOf(errno: number): string {
  return getSystemErrorMap().get(-errno)?.join(': ') ?? `errno ${errno}`;
}
