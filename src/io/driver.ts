/**
 * What moves frames. A driver fills the descriptors of layout/frames.ts from its own memory, the pipeline works there
 * in place, and the driver sends what is left: no frame is ever copied between the two.
 */
export interface Driver {
  /** The memory that descriptors' offsets point into. */
  readonly slab: ArrayBuffer;
  /** Waits up to `timeoutMs` (0: not at all) for frames or a wake-up; describes them; returns how many (0 … BATCH). */
  receive(frames: Int32Array, timeoutMs: number): number;
  /** Sends what the last batch's OUT words say and frees its memory. Returns how many frames were taken. */
  transmit(frames: Int32Array, count: number): number;
  /** Frames received and frames lost for want of room, since the last call. */
  statistics(): { received: number; dropped: number };
  close(): void;
}

/** The one over a ring that the kernel fills: it waits in the kernel, and another thread can wake it. */
export interface RingDriver extends Driver {
  /** Which frames the kernel hands up: classic BPF (io/filter.ts). */
  setFilter(filter: Uint32Array): void;
  /** Of one that takes any frame: the interfaces that it stands between, by index (io/native.ts). */
  setPorts(ports: readonly number[]): void;
  /** The socket, for `fanOut`, until it is closed. */
  readonly fd: number;
  /** Another thread writes here (see `wake`) to end a waiting `receive`. */
  readonly wakeFd: number;
}
