/** What `glb-director-cli build-config SRC.json DST.bin` does. */
import { closeSync, fchmodSync, fchownSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ConfigError, FailureError, type Mistake, messageOf } from '../errors.ts';
import { binaryTables } from './binary.ts';
import { type ForwardingTable, readForwardingTables, unknownHealth } from './forwarding-table.ts';

/** It has the keys of hashes in it. */
const OWNER_ALONE = 0o600;

const UNKNOWN = 'this table takes that for unhealthy, as glb-director-cli does';

/**
 * Writes the table of the JSON in `text`, of the file `source`, to `destination`, in one step: beside it, then renamed. Returns what is doubtful. Throws
 * ConfigError for what is wrong, FailureError where it cannot be written; then nothing has changed.
 */
export function buildConfig(text: string, source: string, destination: string): readonly Mistake[] {
  const { tables, mistakes } = readForwardingTables(text, source);
  if (mistakes.some(isError)) throw new ConfigError(mistakes);
  const all = [...mistakes, ...tables.flatMap((table) => [...emptyRows(table, source), ...unknownHealth(table.backends, UNKNOWN)])];
  if (all.some(isError)) throw new ConfigError(all);
  writeAtOnce(destination, binaryTables(tables));
  return all;
}

function isError({ severity }: Mistake): boolean {
  return severity === 'error';
}

/** GLB's program writes what happens to be in its memory. */
function emptyRows({ backends, place }: ForwardingTable, file: string): Mistake[] {
  if (backends.some(({ state }) => state !== 'inactive')) return [];
  const message = 'no backend is in any row; needed: one that is not inactive';
  return [{ severity: 'error', file, position: place.node.at, path: '', message }];
}

function writeAtOnce(path: string, bytes: Buffer): void {
  const temporary = join(dirname(path), `.glb-table-${process.pid}`);
  try {
    const fd = openSync(temporary, 'wx', OWNER_ALONE);
    try {
      writeLike(path, fd, bytes);
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new FailureError(`${path} cannot be written: ${messageOf(error)}`, { cause: error });
  }
}

/** Whole and on the disk before it has the name: with the owner and the mode of what stands there, which a director's own user may read. */
function writeLike(path: string, fd: number, bytes: Buffer): void {
  const old = statSync(path, { throwIfNoEntry: false });
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
  if (old !== undefined) {
    fchownSync(fd, old.uid, old.gid);
    fchmodSync(fd, old.mode & 0o777);
  }
  fsyncSync(fd);
}
