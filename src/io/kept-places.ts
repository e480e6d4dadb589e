/**
 * Where files may be that outlive the process: on a tmpfs, since memory mapped from a disk is written there all the time, in a directory a
 * network namespace, which is root's alone.
 */
import { existsSync, lstatSync, type Stats, statfsSync, statSync } from 'node:fs';
import { totalmem } from 'node:os';
import { inPrivate, makePrivate } from './private-directory.ts';

export const ROOTS = ['/run', '/dev/shm'] as const;
export const PREFIX = 'kept-';
/** What /proc/PID/ns/pid says outside containers: PROC_PID_INIT_INO of linux/proc_ns.h. */
export const INITIAL_PIDS = 'pid:[4026531836]';
/** statfs(2). */
const TMPFS_MAGIC = 0x01021994;

/**
 * The first place of which so many bytes take less than half: whoever fills /run stops every other service of the host.
 * @param limit bytes that this process and all that it leaves may have
 * @param mapped bytes of maps in the kernel that are left with them, and count there
 * @throws an error that gives the numbers where there is none
 */
export function rootFor(
  bytes: number,
  places: readonly { readonly root: string; readonly free: number }[],
  limit: number,
  mapped = 0,
): string {
  const needs = `the table takes ${megabytes(bytes)}`;
  if (places.length === 0) throw new Error(`there is no tmpfs at ${ROOTS.join(' or ')}`);
  const maps = mapped === 0 ? '' : ` and ${megabytes(mapped)} in maps of the kernel`;
  if ((bytes + mapped) * 2 >= limit)
    throw new Error(`${needs}${maps}, half or more of the ${megabytes(limit)} that this control group may have`);
  const place = places.find(({ free }) => bytes * 2 < free);
  if (place !== undefined) return place.root;
  const free = places.map(({ root, free: left }) => `${root} ${megabytes(left)}`).join(', ');
  throw new Error(`${needs}, half or more of what is free (${free})`);
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

/** Of this process's control group, whichever version; no more than there is. */
export function memoryLimit(): number {
  return Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem());
}

/** Roots that are there, and lose what they have when the host stops. */
export function tmpfs(): readonly string[] {
  return ROOTS.filter((root) => existsSync(root) && statfsSync(root).type === TMPFS_MAGIC);
}

/** Whether there is a directory, and root's alone: in /dev/shm anybody may have made a link to what is none of ours. */
export function isOurs(root: string): boolean {
  return [`${root}/lb4`, directoryIn(root)].every(isPrivateDirectory);
}

/** Whether there is a directory, no link to one, that nobody but this user may enter: what is in it nobody else can exchange. */
export function isPrivateDirectory(path: string): boolean {
  const there = lstatSync(path, { throwIfNoEntry: false });
  return there?.isDirectory() === true && isPrivate(there);
}

export function isPrivate({ uid, mode }: Stats): boolean {
  return uid === process.geteuid?.() && (mode & 0o77) === 0;
}

/** Of this network namespace. */
export function directoryIn(root: string): string {
  return `${root}/lb4/${PREFIX}${statSync('/proc/self/ns/net').ino}`;
}

/** Returns its path. */
export function makeDirectory(root: string): string {
  const directory = directoryIn(root);
  inPrivate(`${root}/lb4`, () => makePrivate(directory));
  return directory;
}
