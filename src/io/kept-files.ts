/**
 * Files that outlive the process, of which a directory a network namespace: /run/lb4/kept-INODE, or in /dev/shm where /run is on a disk
 * or has no room. A tmpfs it must be, since memory mapped from a disk is written there all the time, and root's alone.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  type Stats,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { totalmem } from 'node:os';
import { FailureError } from '../errors.ts';
import { native } from './native.ts';
import { makePrivate, removeIfEmpty } from './private-directory.ts';

const ROOTS = ['/run', '/dev/shm'] as const;
/** statfs(2). */
const TMPFS_MAGIC = 0x01021994;
const PREFIX = 'kept-';
/** PROC_PID_INIT_INO of linux/proc_ns.h. */
const INITIAL_PIDS = 'pid:[4026531836]';
const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

/** The descriptor of a file that is there, to be read and written; undefined where there is none. */
export function openKept(name: string): number | undefined {
  for (const root of tmpfs()) {
    const fd = openIn(root, name);
    if (fd !== undefined) return fd;
  }
  return undefined;
}

function openIn(root: string, name: string): number | undefined {
  try {
    // What others can write is nothing to go by.
    if (!isOurs(root)) return undefined;
    const fd = openSync(`${directoryIn(root)}/${name}`, O_RDWR | O_NOFOLLOW);
    if (isPrivate(fstatSync(fd))) return fd;
    closeSync(fd);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return undefined;
}

/**
 * A new file of so many bytes, zeroed, in place of the one that was there; whatever else is kept goes where it is. Returns its descriptor.
 * @throws the system's error; one that gives the numbers where no tmpfs has room enough
 */
export function createKept(name: string, bytes: number): number {
  // Room for the new one, too.
  for (const root of tmpfs()) rmSync(`${directoryIn(root)}/${name}`, { force: true });
  const places = tmpfs().map((root) => {
    const { bavail, bsize } = statfsSync(root);
    return { root, free: bavail * bsize };
  });
  const root = rootFor(bytes, places, memoryLimit());
  const path = `${makeDirectory(root)}/${name}`;
  gather(root);
  removeAbandoned(root);
  const fd = openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    native().allocateFile(fd, bytes);
    return fd;
  } catch (error) {
    closeSync(fd);
    rmSync(path, { force: true });
    throw error;
  }
}

/**
 * The first place of which so many bytes take less than half: whoever fills /run stops every other service of the host.
 * @param limit bytes that this process and all that it leaves may have
 * @throws an error that gives the numbers where there is none
 */
export function rootFor(bytes: number, places: readonly { readonly root: string; readonly free: number }[], limit: number): string {
  const needs = `the table takes ${megabytes(bytes)}`;
  if (places.length === 0) throw new Error(`there is no tmpfs at ${ROOTS.join(' or ')}`);
  if (bytes * 2 >= limit) throw new Error(`${needs}, half or more of the ${megabytes(limit)} that this control group may have`);
  const place = places.find(({ free }) => bytes * 2 < free);
  if (place !== undefined) return place.root;
  const free = places.map(({ root, free: left }) => `${root} ${megabytes(left)}`).join(', ');
  throw new Error(`${needs}, half or more of what is free (${free})`);
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

/** Of this process's control group, whichever version; no more than there is. */
function memoryLimit(): number {
  return Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem());
}

/** Has one place keep all that there is for this network namespace. */
function gather(root: string): void {
  for (const other of tmpfs()) {
    // What others can write is nothing to go by.
    if (other === root || !isOurs(other)) continue;
    for (const name of readdirSync(directoryIn(other))) copyFileSync(`${directoryIn(other)}/${name}`, `${directoryIn(root)}/${name}`);
    removeIn(other);
  }
}

/** The path of a file where the open one is not there any more; undefined: it is. */
export function lostKept(name: string, fd: number): string | undefined {
  const { dev, ino } = fstatSync(fd);
  const paths = ROOTS.map((root) => `${directoryIn(root)}/${name}`);
  const isThere = paths.some((path) => {
    const there = statSync(path, { throwIfNoEntry: false });
    return there?.ino === ino && there.dev === dev;
  });
  return isThere ? undefined : readlinkSync(`/proc/self/fd/${fd}`).replace(/ \(deleted\)$/, '');
}

/** What stands in a small file; undefined where there is none. */
export function readKept(name: string): string | undefined {
  const fd = openKept(name);
  if (fd === undefined) return undefined;
  try {
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

/** Replaces a small file, in one step. Does nothing where there is no tmpfs. Throws the system's error. */
export function writeKept(name: string, text: string): void {
  const root = tmpfs().find((one) => existsSync(directoryIn(one))) ?? tmpfs()[0];
  if (root === undefined) return;
  const path = `${makeDirectory(root)}/${name}`;
  try {
    writeFileSync(`${path}.new`, text, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  } catch (error) {
    rmSync(`${path}.new`, { force: true });
    throw error;
  }
}

/** Leaves nothing of this network namespace's. */
export function removeKept(): void {
  for (const root of ROOTS) removeIn(root);
}

/** Takes some files away, and their directory where nothing else is in it. */
export function removeNotes(names: readonly string[]): void {
  for (const root of ROOTS) {
    if (isOurs(root)) for (const name of names) rmSync(`${directoryIn(root)}/${name}`, { force: true });
    removeIfEmpty(directoryIn(root));
    removeIfEmpty(`${root}/lb4`);
  }
}

function removeIn(root: string): void {
  if (isOurs(root)) rmSync(directoryIn(root), { recursive: true, force: true });
  removeIfEmpty(`${root}/lb4`);
}

/** Refuses to start where another process has locked a file of this network namespace's, however that sees /run. */
export class KeptElsewhereError extends FailureError {
  /** @param path of that file */
  constructor(path: string) {
    const why = 'containers that share a network namespace must share /run/lb4, too';
    super(`another lb4, whose lock is not to be seen here, forwards packets in this network namespace by ${path}: ${why}`);
  }
}

/** @throws {@link KeptElsewhereError} where another process has locked such a file */
export function assertKeptFree(): void {
  for (const root of tmpfs()) {
    const name = namesIn(root).find((one) => isLocked(root, one));
    if (name !== undefined) throw new KeptElsewhereError(`${directoryIn(root)}/${name}`);
  }
}

/** Locks such a file for as long as it is open. Throws {@link KeptElsewhereError} where another process has done so. */
export function lockKept(fd: number): void {
  if (!native().tryLockFile(fd)) throw new KeptElsewhereError(readlinkSync(`/proc/self/fd/${fd}`));
}

/** Gives it back to whoever goes on with the file: it is still mapped here. */
export function unlockKept(fd: number): void {
  native().unlockFile(fd);
}

function namesIn(root: string): string[] {
  try {
    return readdirSync(directoryIn(root));
  } catch {
    return []; // there is no such directory, or none of ours
  }
}

function isLocked(root: string, name: string): boolean {
  let fd: number | undefined;
  try {
    fd = openIn(root, name);
    return fd !== undefined && native().isFileLocked(fd);
  } catch {
    return false; // it is none of ours
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Whether anything is kept for this network namespace. */
export function hasKept(): boolean {
  return ROOTS.some((root) => existsSync(directoryIn(root)));
}

/** What network namespaces left that are gone: nobody else will ever ask for it. Never throws: it is in nobody's way. */
function removeAbandoned(root: string): void {
  try {
    removeIfAbandoned(root);
  } catch {
    // The next lb4 tries again.
  }
}

function removeIfAbandoned(root: string): void {
  // Elsewhere not every process that may have a namespace can be seen.
  if (readlinkSync('/proc/self/ns/pid') !== INITIAL_PIDS) return;
  const names = readdirSync(`${root}/lb4`, { withFileTypes: true }).filter((entry) => entry.isDirectory() && entry.name.startsWith(PREFIX));
  if (names.length === 0) return;
  const here = namespaces();
  for (const { name } of names) if (!here.has(name.slice(PREFIX.length))) rmSync(`${root}/lb4/${name}`, { recursive: true, force: true });
}

/** Whether this is the host's own network namespace, which is never gone: that of the process from which all others come. */
export function isHostNetwork(): boolean {
  if (readlinkSync('/proc/self/ns/pid') !== INITIAL_PIDS) return false;
  try {
    return readlinkSync('/proc/self/ns/net') === readlinkSync('/proc/1/ns/net');
  } catch {
    return false; // it may not be looked at
  }
}

/** The inode numbers of network namespaces that some process is in, or that have a name. */
function namespaces(): ReadonlySet<string> {
  const links = readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .map((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/ns/net`);
      } catch {
        return ''; // it has just ended
      }
    });
  const found = `${links.join('\n')}\n${readFileSync('/proc/self/mountinfo', 'utf8')}`.matchAll(/net:\[([0-9]+)\]/g);
  return new Set([...found].map(([, number]) => number));
}

function tmpfs(): readonly string[] {
  return ROOTS.filter((root) => existsSync(root) && statfsSync(root).type === TMPFS_MAGIC);
}

/** In /dev/shm anybody may have made a link to what is none of ours. */
function isOurs(root: string): boolean {
  return [`${root}/lb4`, directoryIn(root)].every((path) => {
    const there = lstatSync(path, { throwIfNoEntry: false });
    return there?.isDirectory() === true && isPrivate(there);
  });
}

function isPrivate({ uid, mode }: Stats): boolean {
  return uid === process.geteuid?.() && (mode & 0o77) === 0;
}

function directoryIn(root: string): string {
  return `${root}/lb4/${PREFIX}${statSync('/proc/self/ns/net').ino}`;
}

/** Returns its path. */
function makeDirectory(root: string): string {
  makePrivate(`${root}/lb4`);
  makePrivate(directoryIn(root));
  return directoryIn(root);
}
