/**
 * Tells when a configuration file may have changed, however that is done: written in place, renamed over, deleted and made
 * anew, or by a symbolic link or directory on the way to it that is exchanged, as Kubernetes does with a ConfigMap
 * (lb4.toml → ..data/lb4.toml, ..data → ..2026_11_21, which is renamed over).
 *
 * Not chokidar: tried, version 5.0.0 sees nothing when a link to another directory is exchanged, or the directory itself.
 */
import { createHash } from 'node:crypto';
import { type FSWatcher, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { readRegular } from './read/file.ts';
import { eachLookup } from './read/lookups.ts';

/** The file is looked at so long after the last notice … */
const QUIET_MS = 100;
/** … but while notices go on, after so long. */
const LONGEST_MS = 1000;
/**
 * A file that is written in place tells nobody when it is whole: it may be closed and opened again for its second half. It is taken
 * as it is when it has been still for so long …
 */
const STILL_MS = 2000;
/** … or has not been for so long, lest one that is written without end is never taken. */
const RESTLESS_MS = 30_000;
/** Where inotify is not to be had. */
const POLL_MS = 2000;

export interface WatchOptions {
  /** Gets a line when lb4 must poll, since the kernel gives it no (further) inotify watch. */
  readonly log?: ((message: string) => void) | undefined;
  /** Instead of two seconds, for tests. */
  readonly stillMs?: number | undefined;
}

/** Ends the watching; `changed` is not called any more. */
export interface Watching {
  close(): void;
}

/**
 * Calls `changed` when the content of the file at `path` differs from what it was at the last call, or when watching began: so
 * begin before you read it. A file that vanishes is a change, too; a file whose content stays is none. What is exchanged in one step (a
 * rename, a link) is told about 100 ms later; what is written in place, or vanishes, once it has been still for two seconds, at the
 * latest after 30. Whatever was written last is told, unless it is what was told before. What another host writes to a shared file
 * system is not seen. Keeps the process alive until `close()`.
 */
export function watchConfig(path: string, changed: () => void, { log, stillMs = STILL_MS }: WatchOptions = {}): Watching {
  const watchers = new Watchers(path, touched, log);
  let timer: NodeJS.Timeout | undefined;
  let firstTouch = 0;
  watchers.renew();
  let told = stateOf(path);
  /** A content that is not told yet, since when it is so, and since when none was told. */
  let pending: { readonly state: FileState; readonly since: number; readonly first: number } | undefined;
  /** Somebody wrote to the file under its name since `told`. */
  let isWritten = false;

  function touched(event: 'change' | 'rename'): void {
    const now = performance.now();
    isWritten ||= event === 'change';
    firstTouch ||= now;
    lookIn(Math.min(QUIET_MS, firstTouch + LONGEST_MS - now));
  }

  function lookIn(ms: number): void {
    clearTimeout(timer);
    timer = setTimeout(look, Math.max(0, ms));
  }

  function look(): void {
    firstTouch = 0;
    // First watch, then read: what changes in between is read now, what changes later is told.
    watchers.renew();
    const state = stateOf(path);
    if (state.hash === told.hash) return settle(state);
    const now = performance.now();
    if (pending?.state.stamp !== state.stamp) pending = { state, since: now, first: pending?.first ?? now };
    const { since, first } = pending;
    const due = isExchanged(state) ? now : Math.min(since + stillMs, first + RESTLESS_MS);
    if (now < due) return lookIn(due - now);
    settle(state);
    changed();
  }

  function settle(state: FileState): void {
    told = state;
    pending = undefined;
    isWritten = false;
  }

  /** Another file than before, and whole: not one that was made in its place a moment ago and is still being written. */
  function isExchanged({ file, size }: FileState): boolean {
    return !isWritten && size > 0 && file !== told.file;
  }

  return {
    close() {
      clearTimeout(timer);
      watchers.close();
    },
  };
}

/** Watches every directory on the way to a file, for the names looked up there, and the file. */
class Watchers {
  readonly #path: string;
  readonly #touched: (event: 'change' | 'rename') => void;
  readonly #log: WatchOptions['log'];
  #watchers: FSWatcher[] = [];
  #poll: NodeJS.Timeout | undefined;

  constructor(path: string, touched: (event: 'change' | 'rename') => void, log: WatchOptions['log']) {
    this.#path = path;
    this.#touched = touched;
    this.#log = log;
  }

  /** Watches the way as it is now: inotify watches what a path meant, not what it means after a rename. */
  renew(): void {
    this.#closeAll();
    if (this.#poll !== undefined) return;
    try {
      let file = this.#path;
      eachLookup(this.#path, (directory, name) => {
        this.#watch(directory, name);
        file = join(directory, name);
      });
      // A file that is bind mounted, or has a second name elsewhere, may be written without its directory hearing of it.
      this.#watch(file);
    } catch (error) {
      this.#closeAll();
      this.#startPoll(error as NodeJS.ErrnoException);
    }
  }

  close(): void {
    this.#closeAll();
    clearInterval(this.#poll);
  }

  #watch(path: string, name?: string): void {
    try {
      const watcher = watch(path, (event, changedName) => {
        // A file's own watch also hears of its end, as a change of its link count. Null where the kernel does not say which.
        if (name === undefined) this.#touched('rename');
        else if (changedName === null || changedName === name) this.#touched(event);
      });
      watcher.on('error', () => this.#touched('change'));
      this.#watchers.push(watcher);
    } catch (error) {
      // What does not exist is noticed in the directory above once it does.
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'ELOOP') throw error;
    }
  }

  /** Not fs.watchFile(): it compares times, and a file may be written twice within one tick of the kernel's clock. */
  #startPoll({ code }: NodeJS.ErrnoException): void {
    this.#log?.(`${this.#path} cannot be watched (${code}); it is looked at every ${POLL_MS / 1000} s instead`);
    this.#poll = setInterval(() => this.#touched('rename'), POLL_MS);
  }

  #closeAll(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
  }
}

interface FileState {
  /** Which file it is; empty where there is none that a reload would read. */
  readonly file: string;
  readonly size: number;
  readonly hash: string;
  /** Differs after every write, also of the same content. */
  readonly stamp: string;
}

function stateOf(path: string): FileState {
  try {
    const stat = statSync(path, { bigint: true });
    const { dev, ino, birthtimeNs, size, mtimeNs, ctimeNs } = stat;
    // A pipe is not even opened: its content, and its writer's wait, are for whoever reads it at the start.
    if (!stat.isFile()) return NO_FILE;
    const hash = createHash('sha256').update(readRegular(path)).digest('hex');
    // With its birth (0 where a file system keeps none): ext4 gives the number of a file that was replaced to the next one at once.
    const file = `${dev} ${ino} ${birthtimeNs}`;
    return { file, size: Number(size), hash, stamp: `${file} ${mtimeNs} ${ctimeNs} ${hash}` };
  } catch {
    return NO_FILE;
  }
}

const NO_FILE: FileState = { file: '', size: 0, hash: '', stamp: '' };
