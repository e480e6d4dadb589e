/**
 * Hears answers to packets that this process has sent past the kernel's own connections, for all that wait for one. By a packet socket: no firewall of
 * this host is in front of it, and to conntrack an answer to what went by a tunnel is nobody's. It stands while one is waited for.
 */
import * as D from '../layout/frames.ts';
import * as F from '../packet/fields.ts';
import type { Driver } from './driver.ts';
import { openPacketSocket } from './packet-socket.ts';

/** Frames between two looks: what is lost is asked for again. */
const SLOTS = 16;
/** Milliseconds between two looks at most; the first come sooner. */
const PAUSE = 16;

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
  #driver: Driver | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pause = 1;

  /** @param filter lets up what may be an answer (io/bpf.ts) */
  constructor(filter: Uint32Array, read: ReadAnswer<T>) {
    this.#filter = filter;
    this.#read = read;
  }

  /** Resolves when an answer with that key has come. Throws the system's error where there is no socket. */
  hear(key: string): Promise<T> {
    this.#driver ??= openPacketSocket(SLOTS, this.#filter);
    this.#pause = 1;
    this.#appoint();
    return new Promise((resolve) => void this.#waiting.set(key, resolve));
  }

  forget(key: string): void {
    this.#waiting.delete(key);
    if (this.#waiting.size > 0) return;
    clearTimeout(this.#timer);
    this.#driver?.close();
    this.#driver = undefined;
  }

  #appoint(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), this.#pause);
    this.#pause = Math.min(PAUSE, 2 * this.#pause);
  }

  #look(): void {
    const driver = this.#driver;
    if (driver === undefined) return;
    const slab = F.slabOf(driver.slab);
    let count: number;
    do {
      count = driver.receive(this.#frames, 0);
      for (let i = 0; i < count; i++) {
        const answer = this.#read(slab, this.#frames[D.HEADER + i * D.STRIDE + D.OFFSET]);
        if (answer !== undefined) this.#waiting.get(answer.key)?.(answer.says);
      }
      driver.transmit(this.#frames, count);
    } while (count === SLOTS);
    this.#appoint();
  }
}
