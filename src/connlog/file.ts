/** The connection log as a file, which others move away (logrotate), delete, or leave no room for. A thread of its own writes it. */
import { closeSync, constants, fstatSync, openSync, type Stats, statSync } from 'node:fs';
import { type FileHandle, lstat, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { getSystemErrorMap } from 'node:util';
import { messageOf } from '../errors.ts';
import { type LogWriter, native } from '../io/native.ts';
import type { Destination } from './destination.ts';

const { O_WRONLY, O_APPEND, O_CREAT, O_NOCTTY, O_NONBLOCK, O_NOFOLLOW } = constants;
/** Without waiting: it may be a pipe that nobody reads, which is none for a log. */
const FLAGS = O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW;
const MODE = 0o600;
const WRITABLE_BY_ALL = 0o002;
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
    if (!this.#isLooking) void this.#look();
  }

  /** The file that is there now, made where there is none. */
  reopen(): void {
    let fd: number | undefined;
    try {
      assertSafe(dirname(this.name), statSync(dirname(this.name)));
      fd = openSync(this.name, FLAGS, MODE);
      this.#take(fd, fstatSync(fd));
    } catch (error) {
      this.#fail(error);
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  close(timeoutMs: number): void {
    this.#isClosed = true;
    this.#writer?.drain(timeoutMs);
    this.#end();
  }

  /** Not by calls that wait: the file may be on another host, which is gone. */
  async #look(): Promise<void> {
    this.#isLooking = true;
    const there = this.#writer && (await lstat(this.name).catch(() => undefined));
    const isSame = there !== undefined && there.ino === this.#opened?.ino && there.dev === this.#opened.dev;
    if (!isSame) await this.#openAgain();
    this.#isLooking = false;
  }

  async #openAgain(): Promise<void> {
    const before = this.#writer;
    // Somebody may have asked for another one meanwhile.
    const isOver = () => this.#isClosed || this.#writer !== before;
    let handle: FileHandle | undefined;
    try {
      assertSafe(dirname(this.name), await stat(dirname(this.name)));
      handle = await open(this.name, FLAGS, MODE);
      const opened = await handle.stat();
      if (!isOver()) this.#take(handle.fd, opened);
    } catch (error) {
      if (!isOver()) this.#fail(error);
    } finally {
      await handle?.close().catch(() => undefined);
    }
  }

  /** @param fd stays the caller's */
  #take(fd: number, opened: Stats): void {
    assertOwn(this.name, opened);
    const writer = new (native().LogWriter)(fd, CAPACITY);
    this.#end();
    this.#writer = writer;
    this.#opened = opened;
    this.#trouble = undefined;
  }

  #fail(error: unknown): void {
    this.#end();
    const isLink = (error as NodeJS.ErrnoException).code === 'ELOOP';
    this.#trouble = isLink ? `${this.name} is a symbolic link; needed: the file itself` : messageOf(error);
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

/**
 * Whoever may put a link in its place would have lb4 write into another file. A group may: /var/log is its syslog's on some hosts, and what it
 * puts there is refused.
 */
function assertSafe(directory: string, { uid, mode }: Stats): void {
  if (!isTrusted(uid)) throw new Error(`${directory} belongs to user ${uid}: it must be of root, or of lb4's own user`);
  if ((mode & WRITABLE_BY_ALL) !== 0) throw new Error(`${directory} is writable by everybody: chmod o-w, or another place for the log`);
}

/** Neither another user's, nor another file's second name. */
function assertOwn(path: string, file: Stats): void {
  if (!file.isFile()) throw new Error(`${path} is no regular file`);
  if (!isTrusted(file.uid)) throw new Error(`${path} belongs to user ${file.uid}: it must be of root, or of lb4's own user`);
  if (file.nlink > 1) throw new Error(`${path} has other names (hard links): the log needs a file of its own`);
}

function isTrusted(uid: number): boolean {
  return uid === 0 || uid === process.geteuid?.();
}
