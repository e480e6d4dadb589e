/** Where an engine's memory comes from: an lb4 that died in this network namespace, or nowhere. */
import { randomFillSync } from 'node:crypto';
import { closeSync } from 'node:fs';
import { FastPathError, messageOf, ResourceError, resourceError } from '../errors.ts';
import { hashKey, tableCapacity } from '../flow/table.ts';
import { FastPath, fastPathObstacle } from '../io/fast-path.ts';
import { createKept, lostKept, openKept, removeKept } from '../io/kept-files.ts';
import { KeptElsewhereError, lockKept, unlockKept } from '../io/kept-lock.ts';
import { native } from '../io/native.ts';
import { removePins } from '../io/pins.ts';
import { type HashKey, type KernelMaps, keyIn, type Memory, memoryIn, memorySize, type Room } from '../layout/memory.ts';
import { asWritten, headerOf, MAPS_GONE, mapIn, type Origin, obstacleAt, originOf, UNTOLD, writeHeader } from './origin.ts';

const FILE = 'table';

/**
 * The fast path over new maps of that room, in place of whatever another lb4 has left in the kernel; undefined: it shall not be, or cannot be
 * had and need not. `isLost`: one that died had one, whose maps are gone.
 */
export type MakeFastPath = (room: Room, key: HashKey, isLost: boolean) => FastPath | undefined;

export interface Acquired {
  /** Whoever has it may map the memory; to be closed by `close`. */
  readonly fd: number;
  /** One a worker. */
  readonly memories: readonly Memory[];
  readonly room: Room;
  /** In whose maps flows and next hops are, if so. */
  readonly fastPath: FastPath | undefined;
  /** It is that of an lb4 that died: its connections may go on. */
  readonly isFound: boolean;
  /** Why those of one that died may not. */
  readonly refused: string | undefined;
  /** Why this one's connections will not survive it. */
  readonly mortal: string | undefined;
  /** The path that it had, where it is there no more: it will not survive this process. Undefined, too, once closed. */
  readonly lost: () => string | undefined;
  /** @param keep what is in it, for who comes next */
  readonly close: (keep: boolean) => void;
}

/** Room for so many connections, each worker's share rounded up. New flows are where {@link acquireMemory} is told, found ones where they are. */
export function roomFor(connections: number, workers: number): Room {
  const share = Math.ceil(connections / workers);
  return { capacity: tableCapacity(share), connections: share, workers };
}

/** The descriptor of what another lb4 writes to, or wrote to, for {@link acquireMemory}; undefined where there is none. */
export function openOther(): number | undefined {
  try {
    return openKept(FILE);
  } catch {
    return undefined; // whoever acquires it says why
  }
}

/** The hash key of what {@link openOther} gave; a new one where there is none. */
export function keyFor(other: number | undefined): HashKey {
  try {
    if (other !== undefined) return keyIn(headerOf(native().mapSharedMemory(other)));
  } catch {
    // Whoever acquires it says why.
  }
  return hashKey(randomFillSync(new Uint32Array(4)));
}

/**
 * Memory of `room`: what a dead lb4 left where that can be followed, else new; a file that outlives the process where there can be one.
 * @param directions flows a connection
 * @param key of what {@link openOther} gave, or another: frames are steered to workers by it
 * @param isKept false: whatever happens, it ends with the process
 * @param other what {@link openOther} gave; whoever had it has let go
 * @param takesMaps false: whoever forwards can only go on with flows that are in the memory itself
 * @param makeFastPath for new memory; undefined where it shall not, or need not, be in the kernel's maps. What is found stays where it is
 * @throws the system's error where there is no memory; KeptElsewhereError where another process has the file, FastPathError or ResourceError
 * where connections in the kernel's maps cannot be gone on with for now: all of it stays as it is
 */
export function acquireMemory(
  room: Room,
  directions: number,
  key: HashKey,
  isKept: boolean,
  other?: number,
  makeFastPath: MakeFastPath = () => undefined,
  takesMaps = true,
): Acquired {
  const origin = originOf(room, directions, takesMaps);
  if (!isKept) return mortalMemory(origin, key, undefined, 'not asked for', makeFastPath);
  let refused: string | undefined;
  try {
    const found = followed(origin, key, there(other) ?? openKept(FILE));
    if (typeof found !== 'string') return found;
    refused = found === '' ? undefined : found;
    return keptMemory(origin, key, refused, makeFastPath);
  } catch (error) {
    if (isFinal(error)) throw error;
    return mortalMemory(origin, key, refused, messageOf(error), makeFastPath);
  }
}

/** Whether there is what a dead lb4 left, and it can be followed: to be asked before {@link acquireMemory} is. */
export function isFollowable(room: Room, directions: number, takesMaps: boolean): boolean {
  return obstacleTo(room, directions, takesMaps, (fd) => !native().isFileLocked(fd)) === undefined;
}

/**
 * Why what is kept cannot be followed, by a running lb4 or one that died; undefined: it can.
 * @param takesMaps as {@link acquireMemory} has it
 * @param isFree whether the file is nobody's
 */
export function obstacleTo(
  room: Room,
  directions: number,
  takesMaps: boolean,
  isFree: (fd: number) => boolean = () => true,
): string | undefined {
  try {
    const fd = openKept(FILE);
    if (fd === undefined) return 'there is none';
    try {
      if (!isFree(fd)) return 'another lb4 has it';
      return obstacleAt(native().mapSharedMemory(fd), originOf(room, directions, takesMaps));
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    return messageOf(error);
  }
}

/** Why this process could not take over what a running lb4 has; undefined: it could. Parameters as {@link acquireMemory} has them. */
export function takeoverObstacleTo(room: Room, directions: number, takesMaps: boolean): string | undefined {
  return obstacleTo(room, directions, takesMaps) ?? (isInMaps() ? fastPathObstacle() : undefined);
}

/** Whether the flows of what is kept are in the kernel's maps. */
function isInMaps(): boolean {
  const fd = openKept(FILE);
  if (fd === undefined) return false;
  try {
    return mapIn(headerOf(native().mapSharedMemory(fd))) !== 0;
  } finally {
    closeSync(fd);
  }
}

/** Whoever had it may have taken it away when it stopped: then nothing is left of it. */
function there(other: number | undefined): number | undefined {
  if (other === undefined || lostKept(FILE, other) === undefined) return other;
  closeSync(other);
  return undefined;
}

/** What a dead lb4 left; or why it cannot be followed, '' where there is nothing. */
function followed(origin: Origin, key: HashKey, fd: number | undefined): Acquired | string {
  if (fd === undefined) return '';
  try {
    lockKept(fd);
    const mapping = native().mapSharedMemory(fd);
    const obstacle = obstacleAt(mapping, origin, key);
    if (obstacle === undefined) {
      const room = asWritten(origin.room, headerOf(mapping));
      const fastPath = room.isInKernel ? adopted(room, key, mapIn(headerOf(mapping))) : undefined;
      if (room.isInKernel && fastPath === undefined) throw new Error(MAPS_GONE);
      const memories = memoriesIn(mapping, room, fastPath?.maps);
      return { fd, memories, room, fastPath, isFound: true, refused: undefined, mortal: undefined, ...handle(fd, fastPath) };
    }
    unlockKept(fd);
    closeSync(fd);
    return obstacle;
  } catch (error) {
    // What is mapped of it keeps it open.
    unlockKept(fd);
    closeSync(fd);
    if (isFinal(error)) throw error;
    return messageOf(error);
  }
}

/** Undefined: its maps are gone. Where it cannot be loaded for now the kernel still forwards by them, and whoever mends that loses nothing. */
function adopted(room: Room, key: HashKey, map: number): FastPath | undefined {
  try {
    return FastPath.adopt(room, key, map);
  } catch (error) {
    const message =
      'the kernel forwards connections of an lb4 that died, and the fast path, by which this one would go on with them, cannot be had: ' +
      `${messageOf(error)}; mend that, or end them: lb4 rules --remove`;
    throw resourceError(error) === undefined ? new FastPathError(message) : new ResourceError(message);
  }
}

/** Whatever there is stays as it is. */
function isFinal(error: unknown): boolean {
  return error instanceof KeptElsewhereError || error instanceof FastPathError || error instanceof ResourceError;
}

function keptMemory(origin: Origin, key: HashKey, refused: string | undefined, makeFastPath: MakeFastPath): Acquired {
  const { room, fastPath } = placed(origin.room, key, refused, makeFastPath);
  let fd: number | undefined;
  try {
    const bytes = memorySize(room);
    // What is not in the file is in the maps.
    fd = createKept(FILE, bytes, memorySize({ ...room, isInKernel: false }) - bytes);
    lockKept(fd);
    const memories = freshIn(native().mapSharedMemory(fd), { ...origin, room }, key, fastPath);
    return {
      fd,
      memories,
      room,
      fastPath,
      isFound: false,
      refused,
      mortal: origin.isUnmistakable ? undefined : UNTOLD,
      ...handle(fd, fastPath),
    };
  } catch (error) {
    if (fd !== undefined) {
      unlockKept(fd);
      closeSync(fd);
    }
    fastPath?.close();
    throw error;
  }
}

function mortalMemory(origin: Origin, key: HashKey, refused: string | undefined, mortal: string, makeFastPath: MakeFastPath): Acquired {
  const { room, fastPath } = placed(origin.room, key, refused, makeFastPath);
  let fd: number | undefined;
  const close = () => {
    try {
      if (fastPath?.isPinned()) removePins();
    } finally {
      fastPath?.close();
      if (fd !== undefined) native().closeFd(fd);
    }
  };
  try {
    const { buffer, fd: made } = native().createSharedMemory('lb4', memorySize(room));
    fd = made;
    const memories = freshIn(buffer, { ...origin, room }, key, fastPath);
    return { fd, memories, room, fastPath, isFound: false, refused, mortal, lost: () => undefined, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Where new flows are to be. @param refused why those of an lb4 that died are not gone on with */
function placed(
  room: Room,
  key: HashKey,
  refused: string | undefined,
  makeFastPath: MakeFastPath,
): { room: Room; fastPath: FastPath | undefined } {
  const fastPath = makeFastPath(room, key, refused === MAPS_GONE);
  return { room: { ...room, isInKernel: fastPath !== undefined }, fastPath };
}

function freshIn(mapping: ArrayBuffer, origin: Origin, key: HashKey, fastPath: FastPath | undefined): readonly Memory[] {
  const memories = memoriesIn(mapping, origin.room, fastPath?.maps);
  writeHeader(memories[0], origin, key, fastPath?.id);
  return memories;
}

function memoriesIn(mapping: ArrayBuffer, room: Room, maps: KernelMaps | undefined): readonly Memory[] {
  return Array.from({ length: room.workers }, (_, worker) => memoryIn(mapping, room, worker, maps));
}

function handle(fd: number, fastPath: FastPath | undefined): Pick<Acquired, 'lost' | 'close'> {
  let isClosed = false;
  return {
    lost: () => (isClosed ? undefined : lostKept(FILE, fd)),
    close: (keep) => {
      // Never what another lb4 has made there meanwhile.
      const isOurs = lostKept(FILE, fd) === undefined;
      isClosed = true;
      try {
        if (!keep && fastPath?.isPinned()) removePins();
      } finally {
        fastPath?.close();
        unlockKept(fd);
        closeSync(fd);
        if (!keep && isOurs) removeKept();
      }
    },
  };
}
