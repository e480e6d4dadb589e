/**
 * Whether a flow table that is there can be gone on with: who wrote it and for whom stands in its header, and so does how often that has
 * been tried in vain.
 */
import { readFileSync } from 'node:fs';
import { isHostNetwork } from '../io/kept-abandoned.ts';
import { native } from '../io/native.ts';
import { isMapPinned } from '../io/pins.ts';
import {
  ATTEMPTS,
  BOOT,
  CAPACITY,
  CONNECTIONS,
  DIRECTIONS,
  HEADER_WORDS,
  KEY,
  LAYOUT,
  LAYOUT_VERSION,
  MAGIC,
  MAGIC_WORD,
  MAP,
  NETWORK,
  WORKERS,
} from '../layout/header.ts';
import { type HashKey, type Memory, memorySize, type Room } from '../layout/memory.ts';

/** What tells whether memory can be gone on with. */
export interface Origin {
  readonly room: Room;
  readonly directions: number;
  /** Flows in maps of the kernel can be gone on with. */
  readonly takesMaps: boolean;
  /** Four words: the host's boot id. */
  readonly boot: Int32Array;
  /** Two words: the network namespace's cookie. */
  readonly network: Int32Array;
  /** That cookie, or its being the host's own, tells it from one that is gone and had the same inode number. */
  readonly isUnmistakable: boolean;
}

/** What this process would write. */
export function originOf(room: Room, directions: number, takesMaps: boolean): Origin {
  const hex = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').replaceAll('-', '');
  const boot = Int32Array.from({ length: 4 }, (_, i) => Number.parseInt(hex.slice(i * 8, i * 8 + 8), 16) | 0);
  const cookie = native().networkCookie();
  const network = new Int32Array(BigUint64Array.of(cookie).buffer);
  return { room, directions, takesMaps, boot, network, isUnmistakable: cookie !== 0n || isHostNetwork() };
}

/**
 * Says in the header what the memory holds, so that another process can tell. The magic is written last.
 * @param map the id of the map with the flows; 0: they are in this memory
 */
export function writeHeader({ header }: Memory, { room, directions, boot, network }: Origin, key: HashKey, map = 0): void {
  header[LAYOUT] = LAYOUT_VERSION;
  header[CAPACITY] = room.capacity;
  header[CONNECTIONS] = room.connections;
  header[DIRECTIONS] = directions;
  header[WORKERS] = room.workers;
  header[MAP] = map;
  header.set(key, KEY);
  header.set(boot, BOOT);
  header.set(network, NETWORK);
  header[MAGIC_WORD] = MAGIC;
}

const INCOMPLETE = 'it is not complete';
export const MAPS_GONE = 'its flows were in maps of the kernel (fast path), which are gone';

/** Why nobody can follow where {@link Origin.isUnmistakable} is false. */
export const UNTOLD = 'this kernel does not tell a network namespace from one that is gone (Linux 5.14 does)';

/**
 * Why who wrote a mapping cannot be followed by who would write `origin`; undefined: it can.
 * @param key by which frames are steered already, if they are
 */
export function obstacleAt(mapping: ArrayBuffer, origin: Origin, key?: HashKey): string | undefined {
  if (mapping.byteLength < HEADER_WORDS * 4) return INCOMPLETE;
  const header = headerOf(mapping);
  const obstacle = obstacleIn(header, origin);
  if (obstacle !== undefined) return obstacle;
  if (mapping.byteLength !== memorySize(asWritten(origin.room, header))) return INCOMPLETE;
  if (mapIn(header) !== 0 && !origin.takesMaps) return 'its flows are in maps of the kernel (fast_path), which io = "pcap" cannot use';
  if (mapIn(header) !== 0 && !isThere(mapIn(header))) return MAPS_GONE;
  if (key?.some((word, i) => header[KEY + i] !== word)) return 'it is another one than when this lb4 began to start';
  return undefined;
}

/** Whoever may not ask may not go on with it either, and is told so by who tries. */
function isThere(map: number): boolean {
  try {
    return isMapPinned('flows', map);
  } catch {
    return true;
  }
}

/** The same by the header alone. */
export function obstacleIn(header: Int32Array, { room, directions, boot, network, isUnmistakable }: Origin): string | undefined {
  const is = (words: Int32Array, at: number) => words.every((word, i) => header[at + i] === word);
  if (header[MAGIC_WORD] !== MAGIC) return INCOMPLETE;
  if (header[LAYOUT] !== LAYOUT_VERSION) return `its layout is version ${header[LAYOUT]}, this lb4 has version ${LAYOUT_VERSION}`;
  if (!is(boot, BOOT)) return 'it is from before this host was started';
  if (!is(network, NETWORK)) return 'it is of a network namespace that is gone';
  if (!isUnmistakable) return UNTOLD;
  if (header[DIRECTIONS] !== directions) return 'it is of the other packet mode';
  if (header[WORKERS] !== room.workers) return `it was written by lb4 with workers = ${header[WORKERS]}, it is ${room.workers} now`;
  if (header[CONNECTIONS] !== room.connections || header[CAPACITY] !== room.capacity)
    return `it has room for ${header[CONNECTIONS] * room.workers} connections, connection_tracker_capacity is ${room.connections * room.workers} now`;
  if (!isSound(header)) return `${header[ATTEMPTS]} starts in a row failed with it, or had a worker that hung`;
  return undefined;
}

/** Flows that are found stay where they are, whatever the configuration asks for. */
export function asWritten(room: Room, header: Int32Array): Room {
  return { ...room, isInKernel: mapIn(header) !== 0 };
}

/** The id of the map with the flows; 0: they are in the memory itself. */
export function mapIn(header: Int32Array): number {
  return header[MAP];
}

/** Throws a RangeError where it is too short. */
export function headerOf(mapping: ArrayBuffer): Int32Array {
  return new Int32Array(mapping, 0, HEADER_WORDS);
}

/** So many processes may have begun to take it up and died of that, or hung by it. */
const MOST_ATTEMPTS = 3;

/** Whether what is there may be taken up: false once that has failed too often. */
export function isSound(header: Int32Array): boolean {
  return header[ATTEMPTS] < MOST_ATTEMPTS;
}

/**
 * Has workers take up `memory` that was found, of which this is one's part: its header knows from when one begins ({@link attempt}) until all
 * have. Resolves to what `begin` does. Whether it goes well by it is seen later.
 * @param begin told how many attempts this one makes
 */
export async function takeUp<T>({ header, counters }: Memory, begin: (attempts: number) => Promise<T>): Promise<T> {
  counters.loads.fill(0);
  const before = header[ATTEMPTS];
  const begun = await begin(before + 1);
  header[ATTEMPTS] = before;
  return begun;
}

/** A worker hangs, by what is in its table perhaps, and may be killed for it; or it does not any more. */
export function suspect({ header }: Memory, isHanging: boolean): void {
  header[ATTEMPTS] = Math.max(0, header[ATTEMPTS] + (isHanging ? 1 : -1));
}

/** In ms: workers that live so long by what was found go well by it. */
export const TRIAL_MS = 120_000;

/** Workers have gone well by it. */
export function trust({ header }: Memory): void {
  header[ATTEMPTS] = 0;
}

/** One worker takes up its part of what is in memory by `take`. Returns what that does. */
export function attempt(header: Int32Array, attempts: number, take: () => number): number {
  Atomics.store(header, ATTEMPTS, attempts);
  return take();
}
