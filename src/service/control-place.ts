/** The socket file of the control API: made where nobody else can put another, and never in the place of one that somebody answers at. */
import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import type { Control } from '../config/model.ts';
import { FailureError } from '../errors.ts';
import { defaultControlPath } from '../io/control-point.ts';
import { listenPrivately, makePrivate, removeIfEmpty } from '../io/private-directory.ts';

type Socket = NonNullable<Control['socket']>;

/** Rights to write for others than the owner. */
const WRITABLE = 0o022;
/** In ms: whoever has a socket answers, or the kernel for him. */
const ANSWER_MS = 2000;

/** A socket that a server listens at. */
export interface Place {
  readonly path: string;
  /** Whether it still is this server's. */
  isThere(): boolean;
  remove(): void;
}

/** Where the configuration wants it. Throws FailureError where this user has no default. */
export function pathOf({ path }: Socket): string {
  const here = path ?? defaultControlPath();
  if (here === undefined) throw new FailureError('XDG_RUNTIME_DIR is not set; [control] path names a place');
  return here;
}

/** Rejects where somebody else listens at `path`. */
export async function assertUnused(path: string): Promise<void> {
  const isAnswered = await new Promise<boolean>((resolve) => {
    const socket = connect(path);
    socket.setTimeout(ANSWER_MS, () => resolve(true));
    socket.on('connect', () => resolve(true)).on('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'EAGAIN'));
    socket.once('close', () => socket.destroy());
    setTimeout(() => socket.destroy(), ANSWER_MS + 1).unref();
  });
  if (isAnswered) throw new FailureError(`another program answers at ${path}; [control] path names another place`);
}

/** Has `server` listen at `path`, with the rights that the configuration wants. Throws the system's error, or a FailureError. */
export function listenAt(server: Server, path: string, { path: named, group, mode }: Socket): Place {
  const directory = dirname(path);
  const isOurs = named === undefined || prepareDirectory(directory, group);
  if (named === undefined) makePrivate(directory);
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === false) throw new FailureError(`${path} is there, and is no socket`);
  const own = `${path}.${process.pid}`;
  rmSync(own, { force: true });
  // Till it has its rights nobody gets in.
  listenPrivately(server, own);
  if (group !== undefined) giveTo(group, own);
  chmodSync(own, mode);
  renameSync(own, path);
  const { ino } = statSync(path);
  const isThere = () => statSync(path, { throwIfNoEntry: false })?.ino === ino;
  const remove = () => {
    if (isThere()) rmSync(path, { force: true });
    if (isOurs) removeIfEmpty(directory);
  };
  return { path, isThere, remove };
}

/** Whoever may write to a directory can put a socket of his own in the place of any in it. Returns whether it was made. */
function prepareDirectory(directory: string, group: string | undefined): boolean {
  const isMissing = lstatSync(directory, { throwIfNoEntry: false }) === undefined;
  if (isMissing) {
    mkdirSync(directory, { mode: group === undefined ? 0o700 : 0o750 });
    try {
      if (group !== undefined) giveTo(group, directory);
    } catch (error) {
      rmdirSync(directory);
      throw error;
    }
  }
  const stat = statSync(directory);
  if (!stat.isDirectory()) throw new FailureError(`${directory} is no directory; [control] path`);
  const { uid, mode } = stat;
  if (uid !== 0 && uid !== process.geteuid?.())
    throw new FailureError(`${directory} belongs to user ${uid}: it must be of root, or of lb4's own user`);
  if ((mode & WRITABLE) !== 0)
    throw new FailureError(
      `${directory} is writable by others (mode ${(mode & 0o7777).toString(8)}): chmod go-w, or another [control] path`,
    );
  return isMissing;
}

function giveTo(group: string, path: string): void {
  try {
    chownSync(path, process.geteuid?.() ?? 0, gidOf(group));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    throw new FailureError(`lb4's user may give ${path} to a group of its own alone: in its systemd unit SupplementaryGroups=${group}`);
  }
}

function gidOf(group: string): number {
  if (/^\d+$/.test(group)) return Number(group);
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((one) => one.startsWith(`${group}:`));
  if (line === undefined) throw new FailureError(`there is no group "${group}" in /etc/group; [control] group`);
  return Number(line.split(':')[2]);
}
