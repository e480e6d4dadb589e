/** The kernel's fast path over a world's memory: frames go in by BPF_PROG_TEST_RUN, no driver has a part in it. */
import { closeSync } from 'node:fs';
import { AccessBook } from '../../src/engine/access-book.ts';
import { hashKey } from '../../src/flow/table.ts';
import { addLink, isClientsAlone } from '../../src/forward/links.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import { dropsOfFrontend, dropsOfWorker, load, mapAll, putBook } from '../../src/io/fast-path.ts';
import { type LoadedFastPath, native } from '../../src/io/native.ts';
import { XdpLinks } from '../../src/io/xdp-links.ts';
import { ASKED } from '../../src/layout/early-drop.ts';
import { CLIENT_LINKS, ENTRIES, HOP, HOPS, INTERFACE, SERVER_HOPS } from '../../src/layout/hops.ts';
import { flowWords, type KernelMaps, type Memory, ownMemory, synsOf } from '../../src/layout/memory.ts';
import { BACK, FRONT, MAC } from './world.ts';

export type Program = 'tc' | 'xdp';

/** As a program answers when the frame is on its way: TC_ACT_REDIRECT; XDP_TX, XDP_REDIRECT. */
const GONE: Record<Program, readonly number[]> = { tc: [7], xdp: [3, 4] };
/** And when it is to go nowhere: TC_ACT_SHOT; XDP_DROP. */
const SHOT: Record<Program, number> = { tc: 2, xdp: 1 };
/** What {@link KernelPath.take} returns then. */
export const DROPPED = new Uint8Array();
const MAC_BYTES = 6;
/** A test run of a socket's filter shows it what is behind the link header; to a packet socket it shows that, too. */
const ETHERNET = new Uint8Array(14);

export interface KernelPathOptions {
  readonly program: Program;
  /** Homes of each worker. */
  readonly capacity: number;
  /** One when left out. */
  readonly workers?: number;
  readonly key: Uint32Array;
  /** Interfaces by which frames may come in, by the MAC that they are addressed to. */
  readonly interfaces: ReadonlyMap<string, number>;
  /** It stands between them. */
  readonly isInline?: boolean;
}

export class KernelPath {
  /** All workers'. */
  readonly maps: KernelMaps;
  /** For a world, the first worker's: what it decides stands in the maps. */
  readonly memory: Memory;
  readonly #loaded: LoadedFastPath;
  readonly #program: Program;
  readonly #interfaces: ReadonlyMap<string, number>;
  readonly #isInline: boolean;
  readonly #book = new AccessBook({
    ask: (asked, book) => {
      if (book !== undefined) putBook(this.#loaded.books, book);
      new Int32Array(this.maps.syns)[ASKED] = asked;
    },
  });

  /** Throws where this kernel, or this build, has no fast path. */
  constructor({ program, capacity, key, interfaces, workers = 1, isInline = false }: KernelPathOptions) {
    const connections = capacity / 4;
    this.#loaded = load({ capacity, connections, workers, isInKernel: true, isInline }, hashKey(key));
    this.#program = program;
    this.#interfaces = interfaces;
    this.#isInline = isInline;
    this.maps = mapAll(this.#loaded);
    const flows = new Int32Array(this.maps.flows, 0, flowWords(capacity));
    this.memory = {
      ...ownMemory({ capacity, connections }),
      flows,
      hops: new Int32Array(this.maps.hops, 0, ENTRIES * HOP),
      syns: synsOf(this.maps, 0),
    };
    // Where a world's hops lead: XDP asks whether it stands there.
    const links = new XdpLinks(this.#loaded.links);
    for (const index of [FRONT, BACK]) links.set({ index, mac: new Uint8Array(MAC_BYTES), kind: '' }, true);
    for (const [mac, index] of interfaces)
      links.set(
        { index, mac: Uint8Array.from(mac.split(':'), (byte) => Number.parseInt(byte, 16)), kind: '' },
        true,
        true,
        mac === MAC.front,
      );
  }

  /** Has it drop first packets by these frontends' lists, and by the worlds' SYN guards. */
  ask({ frontends }: ServiceSet): void {
    this.#book.apply(frontends);
  }

  /** What it has dropped for a worker, and by the rules of a frontend (layout/early-drop.ts). */
  drops(worker: number, frontend: number): { readonly worker: number[]; readonly rules: number[] } {
    const { drops } = this.#loaded;
    return { worker: dropsOfWorker(drops, worker), rules: dropsOfFrontend(drops, frontend) };
  }

  /**
   * The frame as it left, {@link DROPPED}; undefined: it went up, unchanged (otherwise this throws).
   * @param gsoSize of a super-packet, which XDP is not told of; 0: it is none. All has to fit a page, less what the kernel needs of it
   */
  take(frame: Uint8Array, gsoSize = 0): Uint8Array | undefined {
    const mac = macOf(frame);
    const index = this.#interfaces.get(mac) ?? this.#interfaces.values().next().value!;
    const { verdict, frame: out } = native().testRun(this.#loaded[this.#program], frame, index, gsoSize, 1);
    const isDropped = verdict === SHOT[this.#program];
    const isTaken = isDropped || GONE[this.#program].includes(verdict);
    // What tc takes, and nothing else, the packet socket is not to have.
    if (this.#isInline && this.#program === 'tc') {
      const isTapped = native().testRun(this.#loaded.tap, Buffer.concat([ETHERNET, frame]), index, gsoSize, 1).verdict !== 0;
      if (isTapped === isTaken) throw new Error(isTaken ? 'taken, and passed up as well' : 'neither taken nor passed up');
    }
    if (isTaken) return isDropped ? DROPPED : out;
    if (Buffer.compare(out, frame) !== 0) throw new Error(`changed, and passed up with ${verdict}`);
    return undefined;
  }

  /** Whether {@link take} has a frame come by the servers' interface. */
  arrivesAtBack(frame: Uint8Array): boolean {
    return this.#interfaces.has(MAC.back) && macOf(frame) === MAC.back;
  }

  /** Nanoseconds of one run with that frame. */
  duration(frame: Uint8Array): number {
    return native().testRun(this.#loaded[this.#program], frame, this.#interfaces.values().next().value!, 0, 1).duration;
  }

  /** Its maps, for another thread. */
  get fds(): Parameters<typeof mapAll>[0] {
    const { flows, hops, syns } = this.#loaded;
    return { flows, hops, syns };
  }

  close(): void {
    for (const fd of Object.values(this.#loaded)) closeSync(fd);
  }
}

/** What a world has learnt at its own interface of clients is of the namespace's one, `index`, by which the program sees their frames come. */
export function moveFront(hops: Int32Array, index: number): void {
  for (let hop = SERVER_HOPS; hop < HOPS; hop++) if (hops[hop * HOP + INTERFACE] === FRONT) hops[hop * HOP + INTERFACE] = index;
  if (!isClientsAlone(hops, FRONT) && !isClientsAlone(hops, index)) return;
  for (const link of [FRONT, index]) addLink(hops, CLIENT_LINKS, link);
}

function macOf(frame: Uint8Array): string {
  return Array.from(frame.subarray(0, MAC_BYTES), (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
