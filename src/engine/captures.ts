/** The main thread's handle on a capture: has the workers copy what is wanted to rings, and reads them. */
import { hrtime } from 'node:process';
import { verdictNames } from '../forward/verdict.ts';
import { NO_OWNER } from '../forward/whose.ts';
import { interfacesNow } from '../io/interfaces.ts';
import { native } from '../io/native.ts';
import type { Memory } from '../layout/memory.ts';
import { CaptureReader, type CaptureRecord, RING_BYTES, readOldest } from './capture-ring.ts';
import { ordersOf } from './flow-end.ts';
import { type FlowPlace, placesOf } from './flow-list.ts';
import type { FlowQuery } from './flow-query.ts';
import type { CaptureOrder } from './messages.ts';
import type { Forwarder } from './thread.ts';

/** A packet, as it came in or as it went out. */
export interface CapturedFrame {
  readonly isOut: boolean;
  /** Milliseconds since 1970. */
  readonly time: number;
  /** An interface's name; "kernel": handed to its routing; "several". */
  readonly by: string;
  readonly hasEthernet: boolean;
  /** Of forward/verdict.ts. */
  readonly verdict: string;
  /** Indexes; -1 where there is none, or nobody knows. */
  readonly frontend: number;
  readonly server: number;
  readonly bytes: Uint8Array;
  /** What there was of it. */
  readonly length: number;
}

/** The rings of all workers, made for the first capture and kept for the next: whoever has mapped them cannot give that back (capture.ts). */
export class CaptureRings {
  #memory: { readonly fd: number; readonly buffer: ArrayBuffer } | undefined;

  /** @throws the system's error where there is no memory for them */
  open(workers: number): { readonly fd: number; readonly buffer: ArrayBuffer } {
    this.#memory ??= native().createSharedMemory('lb4 capture', RING_BYTES * workers);
    return this.#memory;
  }

  /** No worker maps them any more. */
  close(): void {
    if (this.#memory !== undefined) native().closeFd(this.#memory.fd);
    this.#memory = undefined;
  }
}

export interface CaptureRunParts {
  readonly rings: CaptureRings;
  readonly memories: readonly Memory[];
  readonly crew: Forwarder;
  readonly query: FlowQuery;
  /** Bytes of a packet that are kept at most: 96–65,535. */
  readonly snaplen: number;
  /** The kernel forwards, too. */
  readonly hasFastPath: boolean;
}

/** Flows that are taken back at once at most. */
const MOST_TAKEN = 65_536;
/** So many bits of its address a client must be told by for its flows to be taken back: 256 addresses. */
const NARROW = 0x00ffffff;
const NO_SERVER = 0xffff;

export class CaptureRun {
  readonly #parts: CaptureRunParts;
  readonly #readers: readonly CaptureReader[];
  readonly #fd: number;
  /** What CLOCK_MONOTONIC lacks to be the time of day, in milliseconds. */
  readonly #epoch = epoch();
  #names = new Map<number, string>();

  private constructor(parts: CaptureRunParts) {
    const { fd, buffer } = parts.rings.open(parts.memories.length);
    this.#parts = parts;
    this.#fd = fd;
    this.#readers = parts.memories.map((_, worker) => new CaptureReader(buffer, worker));
    for (const reader of this.#readers) reader.reset();
  }

  /** When no other one runs. Resolves when all workers capture. Rejects with the system's error where there is no memory for it; then none does. */
  static async start(parts: CaptureRunParts): Promise<CaptureRun> {
    const run = new CaptureRun(parts);
    run.follow(parts.query);
    await run.#heard();
    if (run.#readers.some(({ isTaken }) => !isTaken)) {
      await run.close();
      throw new Error('a worker could not map its ring: is there memory?');
    }
    if (run.takesBack) await run.#takeBack();
    return run;
  }

  /** Whether the kernel's fast path leaves what is captured to the workers: where the filter names a client or a few. */
  get takesBack(): boolean {
    const { hasFastPath, query } = this.#parts;
    return hasFastPath && query.client !== undefined && (query.client.mask & NARROW) === NARROW;
  }

  /** Packets that found a ring full. */
  get lost(): number {
    return this.#readers.reduce((sum, { lost }) => sum + lost, 0);
  }

  /** The same filter, which means others by now. */
  follow(query: FlowQuery): void {
    const order: CaptureOrder = { fd: this.#fd, pid: process.pid, query, snaplen: this.#parts.snaplen, takesBack: this.takesBack };
    this.#parts.crew.post({ type: 'capture', order });
  }

  /** What has come since the last time, the oldest first, about so many bytes of all workers'. */
  read(most: number): CapturedFrame[] {
    return readOldest(this.#readers, most).map((record) => this.#frame(record));
  }

  /** Ends it. Resolves when no worker captures any more. */
  async close(): Promise<void> {
    this.#parts.crew.post({ type: 'capture', order: undefined });
    await this.#heard();
  }

  /** The rings are emptied for the next capture: none may write there any more by then. */
  async #heard(): Promise<void> {
    await Promise.all(this.#parts.crew.pulses.map((pulse) => pulse()));
  }

  async #takeBack(): Promise<void> {
    const { memories, crew, query } = this.#parts;
    const places: FlowPlace[] = [];
    for await (const place of placesOf(memories, query)) if (places.push(place) === MOST_TAKEN) break;
    memories.forEach((_, worker) => {
      const own = places.filter((place) => place.worker === worker);
      if (own.length > 0) crew.postTo(worker, { type: 'takeBack', records: ordersOf(own) });
    });
    await this.#heard();
  }

  #frame({ owner, time, ifindex, verdict, bytes, length, vlan, ...record }: CaptureRecord): CapturedFrame {
    const server = owner & 0xffff;
    const tagged = vlan === 0 || !record.hasEthernet ? { bytes, length } : { bytes: withTag(bytes, vlan), length: length + 4 };
    return {
      ...record,
      ...tagged,
      time: time + this.#epoch,
      by: this.#nameOf(ifindex),
      verdict: verdictNames[verdict] ?? '',
      frontend: owner === NO_OWNER ? -1 : owner >>> 16,
      server: server === NO_SERVER ? -1 : server,
    };
  }

  #nameOf(ifindex: number): string {
    if (ifindex <= 0) return ifindex === 0 ? 'kernel' : 'several';
    const known = this.#names.get(ifindex);
    if (known !== undefined) return known;
    this.#names = new Map(interfacesNow().map(({ index, name }) => [index, name]));
    // One that has gone meanwhile.
    if (!this.#names.has(ifindex)) this.#names.set(ifindex, `#${ifindex}`);
    return this.#names.get(ifindex) ?? '';
  }
}

/** The time of day is told in whole milliseconds, and a millisecond begins when it changes. */
function epoch(): number {
  const before = Date.now();
  let now = before;
  while (now === before) now = Date.now();
  const [seconds, nanoseconds] = hrtime();
  return now - (seconds * 1000 + nanoseconds / 1e6);
}

/** With the VLAN tag that the kernel has taken off (IEEE 802.1Q), as frames.ts has it. */
function withTag(bytes: Uint8Array, vlan: number): Uint8Array {
  const [type, control] = [vlan >>> 16, vlan & 0xffff];
  return Uint8Array.of(...bytes.subarray(0, 12), type >>> 8, type & 0xff, control >>> 8, control & 0xff, ...bytes.subarray(12));
}
