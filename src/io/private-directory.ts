/** Directories in places that others may write to, and sockets that others may not. */
import { closeSync, constants, fchmodSync, fstatSync, mkdirSync, openSync, rmdirSync } from 'node:fs';
import type { Server } from 'node:net';
import { FailureError } from '../errors.ts';

/** No right for others, nor to execute, for the owner. */
const NONE_FOR_OTHERS = 0o177;
const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;
/** Somebody else found it empty, and took it away, as it was to be used: so often it is made. */
const ATTEMPTS = 20;

/** Makes the directory, and sees to it that nobody but its owner can do anything there. */
export function makePrivate(path: string): void {
  try {
    mkdirSync(path, 0o700);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const fd = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    const { uid } = fstatSync(fd);
    if (uid !== 0 && uid !== process.geteuid?.())
      throw new FailureError(
        `${path} belongs to user ${uid}, not to root: another lb4 may run as that user; stop it, or remove the directory where none does`,
      );
    fchmodSync(fd, 0o700);
  } finally {
    closeSync(fd);
  }
}

/**
 * The same, then does something in it; all of it anew where it went meanwhile: an lb4 of another network namespace takes away what it finds empty
 * ({@link removeIfEmpty}), and so do the scripts. Returns what `act` does.
 */
export function inPrivate<T>(path: string, act: () => T): T {
  for (let attempt = 1; ; attempt++) {
    try {
      makePrivate(path);
      return act();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === ATTEMPTS) throw error;
    }
  }
}

/** Has `server` listen at `path`, which is its owner's alone (0600) from the first moment. */
export function listenPrivately(server: Server, path: string): void {
  const before = process.umask(NONE_FOR_OTHERS);
  try {
    server.listen(path);
  } finally {
    process.umask(before);
  }
}

/** Never throws: where something else is in it, it stays. */
export function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // So it does, and harms nobody.
  }
}
