/**
 * The fast path's programs and maps (native/bpf): loading them, and where they are kept. What they decide by is the flow table and
 * the next hops, which stand in two of the maps.
 */
import { closeSync, readFileSync } from 'node:fs';
import { FailureError } from '../errors.ts';
import { MAX_FRONTENDS } from '../layout/counters.ts';
import { ASKED, COLUMNS, DENIED, FIRST_SYNS, NOTHING } from '../layout/early-drop.ts';
import { ENTRIES } from '../layout/hops.ts';
import { flowEntries, type HashKey, type KernelMaps, type Room, synLines } from '../layout/memory.ts';
import { CLIENT_PORTS } from '../layout/ports.ts';
import { ownFile } from '../own-files.ts';
import { steeringKey } from '../packet/steering.ts';
import { type LoadedFastPath, native } from './native.ts';
import { isMapPinned, openPin, pin, pins, pinsObstacle, preparePins, removePins } from './pins.ts';

/** Where it was compiled to. */
const OBJECT = ownFile('native/bpf/lb4.bpf.o');
/** Maps that the next lb4 goes on with. */
const KEPT = ['flows', 'hops', 'counts'] as const;
/** The filter of the packet socket between interfaces, for the next lb4's socket until that has a program of its own. */
const TAP = 'tap';
/** Places in the map of counts: native/bpf/rewrite.h. */
const FORWARDED = 0;
/** In the map of books: native/bpf/access.h. */
const IN_FORCE = 0;

/** Descriptors, for other threads of this process. */
export interface MapFds {
  readonly flows: number;
  readonly hops: number;
  readonly syns: number;
  readonly drops: number;
  /** Between interfaces: a program, the filter of the packet socket. */
  readonly tap: number;
}

/** The fast path of this network namespace, loaded; it takes packets where it is attached (attachments.ts). */
export class FastPath {
  readonly programs: LoadedFastPath;
  readonly maps: KernelMaps;
  /** The id of the map with the flows: the table's header says it. */
  readonly id: number;

  readonly #isInline: boolean;
  readonly #workers: number;

  private constructor(programs: LoadedFastPath, { isInline = false, workers }: Room) {
    this.programs = programs;
    this.#isInline = isInline;
    this.#workers = workers;
    this.maps = mapAll(programs);
    this.id = native().mapId(programs.flows);
  }

  /** Loads it with new maps, and pins them. Throws an error that says why it cannot be had on this host. */
  static create(room: Room, key: HashKey): FastPath {
    const programs = load(room, key);
    try {
      // What another lb4 has left, only now that there is something in its place.
      removePins();
      preparePins();
      for (const name of KEPT) pin(programs[name], name);
      if (room.isInline) pin(programs.tap, TAP);
      return new FastPath(programs, room);
    } catch (error) {
      closeAll(programs);
      throw error;
    }
  }

  /** The same with the maps that another lb4 has left. Undefined where they are not those of that id. */
  static adopt(room: Room, key: HashKey, id: number): FastPath | undefined {
    const kept = KEPT.map((name) => openPin(name));
    try {
      const [flows, hops, counts] = kept;
      if (flows === undefined || hops === undefined || counts === undefined || native().mapId(flows) !== id) return undefined;
      const programs = load(room, key, { flows, hops, counts });
      try {
        if (room.isInline) pin(programs.tap, TAP);
        return new FastPath(programs, room);
      } catch (error) {
        closeAll(programs);
        throw error;
      }
    } finally {
      for (const fd of kept) if (fd !== undefined) closeSync(fd);
    }
  }

  /** Whether the next lb4 would find it: nobody has taken its pins away. */
  isPinned(): boolean {
    return isMapPinned('flows', this.id);
  }

  /** Names of what it would not find: maps, and the socket's filter. */
  unpinned(): ((typeof KEPT)[number] | typeof TAP)[] {
    const maps = KEPT.filter((name) => !isMapPinned(name, native().mapId(this.programs[name])));
    return this.#isInline && !pins().includes(TAP) ? [...maps, TAP] : maps;
  }

  /** Pins those anew. Throws the system's error. */
  pinAgain(): void {
    preparePins();
    for (const name of this.unpinned()) pin(this.programs[name], name);
  }

  /** Packets that it has taken. */
  get forwarded(): number {
    return native().perCpuSums(this.programs.counts, FORWARDED, 1)[0];
  }

  /** First packets that it has dropped. */
  get dropped(): number {
    const rows = Array.from({ length: this.#workers }, (_, worker) => dropsOfWorker(this.programs.drops, worker));
    return rows.reduce((sum, row) => sum + row[FIRST_SYNS] + row[DENIED], 0);
  }

  /**
   * What it goes by when it drops first packets, from now on at once.
   * @param asked as of layout/early-drop.ts
   * @param book the frontends' lists; undefined: none
   * @throws the system's error; then it drops none
   */
  ask(asked: number, book: Uint32Array | undefined): void {
    // What a program has read before this it may still go by: both are right for a moment.
    const all = new Int32Array(this.maps.syns);
    try {
      if (book !== undefined) putBook(this.programs.books, book);
      all[ASKED] = asked;
    } catch (error) {
      all[ASKED] = NOTHING;
      throw error;
    }
  }

  /** Descriptors are closed; what is pinned stays. */
  close(): void {
    closeAll(this.programs);
  }
}

function closeAll(programs: LoadedFastPath): void {
  for (const fd of Object.values(programs)) closeSync(fd);
}

/** Puts a book in the place of the one that is in force. */
export function putBook(books: number, book: Uint32Array): void {
  const fd = native().createArray(new Uint8Array(book.buffer, book.byteOffset, book.byteLength));
  try {
    native().setElement(books, IN_FORCE, new Uint8Array(Uint32Array.of(fd).buffer));
  } finally {
    closeSync(fd);
  }
}

/** What a worker's row of the drops has come to (layout/early-drop.ts); `drops` is the map. */
export function dropsOfWorker(drops: number, worker: number): number[] {
  return dropsOfFrontend(drops, MAX_FRONTENDS + worker);
}

/** The same of a frontend, by its index: as its refusals begin (layout/counters.ts). */
export function dropsOfFrontend(drops: number, index: number): number[] {
  return native().perCpuSums(drops, index, COLUMNS);
}

/** The descriptor of the filter that another lb4's packet socket between interfaces has, or had; undefined: it had no fast path. */
export function openTap(): number | undefined {
  try {
    return pinsObstacle() === undefined ? openPin(TAP) : undefined;
  } catch {
    return undefined; // until there is another one the socket has what the kernel forwards as well
  }
}

/** Maps that are there. */
export function mapAll({ flows, hops, syns }: Pick<MapFds, 'flows' | 'hops' | 'syns'>): KernelMaps {
  return { flows: native().mapArray(flows), hops: native().mapArray(hops), syns: native().mapArray(syns) };
}

/** Why there is none on this host; undefined: there is. It loads it for a moment. */
export function fastPathObstacle(): string | undefined {
  try {
    const loaded = load({ capacity: 256, connections: 64, workers: 1, isInKernel: true }, [1, 3, 5, 7]);
    closeAll(loaded);
    return pinsObstacle();
  } catch (error) {
    return (error as Error).message;
  }
}

/** @param kept maps to go on with */
export function load(
  { capacity, workers, isInline = false }: Room,
  key: HashKey,
  kept?: Pick<LoadedFastPath, (typeof KEPT)[number]>,
): LoadedFastPath {
  // TypeScript's stores, and the program's loads, come in their order there alone.
  if (hasOwnClock()) throw new FailureError('the fast path goes by the clock of the host, and this time namespace has its own');
  if (process.arch !== 'x64') throw new FailureError(`the fast path is for x86-64 alone, this is ${process.arch}`);
  const { first, last } = CLIENT_PORTS;
  const entries = flowEntries(capacity);
  // `struct settings` of native/bpf/settings.h.
  const settings = Int32Array.of(...key, capacity, entries, workers, steeringKey(key), first, last, Number(isInline));
  return native().loadFastPath(readObject(), {
    flows: entries * workers,
    hops: ENTRIES * workers,
    syns: synLines(workers),
    drops: MAX_FRONTENDS + workers,
    settings: new Uint8Array(settings.buffer),
    ...(kept === undefined ? {} : { flowsFd: kept.flows, hopsFd: kept.hops, countsFd: kept.counts }),
  });
}

/** time_namespaces(7): what the kernel sees would be of another time. */
function hasOwnClock(): boolean {
  try {
    const offsets = /^monotonic\s+(\S+)\s+(\S+)$/m.exec(readFileSync('/proc/self/timens_offsets', 'utf8'));
    return offsets !== null && (offsets[1] !== '0' || offsets[2] !== '0');
  } catch {
    return false; // a kernel without time namespaces
  }
}

function readObject(): Uint8Array {
  try {
    return readFileSync(OBJECT);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new FailureError('this lb4 was built without the fast path (packages clang and libbpf-dev compile it)');
  }
}
