/**
 * What a worker has captured, on its way to the main thread: a ring that one writes and one reads, in memory that both have mapped. The writer never
 * waits: what finds no room is counted, and is lost.
 *
 *     HEAD   bytes written, modulo 2^32, by the worker      | record | record | …          | rest: skipped | record …
 *     TAIL   bytes read, by the main thread                 ^ TAIL             ^ HEAD
 *
 * A record begins with the words below; behind them stand the words of the slab from 16 bytes before the IP header on. None goes over the ring's end.
 */

/** Bytes of a worker's ring, its head included: a power of two and a page. */
const DATA = 4 << 20;
const HEAD_BYTES = 4096;
export const RING_BYTES = HEAD_BYTES + DATA;

/** Words of a record. */
const SIZE = 0;
export const KIND = 1;
/** A double: milliseconds of CLOCK_MONOTONIC. */
const TIME = 2;
export const INTERFACE = 4;
export const HAS_ETHERNET = 5;
export const VERDICT = 6;
/** As in a connection's record; forward/whose.ts has what is less. */
export const OWNER = 7;
/** Bytes from the Ethernet header on, where there is one, that are here, and that there were. */
export const CAPTURED = 8;
export const ORIGINAL = 9;
/** layout/frames.ts: VLAN. */
export const VLAN = 10;
export const WORDS = 12;

export const SKIP = 0;
export const IN = 1;
export const OUT = 2;

/** Words of the ring's head, each in a cache line of its own. */
const HEAD = 0;
const TAIL = 16;
/** Packets that found no room. */
const LOST = 32;
/** Whether the worker has it. */
const TAKEN = 48;

/** Bytes in front of the IP header that a record has, and those of the Ethernet header among them. */
export const BEFORE_IP = 16;
export const ETHERNET = 14;

function viewsOf(memory: ArrayBuffer, worker: number) {
  const at = worker * RING_BYTES;
  return {
    head: new Int32Array(memory, at, HEAD_BYTES >> 2),
    words: new Int32Array(memory, at + HEAD_BYTES, DATA >> 2),
    times: new Float64Array(memory, at + HEAD_BYTES, DATA >> 3),
    bytes: new Uint8Array(memory, at + HEAD_BYTES, DATA),
  };
}

/** A worker's end. */
export class CaptureWriter {
  readonly words: Int32Array;
  readonly #times: Float64Array;
  readonly #head: Int32Array;
  /** As HEAD, records that are not finished included. */
  #written: number;

  /** @param memory RING_BYTES for each worker */
  constructor(memory: ArrayBuffer, worker: number) {
    const { head, words, times } = viewsOf(memory, worker);
    this.#head = head;
    this.words = words;
    this.#times = times;
    // Another process of pcap's may have begun it.
    this.#written = Atomics.load(head, HEAD);
    Atomics.store(head, TAKEN, 1);
  }

  /** Begins a record with room for so many words behind its own: the word where it stands, -1 where there is no room, counted. */
  begin(kind: number, time: number, more: number): number {
    const size = ((WORDS + more + 1) & ~1) << 2;
    const rest = DATA - (this.#written & (DATA - 1));
    const skipped = size > rest ? rest : 0;
    const free = DATA - ((this.#written - Atomics.load(this.#head, TAIL)) >>> 0);
    if (size + skipped > free) {
      this.#head[LOST]++;
      return -1;
    }
    if (skipped > 0) this.#skip(skipped);
    const at = (this.#written & (DATA - 1)) >>> 2;
    this.words[at + SIZE] = size;
    this.words[at + KIND] = kind;
    this.#times[(at + TIME) >>> 1] = time;
    this.#written = (this.#written + size) | 0;
    return at;
  }

  /** All that was begun is finished. */
  publish(): void {
    Atomics.store(this.#head, HEAD, this.#written);
  }

  #skip(bytes: number): void {
    const at = (this.#written & (DATA - 1)) >>> 2;
    this.words[at + SIZE] = bytes;
    this.words[at + KIND] = SKIP;
    this.#written = (this.#written + bytes) | 0;
  }
}

/** A record, as the main thread has it. */
export interface CaptureRecord {
  readonly isOut: boolean;
  /** Milliseconds of CLOCK_MONOTONIC. */
  readonly time: number;
  /** An interface's index, 0 the kernel's routing, -1 several. */
  readonly ifindex: number;
  readonly hasEthernet: boolean;
  /** A number of forward/verdict.ts. */
  readonly verdict: number;
  readonly owner: number;
  readonly bytes: Uint8Array;
  readonly length: number;
  readonly vlan: number;
}

/** The main thread's end. */
export class CaptureReader {
  readonly #head: Int32Array;
  readonly #words: Int32Array;
  readonly #times: Float64Array;
  readonly #bytes: Uint8Array;

  /** @param memory RING_BYTES for each worker */
  constructor(memory: ArrayBuffer, worker: number) {
    const { head, words, times, bytes } = viewsOf(memory, worker);
    this.#head = head;
    this.#words = words;
    this.#times = times;
    this.#bytes = bytes;
  }

  /** The worker has the ring. */
  get isTaken(): boolean {
    return Atomics.load(this.#head, TAKEN) !== 0;
  }

  /** Packets that found no room. */
  get lost(): number {
    return Atomics.load(this.#head, LOST);
  }

  /** Empty, and nobody's: for the next capture, when no worker has it any more. */
  reset(): void {
    for (const word of [HEAD, TAIL, LOST, TAKEN]) Atomics.store(this.#head, word, 0);
  }

  /** When the next record was begun, as {@link CaptureRecord.time}; Infinity: there is none. */
  peek(): number {
    const head = Atomics.load(this.#head, HEAD);
    let tail = Atomics.load(this.#head, TAIL);
    while (tail !== head && this.#words[wordAt(tail) + KIND] === SKIP) tail = this.#pass(tail);
    return tail === head ? Number.POSITIVE_INFINITY : this.#times[(wordAt(tail) + TIME) >>> 1];
  }

  /** Takes the next record out, which {@link peek} has seen. */
  take(): CaptureRecord {
    const tail = Atomics.load(this.#head, TAIL);
    const record = this.#record(wordAt(tail));
    this.#pass(tail);
    return record;
  }

  /** The worker has its room again. Returns where the next one stands. */
  #pass(tail: number): number {
    const next = (tail + this.#words[wordAt(tail) + SIZE]) | 0;
    Atomics.store(this.#head, TAIL, next);
    return next;
  }

  #record(at: number): CaptureRecord {
    const words = this.#words;
    const hasEthernet = words[at + HAS_ETHERNET] !== 0;
    const begin = ((at + WORDS) << 2) + BEFORE_IP - (hasEthernet ? ETHERNET : 0);
    return {
      isOut: words[at + KIND] === OUT,
      time: this.#times[(at + TIME) >>> 1],
      ifindex: words[at + INTERFACE],
      hasEthernet,
      verdict: words[at + VERDICT],
      owner: words[at + OWNER],
      // A copy: the worker may have the room again.
      bytes: this.#bytes.slice(begin, begin + words[at + CAPTURED]),
      length: words[at + ORIGINAL],
      vlan: words[at + VLAN],
    };
  }
}

/**
 * Takes about so many bytes out of all rings together, the oldest record first. What a worker is about to publish may be older yet, by as much as a
 * batch takes it.
 */
export function readOldest(readers: readonly CaptureReader[], most: number): CaptureRecord[] {
  const records: CaptureRecord[] = [];
  for (let taken = 0; taken < most; ) {
    const oldest = oldestOf(readers);
    if (oldest === undefined) break;
    const record = oldest.take();
    records.push(record);
    taken += (WORDS << 2) + record.bytes.length;
  }
  return records;
}

/** The one with the oldest record; undefined: there is none. */
function oldestOf(readers: readonly CaptureReader[]): CaptureReader | undefined {
  let oldest: CaptureReader | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const reader of readers) {
    const time = reader.peek();
    if (time >= least) continue;
    least = time;
    oldest = reader;
  }
  return oldest;
}

function wordAt(place: number): number {
  return (place & (DATA - 1)) >>> 2;
}
