/**
 * One lb4 in packet mode a network namespace: two would hand out the same ports. The lock is a file in a directory that only root may
 * enter (an abstract socket could be taken by any user), named for the namespace's inode. It dies with the process, however that
 * ends, so a file that was left behind, or an inode that the kernel gives to another namespace, does no harm. Containers that share a
 * network namespace need not share /run: the table that outlives the process is locked likewise, where they share /dev/shm.
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { FailureError, PrivilegeError } from '../errors.ts';
import { eachOf } from './each.ts';
import { hasKept, removeKept } from './kept-files.ts';
import { assertKeptFree } from './kept-lock.ts';
import { forgetPoint, packetPoint } from './meeting-point.ts';
import { native } from './native.ts';
import { hasPins } from './pins.ts';
import { makePrivate, removeIfEmpty } from './private-directory.ts';
import { removeStrays } from './strays.ts';

/** The scripts of iptables/ keep their notes there, too. */
const DIRECTORY = '/run/lb4';
const { O_CREAT, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;
/** The lock of a fan-out, which goes beside a packet mode: two would replace each other's rules. */
export const FAN_OUT_LOCK = 'fan-out-lock';
const PACKET_LOCK = 'lock';
/** The file or its directory went while it was being opened: whoever had it ended just then. */
const ATTEMPTS = 20;
/** So long what a killed lb4 has kept may still be locked: by its process of the pcap driver, or while the kernel takes back its memory. */
const DEATH_MS = 2000;
const LOOK_MS = 10;

/** What the one that has it says about itself. */
export interface Holder {
  /** As it sees itself, in its own pid namespace. */
  readonly pid: number;
  readonly mode: string;
  /** False: --no-rules, nobody looks after the firewall rules. */
  readonly rules: boolean;
}

/** For people: who that is. */
export function nameOf({ pid }: Partial<Holder>): string {
  return `an lb4 in packet mode (pid ${pid ?? 'unknown'})`;
}

/** Resolves when an lb4 that was killed has died altogether; in vain where whoever has locked what is kept stays. At once where another one runs. */
export async function deathIsOver(): Promise<void> {
  for (const until = performance.now() + DEATH_MS; performance.now() < until; await setTimeout(LOOK_MS))
    if (lockHolder() !== undefined || isNamespaceFree()) return;
}

/** Throws FailureError, naming the pid, where another lb4 has the lock; PrivilegeError where this process may not lock at all. */
export function lockNamespace(about: Omit<Holder, 'pid'>): NamespaceLock {
  const lock = lockNamed(about, PACKET_LOCK);
  try {
    assertKeptFree();
    return lock;
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** The same of a fan-out: no connections are kept. */
export function lockFanOut(about: Omit<Holder, 'pid'>): NamespaceLock {
  return lockNamed(about, FAN_OUT_LOCK);
}

function lockNamed(about: Omit<Holder, 'pid'>, name: string): NamespaceLock {
  const holder = { pid: process.pid, ...about };
  return new NamespaceLock(holder, takeLock(holder, name), name);
}

/** Held. Its file can be taken away all the same, and the scripts' notes beside it: then another lb4 would start. */
export class NamespaceLock {
  readonly #holder: Holder;
  readonly #name: string;
  #fd: number;
  /** What the scripts have noted, by the files' names. */
  #notes: ReadonlyMap<string, string> = new Map();

  constructor(holder: Holder, fd: number, name = PACKET_LOCK) {
    this.#holder = holder;
    this.#name = name;
    this.#fd = fd;
  }

  /** Its path, where that is no longer the file that this process has locked; else undefined, and the notes are remembered as they are. */
  missing(): string | undefined {
    const { directory, file } = paths(this.#name);
    if (!isAt(this.#fd, file)) return file;
    try {
      const names = readdirSync(directory).filter((name) => name !== PACKET_LOCK && name !== FAN_OUT_LOCK);
      this.#notes = new Map(names.map((name) => [name, readFileSync(`${directory}/${name}`, 'utf8')]));
    } catch {
      // A script is just taking one away: the next look reads what is left.
    }
    return undefined;
  }

  /** Locks anew where it is missing, and writes the notes again. Throws as {@link lockNamespace} does. */
  putBack(): void {
    if (this.missing() === undefined) return;
    const fd = takeLock(this.#holder, this.#name);
    closeSync(this.#fd);
    this.#fd = fd;
    const { directory } = paths();
    for (const [name, text] of this.#notes) writeNote(`${directory}/${name}`, text);
  }

  /** As a kill does: the file stays, and says who was here. */
  abandon(): void {
    closeSync(this.#fd);
  }

  /** Leaves no file behind. */
  release(): void {
    const { directory, file } = paths(this.#name);
    try {
      // While it is still locked: whoever opened it meanwhile finds that it is gone. Never the file of another lb4.
      if (isAt(this.#fd, file)) unlinkSync(file);
    } catch {
      // What is left does no harm.
    }
    removeIfEmpty(directory);
    removeIfEmpty(DIRECTORY);
    closeSync(this.#fd);
  }
}

function takeLock(holder: Holder, name: string): number {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const fd = attemptLock(name);
    if (fd === undefined) continue;
    ftruncateSync(fd);
    writeSync(fd, `${JSON.stringify(holder)}\n`);
    return fd;
  }
  throw new FailureError(`${paths(name).file} changes all the time: another lb4 starts and ends in this network namespace`);
}

/** Who forwards packets in this network namespace, or has a fan-out there; undefined where nobody does, or this user may not know. */
export function lockHolder(name = PACKET_LOCK): Partial<Holder> | undefined {
  return readHolder(true, name);
}

/** Whether nobody forwards packets in this network namespace: neither the lock nor a kept file is anybody's. */
export function isNamespaceFree(): boolean {
  try {
    assertKeptFree();
    return lockHolder() === undefined;
  } catch {
    return false;
  }
}

/** Who was killed in this network namespace, and left its traces; undefined where nobody was, or this user may not know. */
export function deadHolder(name = PACKET_LOCK): Partial<Holder> | undefined {
  return readHolder(false, name);
}

/**
 * Takes away what a killed lb4 left: its lock with its directory, its connections, and its programs in the kernel. Where another one runs
 * nothing happens. Throws where something of it stays, and as {@link lockNamespace} does where this process may not look after it.
 * @param forGood programs, too, whose pins are in another mount namespace
 */
export function forgetDeadHolder(forGood = false): void {
  if (!forGood && deadHolder() === undefined && !hasKept() && !hasPins()) return;
  let lock: NamespaceLock;
  try {
    lock = lockNamespace({ mode: 'none', rules: false });
  } catch (error) {
    if (lockHolder() !== undefined) return; // another one has just started: the file is its own
    throw error;
  }
  try {
    const point = packetPoint();
    const acts = [removeKept, () => point !== undefined && forgetPoint(point), () => forGood && removeStrays(false)];
    eachOf(acts, (act) => act());
  } finally {
    lock.release();
  }
}

function readHolder(alive: boolean, name = PACKET_LOCK): Partial<Holder> | undefined {
  let fd: number;
  try {
    fd = openSync(paths(name).file, O_RDONLY | O_NOFOLLOW);
  } catch {
    return undefined;
  }
  try {
    return native().isFileLocked(fd) === alive ? holderIn(fd) : undefined;
  } finally {
    closeSync(fd);
  }
}

function paths(name = PACKET_LOCK) {
  const directory = `${DIRECTORY}/netns-${statSync('/proc/self/ns/net').ino}`;
  return { directory, file: `${directory}/${name}` };
}

/** The descriptor that holds the lock; undefined where the file went meanwhile. */
function attemptLock(name: string): number | undefined {
  const { directory, file } = paths(name);
  let fd: number | undefined;
  try {
    makePrivate(DIRECTORY);
    makePrivate(directory);
    fd = openSync(file, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
    if (!native().tryLockFile(fd)) throw taken(holderIn(fd), name);
    // Its last holder may have unlinked it between our opening and locking: then the next one would lock another file.
    if (isAt(fd, file)) return fd;
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw refusal(error);
  }
  closeSync(fd);
  return undefined;
}

function taken({ pid }: Partial<Holder>, name: string): FailureError {
  const does = name === FAN_OUT_LOCK ? 'keeps a fan-out' : 'forwards packets';
  return new FailureError(`another lb4 (pid ${pid ?? 'unknown'}) ${does} in this network namespace already`);
}

/** Empty where it has the lock, and has not written yet. */
function holderIn(fd: number): Partial<Holder> {
  try {
    return JSON.parse(readFileSync(fd, 'utf8')) as Partial<Holder>;
  } catch {
    return {};
  }
}

function refusal(error: unknown): unknown {
  const { code, message, path } = error as NodeJS.ErrnoException;
  if (code === 'ELOOP' || code === 'ENOTDIR')
    return new FailureError(`${path} must be a directory or file of root's own, and no link: remove it`, { cause: error });
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return new PrivilegeError(`${message}: lb4 keeps its lock there; run it as root, and let it write to /run`, { cause: error });
  return error;
}

/** Is the open file the one at that path? */
function isAt(fd: number, path: string): boolean {
  const ours = fstatSync(fd);
  const there = statSync(path, { throwIfNoEntry: false });
  return there !== undefined && there.ino === ours.ino && there.dev === ours.dev;
}

/** A script may have written a newer one meanwhile. */
function writeNote(path: string, text: string): void {
  try {
    writeFileSync(path, text, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}
