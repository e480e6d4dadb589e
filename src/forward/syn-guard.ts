/**
 * A SYN from an address that nobody has costs a server chosen, a port, two flows and a frame, and no connection comes of it. While there is a flood of
 * them, a SYN is taken in when it comes the second time: a TCP that waits for an answer sends it again a second later (RFC 6298 section 2.1) with
 * the same number, and whoever makes addresses up does not remember them. So clients wait for a second, and what comes once costs a look
 * at one cache line (syn-sketch.ts).
 *
 *     of all           many half-open connections, and most SYNs lead to none
 *     of a frontend    its limit is full of handshakes that nobody completes (filled-limits.ts): of its SYNs alone
 *
 * Who sends each SYN twice, a second apart, gets as far as without all this: to the bounds of half-open connections.
 *
 * With a fast path the kernel's programs go by the same sketch while there is a flood of all (native/bpf/syn_guard.h): what comes once is dropped before it
 * costs a frame in the ring. Of a frontend's alone all come up.
 */
import { LINE_WORDS, MARKS, WORKER_LINES } from '../layout/early-drop.ts';
import type { HashKey } from '../layout/memory.ts';
import type { FilledLimits } from './filled-limits.ts';
import { SynSketch } from './syn-sketch.ts';

/** Time between two looks whether there is a flood, longer than most handshakes; and how long one must be over. */
const LOOK_MS = 250;
const CALM_MS = 5000;

/** One begins, or is over. */
export interface SynFlood {
  readonly isOn: boolean;
  /** Of a frontend's limit alone, by its index; undefined: of all. */
  readonly frontend?: number | undefined;
  /** Where one of all begins: connections that are half-open here, and the index of the frontend that has the most of them. */
  readonly halfOpen?: number | undefined;
  readonly most?: number | undefined;
}

export interface SynGuardOptions {
  /** From so many half-open connections on there may be a flood; 0: there never is. */
  readonly from: number;
  readonly key: HashKey;
  readonly filled: FilledLimits;
  /** WORKER_LINES lines (layout/early-drop.ts), zeroed, where the kernel goes by them as well; memory of its own when left out. */
  readonly memory?: Int32Array | undefined;
}

/** Tells floods of SYNs, and which SYNs are taken in meanwhile. */
export class SynGuard {
  readonly #from: number;
  readonly #sketch: SynSketch;
  /** What the kernel is told. */
  readonly #told: Int32Array;
  readonly #filled: FilledLimits;
  /** SYNs of all frontends must come twice. */
  #isFlooded = false;
  #wasOn = false;
  /** When its last look was, and when there was a reason last to go on. */
  #looked = 0;
  #calmSince = 0;
  /** SYNs since the last look, those of them that had come before, and connections that were established by then. */
  #asked = 0;
  #proven = 0;
  #completed = 0;

  constructor({ from, key, filled, memory = new Int32Array(WORKER_LINES * LINE_WORDS) }: SynGuardOptions) {
    this.#from = from;
    this.#told = memory;
    this.#sketch = new SynSketch(key, memory.subarray(LINE_WORDS));
    this.#filled = filled;
  }

  /** Whether those of all frontends must come twice. */
  get isFlooded(): boolean {
    return this.#isFlooded;
  }

  /** Whether SYNs must come twice, those of one frontend at least. */
  get isOn(): boolean {
    return this.#isFlooded || this.#filled.isAny;
  }

  /** Whether those of a frontend, by its index, must: there is a flood of all, or its limit is filled. */
  isFloodedAt(frontend: number): boolean {
    return this.#isFlooded || this.#filled.isFilled(frontend);
  }

  /**
   * Whether a SYN to a frontend, by its index, is taken in: there is no flood, or it has come before. `sequence` as in the packet, likewise the others. Of a
   * client that has no connection yet.
   */
  takes(frontend: number, source: number, destination: number, ports: number, sequence: number): boolean {
    this.#asked++;
    this.#filled.ask(frontend);
    if (!this.isFloodedAt(frontend)) return true;
    const isProven = this.#sketch.see(source, destination, ports, sequence);
    if (!isProven) return false;
    this.#proven++;
    this.#filled.prove(frontend);
    return true;
  }

  /** SYNs that the kernel has dropped, since they had not come before: such as have not come here. Of which frontends it does not say. */
  missed(count: number): void {
    this.#asked += count;
  }

  /** One that was taken in has opened a connection. */
  opened(frontend: number): void {
    this.#filled.open(frontend);
  }

  /** One that was taken in found its frontend, or all servers, full. `now` in milliseconds modulo 2^32. */
  refused(frontend: number, now: number): void {
    if (this.#from !== 0) this.#filled.refuse(frontend, now);
  }

  /**
   * Looks whether there is a flood, now and then; at each tick.
   * @param halfOpen how many connections are by now
   * @param completed how many have been established since the start
   * @param now in milliseconds modulo 2^32
   */
  tick(halfOpen: number, completed: number, now: number): void {
    if (this.#from === 0) return;
    this.#filled.tick(now, this.#isFlooded);
    if ((now - this.#looked) >>> 0 >= LOOK_MS) this.#look(halfOpen, completed, now);
    if (this.#wasOn) this.#sketch.age(now);
    else if (this.isOn) this.#sketch.begin(now);
    this.#wasOn = this.isOn;
    this.#told[MARKS] = this.#isFlooded ? this.#sketch.marks : 0;
  }

  #look(halfOpen: number, completed: number, now: number): void {
    const elapsed = (now - this.#looked) >>> 0;
    // Where most that ask are connected, there are many of them, and it is no flood; nor once most come again.
    const unanswered = this.#asked - 2 * (completed - this.#completed);
    // And a trickle that adds up, since a server does not answer say, costs others nothing: nobody is delayed for it.
    const isFlood = halfOpen >= this.#from && unanswered * 2000 > this.#from * elapsed;
    const isGoingOn = (this.#asked - 2 * this.#proven) * 2000 > this.#from * elapsed || halfOpen > this.#from / 2;
    this.#looked = now;
    this.#asked = 0;
    this.#proven = 0;
    this.#completed = completed;
    if (this.#isFlooded) this.#goOn(isGoingOn, now);
    else if (isFlood) {
      this.#isFlooded = true;
      this.#calmSince = now;
    }
  }

  #goOn(isGoingOn: boolean, now: number): void {
    if (isGoingOn) this.#calmSince = now;
    else if ((now - this.#calmSince) >>> 0 >= CALM_MS) this.#isFlooded = false;
  }
}
