/**
 * Files that outlive the process, of which a directory a network namespace (kept-places.ts): /run/lb4/kept-INODE, or in /dev/shm where
 * /run is on a disk or has no room.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { eachOf } from './each.ts';
import { removeAbandoned } from './kept-abandoned.ts';
import { directoryIn, isOurs, isPrivate, makeDirectory, memoryLimit, ROOTS, rootFor, tmpfs } from './kept-places.ts';
import { native } from './native.ts';
import { removePins } from './pins.ts';
import { removeIfEmpty } from './private-directory.ts';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

/** The descriptor of a file that is there, to be read and written; undefined where there is none. */
export function openKept(name: string): number | undefined {
  for (const root of tmpfs()) {
    const fd = openIn(root, name);
    if (fd !== undefined) return fd;
  }
  return undefined;
}

/** The same in one place. Throws the system's error. */
export function openIn(root: string, name: string): number | undefined {
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
 * @param mapped bytes of maps in the kernel that go with it
 * @throws the system's error; one that gives the numbers where no tmpfs has room enough
 */
export function createKept(name: string, bytes: number, mapped = 0): number {
  // Room for the new one, too. Behind a link of somebody else's is nothing of ours.
  for (const root of tmpfs()) if (isOurs(root)) rmSync(`${directoryIn(root)}/${name}`, { force: true });
  const places = tmpfs().map((root) => {
    const { bavail, bsize } = statfsSync(root);
    return { root, free: bavail * bsize };
  });
  const root = rootFor(bytes, places, memoryLimit(), mapped);
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
  const root = tmpfs().find((one) => isOurs(one)) ?? tmpfs()[0];
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
  eachOf([removePins, ...ROOTS.map((root) => () => removeIn(root))], (remove) => remove());
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

/** Whether anything is kept for this network namespace. */
export function hasKept(): boolean {
  return ROOTS.some((root) => isOurs(root));
}
