/**
 * Hears answers to packets that this process has sent past the kernel's own connections, for all that wait for one. By a packet socket: no firewall of
 * this host is in front of it, and to conntrack an answer to what went by a tunnel is nobody's. Packets go in turn: answers that come together must find
 * room in the ring.
 */
import * as D from '../layout/frames.ts';
import * as F from '../packet/fields.ts';
import type { Driver } from './driver.ts';
import { openPacketSocket } from './packet-socket.ts';

/** Frames between two looks: the least that a ring has (native/packet_socket.cc). */
const SLOTS = 32;
/** Rings full that a look takes: who floods us with answers does not hold the thread. */
const ROUNDS = 4;
/** So many packets are on their way at a time; the slots left are for answers that come late. */
const ON_THE_WAY = 24;
/** Milliseconds in which an answer has its slot to itself: who says nothing keeps others waiting no longer. */
const EXPECTED = 10;
/** Milliseconds between two looks at most; the first come sooner. */
const PAUSE = 8;
/** Milliseconds for which the socket outlives the last who waits: its ring is 4 MB, and the next check comes soon. */
const LINGER = 10_000;

export interface Answer<T> {
  readonly key: string;
  readonly says: T;
}

/** What a packet says whose IP header stands at that byte of the slab; undefined: it is no answer. */
export type ReadAnswer<T> = (slab: F.Slab, at: number) => Answer<T> | undefined;

export class Answers<T> {
  readonly #filter: Uint32Array;
  readonly #read: ReadAnswer<T>;
  readonly #waiting = new Map<string, (says: T) => void>();
  readonly #frames = new Int32Array(D.HEADER + SLOTS * D.STRIDE);
  /** Who sends next, by the answer's key. */
  readonly #line = new Map<string, () => void>();
  /** Until when (performance.now()) an answer has its slot; the oldest first. */
  readonly #expected = new Map<string, number>();
  #driver: Driver | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pause = 1;
  /** When the next look is (performance.now()). */
  #due = Number.POSITIVE_INFINITY;
  #lost = 0;

  /** @param filter lets up what may be an answer (io/bpf.ts) */
  constructor(filter: Uint32Array, read: ReadAnswer<T>) {
    this.#filter = filter;
    this.#read = read;
  }

  /** Resolves when an answer with that key has come. Throws the system's error where there is no socket. */
  hear(key: string): Promise<T> {
    this.#driver ??= openPacketSocket(SLOTS, this.#filter);
    this.look();
    const heard = new Promise<T>((resolve) => void this.#waiting.set(key, resolve));
    this.#appoint(this.#pause);
    return heard;
  }

  /**
   * Has `send` send a packet that is answered with that key when it is its turn, at once or soon: 24 go in 10 ms or less, however many are answered. Not if it
   * is forgotten by then.
   */
  send(key: string, send: () => void): void {
    this.#line.set(key, send);
    this.#serve();
  }

  /** Tells those who wait what has come so far. */
  look(): void {
    const driver = this.#driver;
    if (driver === undefined) return;
    const slab = F.slabOf(driver.slab);
    for (let round = 0; round < ROUNDS; round++) {
      const count = driver.receive(this.#frames, 0);
      for (let i = 0; i < count; i++) this.#tell(this.#read(slab, this.#frames[D.HEADER + i * D.STRIDE + D.OFFSET]));
      driver.transmit(this.#frames, count);
      if (count < SLOTS) break;
    }
    const now = performance.now();
    for (const [key, until] of this.#expected) if (until <= now) this.#expected.delete(key);
  }

  /** Frames so far that found no room: whose answers they were nobody knows. */
  lost(): number {
    this.#lost += this.#driver?.statistics().dropped ?? 0;
    return this.#lost;
  }

  forget(key: string): void {
    this.#waiting.delete(key);
    this.#line.delete(key);
    if (this.#waiting.size > 0) return;
    clearTimeout(this.#timer);
    this.#due = Number.POSITIVE_INFINITY;
    this.#timer = setTimeout(() => this.#close(), LINGER).unref();
  }

  #tell(answer: Answer<T> | undefined): void {
    if (answer === undefined) return;
    this.#expected.delete(answer.key);
    this.#waiting.get(answer.key)?.(answer.says);
  }

  #serve(): void {
    for (const [key, send] of this.#line) {
      if (!this.#hasRoom()) break;
      this.#line.delete(key);
      this.#expected.delete(key);
      this.#expected.set(key, performance.now() + EXPECTED);
      send();
      this.#pause = 1;
    }
    this.#appoint(this.#line.size > 0 ? 1 : this.#pause);
  }

  /** Some are answered while others are sent. */
  #hasRoom(): boolean {
    if (this.#expected.size >= ON_THE_WAY) this.look();
    return this.#expected.size < ON_THE_WAY;
  }

  /** No look that is due is put off. */
  #appoint(pause: number): void {
    const due = performance.now() + pause;
    if (this.#waiting.size === 0 || due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#lookAgain(), pause);
  }

  #lookAgain(): void {
    this.#due = Number.POSITIVE_INFINITY;
    this.look();
    this.#pause = Math.min(PAUSE, 2 * this.#pause);
    this.#serve();
  }

  #close(): void {
    this.#driver?.close();
    this.#driver = undefined;
  }
}
