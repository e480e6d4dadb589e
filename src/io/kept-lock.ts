/** Who has a kept file: it is locked for as long as its process has it. */
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { FailureError } from '../errors.ts';
import { openIn } from './kept-files.ts';
import { directoryIn, tmpfs } from './kept-places.ts';
import { native } from './native.ts';

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
