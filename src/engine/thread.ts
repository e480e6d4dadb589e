/** The main thread's handle on a packet worker: messages go there, each with a wake-up, and answers come back. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Endings } from '../forward/endings.ts';
import type { Signal } from '../forward/signals.ts';
import type { SynFlood } from '../forward/syn-guard.ts';
import { native } from '../io/native.ts';
import { Answers } from './answers.ts';
import { type FromWorker, type Opened, type Orders, type Ready, type RingData, type ToWorker, TURN, type WorkerData } from './messages.ts';

/** One that has not ended so long after it was asked to hangs. */
const STOP_MS = 5000;
/** And so long after it was ended by force it hangs in the kernel. */
const FORCE_MS = 1000;

export interface ThreadReports {
  /** It died of an error after it had started. */
  readonly failed: (error: Error) => void;
  readonly signals: (signals: readonly Signal[]) => void;
  /** SYNs flood it, or do not any more. */
  readonly flood: (flood: SynFlood) => void;
  /** Connections have ended, and the connection log is on. */
  readonly ended: (endings: Endings) => void;
  /** Something people should know. */
  readonly told: (message: string) => void;
}

/** Whoever forwards packets, as its main thread sees it. */
export interface Forwarder {
  /** Connections of an lb4 that died that go on. */
  readonly recovered: number;
  /** Whether connections to servers leave, or may leave, from that address of ours (native order), by all that has been applied. */
  usesSource(address: number): boolean;
  /** Resolves when it goes by them, or is gone. */
  apply(orders: Orders): Promise<void>;
  /** One for each of its workers: asks whether it lives, and resolves when its loop has answered, or it is gone. */
  readonly pulses: readonly (() => Promise<void>)[];
  /** Nothing happens when it is gone. */
  post(message: ToWorker): void;
  /** The same for one of its workers. */
  postTo(worker: number, message: ToWorker): void;
  /** Whoever waits for one of its workers that hangs waits no longer: lb4 stops. */
  giveUp(): void;
  /** Resolves when it forwards no more, and its memory may be somebody else's. It goes by itself. One that hangs is ended by force. */
  halt(): Promise<void>;
  /** Resolves when it is gone, or will do nothing more whatever becomes of it: one that hangs is ended by force. */
  stop(): Promise<void>;
}

/** A packet worker that has its ring, and waits for its turn. */
export class WaitingThread {
  readonly worker: Worker;
  /** Settled when it is gone, however it went. */
  readonly exited: Promise<void>;
  /** Its ring's socket. */
  fd = -1;
  readonly #turn: Int32Array<SharedArrayBuffer>;

  private constructor({ turn, ...ring }: RingData) {
    this.#turn = new Int32Array(turn);
    this.worker = new Worker(new URL('../engine/worker.js', import.meta.url), {
      workerData: { turn, ...ring },
      name: `lb4-worker-${ring.worker}`,
    });
    this.exited = new Promise<void>((resolve) => void this.worker.once('exit', () => resolve()));
  }

  /** Rejects with the system's error when the ring cannot be opened; then it is gone. */
  static async open(ring: Omit<RingData, 'turn'>): Promise<WaitingThread> {
    const waiting = new WaitingThread({ ...ring, turn: new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT) });
    waiting.fd = ((await waiting.#message()) as Opened).fd;
    return waiting;
  }

  /** Nobody else forwards any more: frames wait in its ring from now on. */
  listen(): void {
    this.#set(TURN.nobodys);
  }

  /**
   * Resolves when it has taken up what was found. Alone, it forwards from then on; with others, it waits for {@link forward}. Rejects with the
   * system's error when it cannot; then it is gone.
   */
  begin(data: WorkerData): Promise<Ready> {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.worker.postMessage(data);
    this.#set(data.room.workers === 1 ? TURN.all : TURN.own);
    return this.#message() as Promise<Ready>;
  }

  forward(): void {
    this.#set(TURN.all);
  }

  async close(): Promise<void> {
    await this.worker.terminate();
  }

  #set(turn: number): void {
    Atomics.store(this.#turn, 0, turn);
    Atomics.notify(this.#turn, 0);
  }

  async #message(): Promise<FromWorker> {
    try {
      const died = this.exited.then(() => Promise.reject(new Error('the worker ended before it was ready')));
      const [message] = (await Promise.race([once(this.worker, 'message'), died])) as [FromWorker];
      return message;
    } catch (error) {
      await this.close();
      throw error;
    }
  }
}

/** The packet worker, from its start to its end. */
export class Thread implements Forwarder {
  readonly recovered: number;
  readonly pulses = [() => this.#pulse()];
  readonly #waiting: WaitingThread;
  readonly #reports: ThreadReports;
  readonly #index: number;
  readonly #answers: Answers;
  /** Settled when it forwards no more. */
  readonly #halted: Promise<void>;
  /** The worker's eventfd; -1 once it is gone. */
  #wakeFd: number;
  #error: Error | undefined;
  #isForwarding = false;
  #isStopping = false;
  /** It owes an answer that nobody waits for any more. */
  #hangs = false;

  private constructor(waiting: WaitingThread, index: number, { wakeFd, recovered }: Ready, reports: ThreadReports) {
    const { worker, exited } = waiting;
    this.recovered = recovered;
    this.#waiting = waiting;
    this.#wakeFd = wakeFd;
    this.#index = index;
    this.#reports = reports;
    this.#answers = new Answers(reports);
    worker.on('error', (error: Error) => this.#lose(error));
    void exited.then(() => this.#lose(this.#isStopping ? undefined : new Error('a packet worker ended, and nobody had asked it to')));
    this.#halted = new Promise((resolve) => {
      worker.on('message', ({ type }: FromWorker) => type === 'stopped' && resolve());
      void exited.then(resolve);
    });
    worker.on('message', this.#answers.take);
  }

  /** Has it take up what was found. Rejects with the system's error when it cannot; then it is gone. */
  static async start(waiting: WaitingThread, data: WorkerData, reports: ThreadReports): Promise<Thread> {
    return new Thread(waiting, data.worker, await waiting.begin(data), reports);
  }

  /** What it has died of; until it forwards, nobody is told otherwise. */
  get error(): Error | undefined {
    return this.#error;
  }

  /** All others are ready, too. */
  forward(): void {
    this.#isForwarding = true;
    this.#waiting.forward();
  }

  usesSource(address: number): boolean {
    return this.#answers.usesSource(address);
  }

  async apply(orders: Orders): Promise<void> {
    if (this.#wakeFd < 0) return;
    const applied = this.#answers.applied();
    this.post({ type: 'settings', ...orders });
    await applied;
  }

  postTo(_worker: number, message: ToWorker): void {
    this.post(message);
  }

  post(message: ToWorker): void {
    if (this.#wakeFd < 0) return;
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#waiting.worker.postMessage(message);
    native().wake(this.#wakeFd);
  }

  giveUp(): void {
    if (this.#answers.giveUp()) this.#hangs = true;
  }

  halt(): Promise<void> {
    return this.#stop(this.#halted);
  }

  stop(): Promise<void> {
    return this.#stop(this.#waiting.exited);
  }

  async #stop(ended: Promise<void>): Promise<void> {
    this.#isStopping = true;
    this.post({ type: 'stop' });
    if (await within(this.#hangs ? 0 : STOP_MS, ended)) return;
    this.#reports.told(`packet worker ${this.#index} does not answer: it is ended by force`);
    // In the kernel it may still be; from there it does not come back to its loop.
    await within(FORCE_MS, this.#waiting.close());
  }

  async #pulse(): Promise<void> {
    if (this.#wakeFd < 0) return;
    const alive = this.#answers.alive();
    this.post({ type: 'ask' });
    await alive;
  }

  /** With the worker goes its eventfd, whose number may soon be somebody else's, and whoever waits for an answer waits in vain. */
  #lose(error: Error | undefined): void {
    this.#wakeFd = -1;
    this.#answers.end();
    if (error === undefined || this.#error !== undefined) return;
    this.#error = error;
    if (this.#isForwarding) this.#reports.failed(error);
  }
}

/** Resolves with whether `end` came within that time. */
async function within(ms: number, end: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  const inTime = await Promise.race([end.then(() => true), late]);
  clearTimeout(timer);
  return inTime;
}
