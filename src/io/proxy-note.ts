/** What an lb4 that carries connections leaves to the next one with its configuration file, if it is killed or restarted. */
import { closeSync, constants, fstatSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { isPrivate } from './kept-places.ts';
import { proxyNote } from './meeting-point.ts';
import { inPrivate, removeIfEmpty } from './private-directory.ts';

const { O_NOFOLLOW, O_RDONLY } = constants;

/** What stands there; undefined where nothing does that only this user can have written. Throws the system's error. */
export function readProxyNote(file: string): string | undefined {
  const path = proxyNote(file);
  if (path === undefined) return undefined;
  let fd: number;
  try {
    fd = openSync(path, O_RDONLY | O_NOFOLLOW);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return isPrivate(fstatSync(fd)) ? readFileSync(fd, 'utf8') : undefined;
  } finally {
    closeSync(fd);
  }
}

/** Replaces it, in one step. Does nothing for a user without such a directory. Throws the system's error. */
export function writeProxyNote(file: string, text: string): void {
  const path = proxyNote(file);
  if (path === undefined) return;
  const own = `${path}.${process.pid}`;
  try {
    inPrivate(dirname(path), () => writeFileSync(own, text, { mode: 0o600 }));
    renameSync(own, path);
  } catch (error) {
    rmSync(own, { force: true });
    throw error;
  }
}

/** Takes it away, and its directory where nothing else is in it. */
export function removeProxyNote(file: string): void {
  const path = proxyNote(file);
  if (path === undefined) return;
  rmSync(path, { force: true });
  removeIfEmpty(dirname(path));
}
