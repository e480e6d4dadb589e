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
import { readRegular } from './file.ts';
import { eachLookup } from './lookups.ts';

/** A change is told after so long without another one … */
const QUIET_MS = 100;
/** … but while changes go on, after so long. */
const LONGEST_MS = 1000;
/** Where inotify is not to be had. */
const POLL_MS = 2000;

export interface WatchOptions {
  /** Gets a line when lb4 must poll, since the kernel gives it no (further) inotify watch. */
  readonly log?: ((message: string) => void) | undefined;
}

/** Ends the watching; `changed` is not called any more. */
export interface Watching {
  close(): void;
}

/**
 * Calls `changed` when the content of the file at `path` differs from what it was at the last call, or when watching began: so
 * begin before you read it. A file that vanishes is a change, too; a file whose content stays is none. It comes about 100 ms after
 * the last of several changes, and at least once a second while they go on. Whatever was written last is told, unless it is what
 * was told before. What another host writes to a shared file system is not seen. Keeps the process alive until `close()`.
 */
export function watchConfig(path: string, changed: () => void, { log }: WatchOptions = {}): Watching {
  const watchers = new Watchers(path, touched, log);
  let timer: NodeJS.Timeout | undefined;
  let firstTouch = 0;
  watchers.renew();
  let content = contentHash(path);

  function touched(): void {
    const now = performance.now();
    if (timer === undefined) firstTouch = now;
    clearTimeout(timer);
    timer = setTimeout(settled, Math.max(0, Math.min(QUIET_MS, firstTouch + LONGEST_MS - now)));
  }

  function settled(): void {
    timer = undefined;
    // First watch, then read: what changes in between is read now, what changes later is told.
    watchers.renew();
    const last = content;
    content = contentHash(path);
    if (content !== last) changed();
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
  private readonly path: string;
  private readonly touched: () => void;
  private readonly log: WatchOptions['log'];
  private watchers: FSWatcher[] = [];
  private poll: NodeJS.Timeout | undefined;

  constructor(path: string, touched: () => void, log: WatchOptions['log']) {
    this.path = path;
    this.touched = touched;
    this.log = log;
  }

  /** Watches the way as it is now: inotify watches what a path meant, not what it means after a rename. */
  renew(): void {
    this.closeAll();
    if (this.poll !== undefined) return;
    try {
      let file = this.path;
      eachLookup(this.path, (directory, name) => {
        this.watch(directory, name);
        file = join(directory, name);
      });
      // A file that is bind mounted, or has a second name elsewhere, may be written without its directory hearing of it.
      this.watch(file);
    } catch (error) {
      this.closeAll();
      this.startPoll(error as NodeJS.ErrnoException);
    }
  }

  close(): void {
    this.closeAll();
    clearInterval(this.poll);
  }

  private watch(path: string, name?: string): void {
    try {
      const watcher = watch(path, (_, changedName) => {
        // Null where the kernel does not say which.
        if (name === undefined || changedName === null || changedName === name) this.touched();
      });
      watcher.on('error', this.touched);
      this.watchers.push(watcher);
    } catch (error) {
      // What does not exist is noticed in the directory above once it does.
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'ELOOP') throw error;
    }
  }

  /** Not fs.watchFile(): it compares times, and a file may be written twice within one tick of the kernel's clock. */
  private startPoll({ code }: NodeJS.ErrnoException): void {
    this.log?.(`${this.path} cannot be watched (${code}); it is looked at every ${POLL_MS / 1000} s instead`);
    this.poll = setInterval(this.touched, POLL_MS);
  }

  private closeAll(): void {
    for (const watcher of this.watchers) watcher.close();
    this.watchers = [];
  }
}

/** Undefined where there is no file that a reload would read. */
function contentHash(path: string): string | undefined {
  try {
    // A pipe is not even opened: its content, and its writer's wait, are for whoever reads it at the start.
    return statSync(path).isFile() ? createHash('sha256').update(readRegular(path)).digest('hex') : undefined;
  } catch {
    return undefined;
  }
}
