/** Directories in places that others may write to. */
import { closeSync, constants, fchmodSync, fstatSync, mkdirSync, openSync, rmdirSync } from 'node:fs';
import { FailureError } from '../errors.ts';

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;

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

/** Never throws: where something else is in it, it stays. */
export function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // So it does, and harms nobody.
  }
}
