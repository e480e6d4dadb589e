/** Reads a file that may be anything: also a pipe, a device, a directory, or far too large. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

/** All of LIMITS with every key and long names is 3 MB: what is larger is no configuration, and reading it would keep the process. */
export const MAX_MIB = 4;
const MAX_BYTES = MAX_MIB * 2 ** 20;
const CHUNK_BYTES = 2 ** 16;

/** The content of a file, pipe or device. Waits for whoever writes into a pipe. Throws the system's error, or RangeError above 4 MiB. */
export function readAny(path: string): Buffer {
  return readAs(path, constants.O_RDONLY, () => {});
}

/**
 * The content of a regular file. Never waits: a pipe without a writer would keep the whole process. Throws the system's error,
 * TypeError for anything else than a file, or RangeError above 4 MiB.
 */
export function readRegular(path: string): Buffer {
  return readAs(path, constants.O_RDONLY | constants.O_NONBLOCK, (fd) => {
    // Asked of what is open, not of the path, which may mean something else by now.
    if (!fstatSync(fd).isFile()) throw new TypeError('it is not a regular file');
  });
}

function readAs(path: string, flags: number, examine: (fd: number) => void): Buffer {
  const fd = openSync(path, flags);
  try {
    examine(fd);
    return readAll(fd);
  } finally {
    closeSync(fd);
  }
}

/** By chunks, since pipes and files of /proc do not tell their size. */
function readAll(fd: number): Buffer {
  const chunks: Buffer[] = [];
  for (let size = 0; ; ) {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    const length = readSync(fd, chunk);
    if (length === 0) return Buffer.concat(chunks);
    size += length;
    if (size > MAX_BYTES) throw new RangeError(`it is larger than ${MAX_MIB} MiB`);
    chunks.push(chunk.subarray(0, length));
  }
}
