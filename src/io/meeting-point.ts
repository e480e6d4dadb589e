/**
 * Where a running lb4 is met by another that is to take over from it: unix sockets in a directory that only its user may enter, /run/lb4
 * for root, else one of its own under $XDG_RUNTIME_DIR. Named for the network namespace: containers may share the directory.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { namespaces } from './kept-abandoned.ts';
import { native } from './native.ts';
import { makePrivate, removeIfEmpty } from './private-directory.ts';

/** SCM_MAX_FD is 253; and of messages a socket may have ten unread (net.unix.max_dgram_qlen): more listeners than a file may have. */
const DESCRIPTORS = 250;

/** Whoever forwards packets is alone in its network namespace. */
export function packetPoint(): string | undefined {
  return pointOf('packets');
}

/** Of those that carry connections there may be many: each has its file, by the name that it was given, since a link may lead elsewhere at an upgrade. */
export function proxyPoint(file: string): string | undefined {
  return pointOf(hashOf(resolve(file)));
}

/** A file for the next lb4 with this configuration file, beside where it is met, for those that carry connections: proxy-note.ts. */
export function proxyNote(file: string): string | undefined {
  return pointOf(hashOf(resolve(file)), 'found');
}

/** Where an lb4 waits for its successor that a restart of its systemd unit has left behind: a unit has a control group of its own. */
export function unitPoint(): string | undefined {
  return pointOf(`unit-${hashOf(readFileSync('/proc/self/cgroup', 'utf8'))}`);
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** Undefined where this user has no such directory. */
function pointOf(who: string, what = 'takeover'): string | undefined {
  const home = process.geteuid?.() === 0 ? '/run' : process.env['XDG_RUNTIME_DIR'];
  return home === undefined ? undefined : `${home}/lb4/${what}-${statSync('/proc/self/ns/net').ino}-${who}`;
}

/** A name beside `point` for this process alone, where nothing is. Makes the directory. Throws the system's error. */
export function besidePoint(point: string): string {
  makePrivate(dirname(point));
  const path = `${point}.${process.pid}`;
  rmSync(path, { force: true });
  return path;
}

/** Gives the socket at `path` the name `point`, whoever had it. Returns what takes it away, unless it is somebody else's by then. */
export function moveTo(point: string, path: string): () => void {
  renameSync(path, point);
  const { ino } = statSync(point);
  return () => {
    if (statSync(point, { throwIfNoEntry: false })?.ino === ino) forgetPoint(point);
  };
}

/** Takes a socket away, and its directory where nothing else is in it. */
export function forgetPoint(point: string): void {
  rmSync(point, { force: true });
  removeIfEmpty(dirname(point));
}

/** Takes away the sockets of lb4s that were killed, in this network namespace, and all that is of those that are gone. Never throws: they are in nobody's way. */
export function forgetDead(): void {
  try {
    const directory = dirname(packetPoint() ?? '');
    const own = String(statSync('/proc/self/ns/net').ino);
    const names = readdirSync(directory);
    // Of this namespace alone, by the names that they were bound to.
    const bound = readFileSync('/proc/net/unix', 'utf8').split('\n');
    const isBound = (path: string) => bound.some((line) => line.endsWith(` ${path}`) || line.includes(` ${path}.`));
    const present = namespaces();
    for (const name of names) {
      const [, what, inode] = /^(takeover|found)-([0-9]+)-/.exec(name) ?? [];
      if (inode === undefined) continue;
      const isDead = inode === own ? what === 'takeover' && !isBound(`${directory}/${name}`) : present?.has(inode) === false;
      if (isDead) rmSync(`${directory}/${name}`, { force: true });
    }
  } catch {
    // The next lb4 tries again.
  }
}

/** Whether a socket has ever been opened there: its process may have been killed. */
export function isPoint(point: string | undefined): point is string {
  return point !== undefined && existsSync(point);
}

/** Sends copies of listening sockets, by their addresses, to who reads at `path`. Throws the system's error. */
export function sendListeners(path: string, listeners: ReadonlyMap<string, number>): void {
  const all = [...listeners];
  for (let from = 0; from < all.length; from += DESCRIPTORS) {
    const some = all.slice(from, from + DESCRIPTORS);
    const keys = JSON.stringify(some.map(([key]) => key));
    native().sendDatagram(
      path,
      keys,
      some.map(([, fd]) => fd),
    );
  }
}

/** A place to receive such sockets at. */
export class Inbox {
  readonly path: string;
  readonly #fd: number;

  /** Throws the system's error. */
  constructor(path: string) {
    this.path = path;
    this.#fd = native().openDatagram(path);
  }

  /** All that was sent so far. Whoever takes the descriptors closes them. */
  take(): Map<string, number> {
    const listeners = new Map<string, number>();
    for (let message = this.#next(); message !== undefined; message = this.#next()) {
      const keys = JSON.parse(message.text) as string[];
      for (const [i, fd] of message.descriptors.entries()) listeners.set(keys[i] ?? '', fd);
    }
    return listeners;
  }

  close(): void {
    closeSync(this.#fd);
    rmSync(this.path, { force: true });
  }

  #next() {
    try {
      return native().receiveDatagram(this.#fd);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined;
      throw error;
    }
  }
}
