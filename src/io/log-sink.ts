/**
 * Where a running lb4's log goes. The log may end or stop nothing: its disk may be full, its terminal gone, its pipe read by nobody.
 * What waits is bounded, lines for which there is no room are lost and counted, and as soon as lines are written again one
 * of them says how many were lost.
 *
 * Not pino's own destination (sonic-boom): synchronous, it throws what write(2) fails with (ENOSPC, EPIPE, EIO) at whoever logs,
 * spins on EAGAIN, and waits in a pipe that nobody reads; asynchronous, it keeps such a write in one of libuv's four threads
 * for ever, which process.exit() then waits for.
 */
import { type LogWriter, native } from './native.ts';

/** Bytes that may wait, some 8,000 lines. */
const CAPACITY = 2 ** 20;
/** How often the sink looks whether lines were lost, or are written again. */
const LOOK_MS = 500;

export class LogSink {
  readonly #writer: LogWriter;
  readonly #capacity: number;
  readonly #timer: NodeJS.Timeout;
  #announce: (lost: number) => void = () => {};
  #isNotice = false;
  /** Lost lines that a notice told of that was written. */
  #told = 0;
  /** What `#told` becomes when the notice under way is written. */
  #telling: number | undefined;
  #notices = 0;

  /**
   * @param fd stays as it is, and is never waited for
   * @param capacity bytes that may wait
   * @throws the system's error where there is no descriptor or thread for it
   */
  constructor(fd: number, capacity = CAPACITY) {
    this.#capacity = capacity;
    this.#writer = new (native().LogWriter)(fd, capacity);
    // The log alone keeps no process alive.
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** Never waits, never throws for what becomes of the line. */
  write(line: string): void {
    this.#writer.write(line, this.#isNotice);
  }

  /** Lines lost so far. */
  get lost(): number {
    return this.#writer.counters().lost;
  }

  /** `announce` is called to log how many lines were lost since it was last told; until that line is written, again and again. */
  onLoss(announce: (lost: number) => void): void {
    this.#announce = announce;
  }

  /** Gives what waits so long to be written; blocks. For the very end. */
  close(timeoutMs: number): void {
    clearInterval(this.#timer);
    this.#look();
    this.#writer.drain(timeoutMs);
  }

  /** Nothing else might be logged for hours: the notice itself tries whether lines are written again. */
  #look(): void {
    const { pending, lost, notices } = this.#writer.counters();
    if (notices > this.#notices) this.#told = this.#telling ?? this.#told;
    if (notices > this.#notices || pending === 0) this.#telling = undefined;
    this.#notices = notices;
    // Not behind a full queue: the line would be outdated when it is read.
    if (lost === this.#told || this.#telling !== undefined || pending > this.#capacity / 2) return;
    this.#telling = lost;
    this.#isNotice = true;
    this.#announce(lost - this.#told);
    this.#isNotice = false;
  }
}
